"""Cameras dealt out to processes."""

from __future__ import annotations

from collections.abc import Sequence


def split_cameras(
    camera_ids: Sequence[str], *, per_process: int, detectors: int, max_processes: int | None = None
) -> list[list[str]]:
    """Deal cameras out to processes as evenly as can be.

    There are at least as many processes as detectors where there are cameras enough, so that none stands idle; a
    process belongs to one detector, which keeps the order of its cameras.

    Args:
        camera_ids: the cameras.
        per_process: cameras in one process, unless ``max_processes`` forces more.
        detectors: how many detectors will take from the processes.
        max_processes: upper limit of the number of processes.

    Returns:
        One list of camera ids per process, none empty, sizes differing by at most one.
    """
    wanted = max(-(-len(camera_ids) // per_process), detectors)
    count = min(wanted, len(camera_ids), max_processes or wanted)
    return [list(camera_ids[first::count]) for first in range(count)]
