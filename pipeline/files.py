"""Files and folders that appear under their name whole or not at all, whatever ends the process or the power.

They are made beside their place under a passing name, synced, and renamed. What a killed process left is deleted by the
next one that writes the same, an hour later at the earliest: until then, another process may be writing it.

What the system has against a file or a folder is said with its name, and can be asked before hours of work.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.abandoned import forget_abandoned
from pipeline.errors import BadInputError

_TRIAL = b"\0" * 4096


def sync(path: Path) -> None:
    """Have a file's data on the disk, or the names in a folder, before anything that follows.

    Raises:
        OSError: it is not there, or the disk fails.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path, *, staged: Path | None = None) -> Iterator[None]:
    """Have the system's refusals in the block say which file could not be written, as those of a full disk do not.

    Args:
        path: of the file.
        staged: a passing name of it, which nobody knows.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, BadInputError) or error.filename not in {None, str(staged)}:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def require_writable(folder: Path) -> Path:
    """Make sure that a folder can be written into, or made, before the work whose result goes there; leaves nothing.

    Args:
        folder: need not be there.

    Returns:
        It, or the folder in which it would be made.

    Raises:
        BadInputError: it cannot.
    """
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if _is_there(path))
        with tempfile.TemporaryFile(dir=there, buffering=0) as trial:
            trial.write(_TRIAL)
    except OSError as error:
        raise _unwritable(folder, "folder", error) from error
    return there


def require_place(file: Path) -> None:
    """Make sure that a file can be written, before the work whose result goes there; changes nothing.

    Args:
        file: need not be there, nor its folder.

    Raises:
        BadInputError: it cannot.
    """
    try:
        if file.is_dir():
            raise BadInputError(f"{file}: expected the name of a file to write, got a folder")
        if file.is_file():
            file.open("ab").close()
        elif not file.exists():  # what is no file, as /dev/stdout, takes what it takes
            require_writable(file.parent)
    except OSError as error:
        raise _unwritable(file, "file", error) from error


def _is_there(path: Path) -> bool:
    """Whether there is something, if only a link to nowhere, in which nothing can be made.

    Raises:
        OSError: the system does not say: the name is too long, or a folder above is closed to this user.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _unwritable(path: Path, kind: str, error: OSError) -> BadInputError:
    return BadInputError(f"{path}: expected a {kind} that can be written, got: {error.strerror or error}")


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
        with naming(path, staged=staged):
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


def save_array(path: Path, values: npt.ArrayLike) -> None:
    """Write an array (.npy) as ``numpy.save`` does, which does not say what the system has against it.

    Raises:
        OSError: it cannot be written.
    """
    whole = io.BytesIO()
    np.save(whole, values, allow_pickle=False)
    with naming(path):
        path.write_bytes(whole.getbuffer())


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
