"""What processes leave behind that were killed while they made a file or folder under a passing name."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

_ABANDONED_AFTER_S = 3600.0  # whatever is made so takes minutes at most


def changed_at(path: Path) -> float | None:
    """When a file, or what a folder holds, changed last, Unix time; None where it is gone: others delete, too."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def forget_abandoned(folder: Path, pattern: str) -> None:
    """Delete files, and folders in which nothing has changed, that are older than an hour.

    Args:
        folder: where they are.
        pattern: of their names, as for ``Path.glob``.
    """
    for path in folder.glob(pattern):
        changed = changed_at(path)
        if changed is None or changed > time.time() - _ABANDONED_AFTER_S:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
