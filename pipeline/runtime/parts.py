"""Results of batches, split by scorer and gathered again: a call costs its scorer more than the frames in it do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from pipeline.runtime.slices import ScorerSlices

_LONGEST_S = 0.05  # longer than a batch mostly takes, and not long beside it

_Item = TypeVar("_Item")


class GatheredParts(Generic[_Item]):
    """Of every batch, each scorer's part; small ones wait for the next batches while there are any. Time is passed in.

    So calls hold about as many results as batches do, however many scorers there are, as long as detectors are busy.
    Where no frame waits for a detector, no result waits either.

    Args:
        slices: who scores which camera.
        camera_id: which camera one is about.
    """

    def __init__(self, slices: ScorerSlices, camera_id: Callable[[_Item], str]) -> None:
        self._slices, self._camera_id = slices, camera_id
        self._waiting: dict[str, tuple[float, list[_Item]]] = {}  # since when, monotonic

    def add(self, batch: list[_Item], now: float, has_more: Callable[[], bool]) -> list[tuple[str, list[_Item]]]:
        """Take in a batch's results.

        Args:
            batch: in order; may be empty.
            now: monotonic seconds.
            has_more: whether another batch follows at once.

        Returns:
            What is to be sent now, to which scorer; of each scorer in the order in which it came.
        """
        for scorer, part in self._slices.split(batch, self._camera_id).items():
            self._waiting.setdefault(scorer, (now, []))[1].extend(part)
        small = [name for name, (_, part) in self._waiting.items() if len(part) < len(batch)]
        if small and has_more():
            return self._take(
                name for name, (since, _) in self._waiting.items() if name not in small or now - since >= _LONGEST_S
            )
        return self._take(self._waiting)

    def _take(self, scorers: Iterable[str]) -> list[tuple[str, list[_Item]]]:
        return [(name, self._waiting.pop(name)[1]) for name in list(scorers)]
