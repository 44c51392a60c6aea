"""Files and folders that appear under their name whole or not at all, whatever ends the process or the power.

They are made beside their place under a passing name, synced, and renamed. What a killed process left is deleted by the
next one that writes the same, an hour later at the earliest: until then, another process may be writing it.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.abandoned import forget_abandoned
from pipeline.errors import BadInputError


def sync(path: Path) -> None:
    """Have a file's data on the disk, or the names in a folder, before anything that follows.

    Raises:
        OSError: it is not there, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Write a file whole: what the block writes takes its name, and an older file's place, when the block ends.

    Args:
        path: of the file; its folder must be there.

    Yields:
        Where to write it; it is not there yet. Where the block raises, it is deleted.

    Raises:
        OSError: it cannot be written.
    """
    prefix = _prefix(path)
    forget_abandoned(path.parent, f"{glob.escape(prefix)}*")
    staged = path.with_name(f"{prefix}{uuid.uuid4().hex[:8]}")
    try:
        yield staged
        sync(staged)
        staged.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # why it could not be written is the error to be raised
            staged.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Write a text file (UTF-8) as ``replace_whole`` does.

    Raises:
        OSError: it cannot be written.
    """
    with replace_whole(path) as staged:
        staged.write_text(text, encoding="utf-8")


@contextmanager
def replace_folder_whole(folder: Path) -> Iterator[Path]:
    """Fill a folder whole: what the block puts there takes its name, and an older folder's place, when the block ends.

    Args:
        folder: to be made or replaced; what is above it must be there.

    Yields:
        An empty folder of this user alone, for files. Where the block raises, it is deleted.

    Raises:
        OSError: it cannot be made or written.
    """
    prefix = _prefix(folder)
    forget_abandoned(folder.parent, f"{glob.escape(prefix)}*")
    staged = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        yield staged
        for path in (*staged.iterdir(), staged):
            sync(path)
        if folder.exists():
            older = staged.with_name(f"{staged.name}.old")
            folder.rename(older)
            staged.rename(folder)
            shutil.rmtree(older, ignore_errors=True)
        else:
            staged.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def remove_output(folder: Path, expected: str) -> None:
    """Delete an output folder, but only one that this program made.

    Args:
        folder: the folder; one that is empty or not there is left as it is.
        expected: name of what this program always writes into it.

    Raises:
        BadInputError: the folder holds something else.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / expected).exists():
        raise BadInputError(f"{folder}: expected a folder this program wrote (with {expected} in it), got another one")
    shutil.rmtree(folder)


def _prefix(path: Path) -> str:
    """How the passing names of what will be ``path`` begin."""
    return f".{path.name}.part-"
