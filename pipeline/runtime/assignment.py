"""Cameras in camera processes: what is known of these, what is kept of that, and how the first ones are dealt out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.runtime.pool import SavedPool


@dataclass(frozen=True, slots=True)
class PlacedProcess:
    """What is known of a camera process.

    Attributes:
        answers: whether it lives and has reported.
        died_at: when it was found dead, in monotonic seconds; None while it is not known to be.
        follows: whether it follows what it was told last.
        reading: cameras that it has not released.
        node: id of its node; empty where that is not known.
    """

    answers: bool = False
    died_at: float | None = None
    follows: bool = False
    reading: frozenset[str] = frozenset()
    node: str = ""


@dataclass(frozen=True, slots=True)
class SavedPlacement:
    """Where cameras are read.

    Attributes:
        homes: camera process to the id of its node; empty is any node.
        placed: camera to the process that reads it, or has yet to release it.
        moving: camera to the process that it goes to, once it was released.
        processes_so_far: how many camera processes there have been.
    """

    homes: Mapping[str, str] = field(default_factory=dict[str, str])
    placed: Mapping[str, str] = field(default_factory=dict[str, str])
    moving: Mapping[str, str] = field(default_factory=dict[str, str])
    processes_so_far: int = 0


@dataclass(frozen=True, slots=True)
class SavedAssignments:
    """Who reads what and who takes from whom.

    Attributes:
        placement: who reads what, where.
        pool: who takes from whom.
        detectors_so_far: how many detectors there have been.
    """

    placement: SavedPlacement = field(default_factory=SavedPlacement)
    pool: SavedPool = field(default_factory=SavedPool)
    detectors_so_far: int = 0


def split_cameras(
    camera_ids: Sequence[str],
    *,
    per_process: int,
    detectors: int,
    max_processes: int | None = None,
    key: Callable[[str], str] | None = None,
) -> list[list[str]]:
    """Deal cameras out to processes as evenly as can be.

    There are at least as many processes as detectors where there are cameras enough, so that none stands idle; a
    process belongs to one detector, which keeps the order of its cameras.

    Args:
        camera_ids: the cameras.
        per_process: cameras in one process, unless ``max_processes`` forces more.
        detectors: how many detectors will take from the processes.
        max_processes: upper limit of the number of processes.
        key: cameras with the same one come into as few processes as can be; None deals neighbours out.

    Returns:
        One list of camera ids per process, none empty, sizes differing by at most one.
    """
    wanted = max(-(-len(camera_ids) // per_process), detectors)
    count = min(wanted, len(camera_ids), max_processes or wanted)
    if key is None:
        return [list(camera_ids[first::count]) for first in range(count)]
    ordered = sorted(camera_ids, key=key)
    return [ordered[len(ordered) * n // count : len(ordered) * (n + 1) // count] for n in range(count)]
