"""CPU time of a run by who spent it: every process below this one, and of actors the threads that decode or predict."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import psutil

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DECODING = "camera: decode, resize, scene watch"
_READER = "read_camera"  # the kernel's name of the reader's threads, see actors.actor_client


def spent(but: frozenset[int] = frozenset()) -> Counter[str]:
    """CPU seconds so far by role, of this process and all below it.

    Args:
        but: process ids that do not belong to the run; what they started does not either.
    """
    seconds: Counter[str] = Counter()
    waiting = [psutil.Process()]
    while waiting:
        process = waiting.pop()
        if process.pid in but:
            continue
        try:
            waiting += process.children()
            _add(process, seconds)
        except (psutil.Error, OSError):
            continue
    return seconds


def threads() -> dict[str, int]:
    """Threads of this process and of each actor below it, by role; of several of one role the most."""
    most: dict[str, int] = {}
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            role = _role(process)
            if role == "command" or role.endswith("Actor"):
                most[role] = max(most.get(role, 0), process.num_threads())
        except psutil.Error:
            continue
    return most


def _add(process: psutil.Process, seconds: Counter[str]) -> None:
    role = _role(process)
    if role != "CameraActor":
        times = process.cpu_times()
        seconds[role] += times.user + times.system  # pyright: ignore[reportArgumentType]
        return
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            name, spent_s = _thread(task)
        except OSError:  # it has just ended
            continue
        seconds[DECODING if name == _READER else role] += spent_s  # pyright: ignore[reportArgumentType]


def _thread(task: Path) -> tuple[str, float]:
    """A thread's name and CPU seconds."""
    head, _, rest = (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")
    fields = rest.split()
    return head.partition("(")[2], (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _role(process: psutil.Process) -> str:
    if process.pid == os.getpid():
        return "command"
    line = " ".join(process.cmdline()) or process.name()
    if line.startswith("ray::"):
        return line.removeprefix("ray::").split(".")[0].split(":")[0].split()[0]
    name = Path(line.split()[0]).name
    if name.startswith("redis-server"):
        return "redis-server"
    return name if name in {"raylet", "gcs_server"} else "other of Ray"
