"""Damage to bytes, as disks, networks and people do it. The same seed does the same damage."""

from __future__ import annotations

import random
from collections.abc import Sequence

_EXTREMES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x00\x01")
_HEADER_BYTES = 2_048


def mutated(data: bytes, seed: int, others: Sequence[bytes] = ()) -> bytes:
    """A damaged copy.

    Args:
        data: what is damaged; not empty.
        seed: decides what happens.
        others: whose pieces may get into it.
    """
    chance = random.Random(seed)
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        _mutate(result, chance, others)
    return bytes(result)


def _mutate(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    if not data:
        return
    # Half of the damage goes where containers keep their tables.
    end = len(data) if chance.random() < 0.5 else min(len(data), _HEADER_BYTES)
    at = chance.randrange(end)
    length = min(chance.choice((1, 2, 4, 16, 200, 2_000)), len(data) - at)
    kind = chance.randrange(9)
    if kind == 0:
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[at : at + length] = chance.randbytes(length)
    elif kind == 2:
        data[at : at + 4] = chance.choice(_EXTREMES)
    elif kind == 3:
        del data[at : at + length]
    elif kind == 4:
        del data[at:]
    elif kind == 5:
        data[at:at] = data[at : at + length] * chance.randint(1, 8)
    elif kind == 6:
        data[at:at] = chance.randbytes(length)
    elif kind == 7:
        other = chance.randrange(len(data))
        data[at : at + length], data[other : other + length] = data[other : other + length], data[at : at + length]
    elif others:
        other = chance.choice(others)
        start = chance.randrange(max(len(other), 1))
        data[at : at + length] = other[start : start + length]
