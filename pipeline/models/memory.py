"""How much memory there is, asked before something large is made instead of being killed for it."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ModelSizeError

_MEMINFO = Path("/proc/meminfo")
# A container's limit and use, by the second and the first version of control groups.
_CONTAINERS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
_GIB = 2**30


def available_bytes() -> int | None:
    """Memory that can be had without swapping: the machine's, or less where a container limits it; None if unknown."""
    found = [
        1024 * int(line.split()[1]) for line in _lines(_MEMINFO) if line.startswith("MemAvailable:")
    ]  # the kernel writes kB and means KiB
    for limit, used in _CONTAINERS:
        values = [*_lines(limit), *_lines(used)]
        if len(values) == 2 and all(value.isdecimal() for value in values):
            found.append(max(0, int(values[0]) - int(values[1])))
    return min(found, default=None)


def check_memory(wanted_bytes: int, what: str, advice: str) -> None:
    """Refuse what would not fit.

    Args:
        wanted_bytes: what is going to be needed.
        what: is going to need it; the message begins with it.
        advice: what the user can do.

    Raises:
        ModelSizeError: less is available. Where nobody knows what is, nothing is refused.
    """
    available = available_bytes()
    if available is not None and wanted_bytes > available:
        raise ModelSizeError(
            f"{what}: expected {wanted_bytes / _GIB:.2f} GiB of free memory, got {available / _GIB:.2f} GiB; {advice}"
        )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split("\n" if path is _MEMINFO else None)
    except OSError:
        return []
