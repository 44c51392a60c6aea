"""How long evidence is kept: by days and by bytes, the oldest goes first."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.abandoned import forget_abandoned
from pipeline.evidence.store import FOLDER

_JUST_WRITTEN_S = 120.0  # whoever is told of it must find it


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An event's folder.

    Attributes:
        path: the folder.
        written_at_s: Unix time at which it was written last.
        size: bytes in it.
    """

    path: Path
    written_at_s: float
    size: int


def overdue(events: Iterable[KeptEvent], now_s: float, *, keep_s: float, keep_bytes: int) -> list[KeptEvent]:
    """The events that are to be deleted. Pure.

    Args:
        events: all that there are.
        now_s: Unix time.
        keep_s: seconds after which one is deleted.
        keep_bytes: of all that are kept; what was written in the last two minutes is kept in any case.

    Returns:
        The oldest first.
    """
    newest_first = sorted(events, key=lambda event: (event.written_at_s, event.path), reverse=True)
    gone: list[KeptEvent] = []
    total = 0
    for event in newest_first:
        total += event.size
        age_s = now_s - event.written_at_s
        if age_s > _JUST_WRITTEN_S and (age_s > keep_s or total > keep_bytes):
            gone.append(event)
    return gone[::-1]


def enforce(output: Path, now_s: float, *, keep_s: float, keep_bytes: int) -> int:
    """Delete what is overdue, folders that are empty then, and what killed processes left; returns how many events.

    Args:
        output: a run's output folder.
        now_s: Unix time.
        keep_s: as of ``overdue``.
        keep_bytes: as of ``overdue``.
    """
    root = output / FOLDER
    events = list(kept_events(output))
    gone = overdue(events, now_s, keep_s=keep_s, keep_bytes=keep_bytes)
    for event in gone:
        shutil.rmtree(event.path, ignore_errors=True)
    for camera in _folders(root, 2):
        with contextlib.suppress(OSError):
            forget_abandoned(camera, ".*")
    for depth in (2, 1):
        for folder in _folders(root, depth):
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
    return len(gone)


def kept_events(output: Path) -> Iterable[KeptEvent]:
    """The events that there are, but for those in the making.

    Args:
        output: a run's output folder.
    """
    for path in _folders(output / FOLDER, 3):
        try:
            sizes = [(file.stat().st_size, file.stat().st_mtime) for file in path.iterdir()]
        except OSError:  # it is being replaced, or deleted
            continue
        if sizes:
            yield KeptEvent(path, max(at for _, at in sizes), sum(size for size, _ in sizes))


def _folders(root: Path, depth: int) -> list[Path]:
    """Folders so far below one, but for those whose names begin with a dot, and links to anywhere."""
    found = [root]
    for _ in range(depth):
        below: list[Path] = []
        for folder in found:
            with contextlib.suppress(OSError):
                below += [path for path in folder.iterdir() if _is_folder(path)]
        found = below
    return found


def _is_folder(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_dir() and not path.is_symlink()
