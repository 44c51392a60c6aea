"""What processes leave behind that were killed while they made a folder under a passing name."""

from __future__ import annotations

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
    """Delete folders in which nothing has changed for an hour.

    Args:
        folder: where they are.
        pattern: of their names, as for ``Path.glob``.
    """
    for path in folder.glob(f"{pattern}/"):
        changed = changed_at(path)
        if changed is not None and changed < time.time() - _ABANDONED_AFTER_S:
            shutil.rmtree(path, ignore_errors=True)
