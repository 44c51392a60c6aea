"""Which process decodes which cameras."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence


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


def place(
    camera_ids: Iterable[str],
    before: Mapping[str, str],
    processes: Sequence[str],
    *,
    gone: Collection[str] = (),
    per_process: int,
) -> dict[str, str | None]:
    """Find a process for every camera; a camera stays where it is as long as its process is there.

    Args:
        camera_ids: the cameras that are wanted.
        before: camera to process, as it was.
        processes: all processes.
        gone: those of them whose cameras are to go elsewhere.
        per_process: cameras in one process, unless those of a process that is gone must find a place.

    Returns:
        Camera to process; None where a new process is needed.
    """
    there = [process for process in processes if process not in gone]
    result: dict[str, str | None] = {c: before[c] for c in camera_ids if before.get(c) in there}
    loads = {process: sum(place == process for place in result.values()) for process in there}
    for camera_id in camera_ids:
        if camera_id in result:
            continue
        target = min(loads, key=lambda process: loads[process], default=None)
        if target is not None and loads[target] >= per_process and camera_id not in before:
            target = None
        result[camera_id] = target
        if target is not None:
            loads[target] += 1
    return result
