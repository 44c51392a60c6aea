"""Folders among temporary files that last as long as a run: deleted with it, or by the next run if it was killed.

A folder that a command held was left once the command's lock on it is gone. On the other nodes of a cluster no command
holds the counter files of the cameras that are read there, and a camera process that was killed releases them until it
is back; such a folder was left once nobody has touched it for a long time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipeline.errors import RunError
from pipeline.private_folder import make_private, private_folder

_log = logging.getLogger(__name__)

_ENDING_WITHIN_S = 2.0
_PAUSE_S = 0.05
_HELD_FILE = ".held"  # in a folder that a command held; no camera has a name that begins so
_TOUCH_EVERY_S = 60.0
_LEFT_AFTER_S = 3600.0


@contextmanager
def locked_folder(name: str, *, inside: Path | None = None) -> Iterator[Path]:
    """Have a folder that only this user can enter while the block lasts; what killed runs left beside it is deleted.

    Args:
        name: of the folder.
        inside: the user's own folder among temporary files, where it is another than ``private_folder()``.

    Raises:
        RunError: it cannot be made, or where it should be belongs to another user.
    """
    own = inside or private_folder()
    with ExitStack() as held:
        try:
            make_private(own)
            with _locked(own, fcntl.LOCK_EX):  # nobody deletes a folder between its making and its locking
                _delete_left(own)
                folder = own / name
                make_private(folder)
                held.enter_context(_locked(folder, fcntl.LOCK_SH))
                (folder / _HELD_FILE).touch(mode=0o600)
        except OSError as error:
            raise RunError(
                f"{own}: expected a temporary folder of this user, got: {error.strerror or error}"
            ) from error
        try:
            yield folder
        finally:
            _delete(folder)


def touch_folder(folder: Path) -> None:
    """Keep a folder from being deleted on a node whose commands do not hold it; to be called again and again.

    Args:
        folder: where there is none, there is nothing to keep.
    """
    with suppress(OSError):
        if _untouched_s(folder) > _TOUCH_EVERY_S:
            os.utime(folder)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Hold a file or folder, which the kernel releases when this process ends, however it ends.

    Raises:
        OSError: it is not there, or, where ``how`` does not wait, somebody else holds it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _delete_left(own: Path) -> None:
    """Delete the folders that were left."""
    for folder in own.iterdir():
        if folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(OSError), ExitStack() as held:
            if not (folder / _HELD_FILE).exists() and _untouched_s(folder) < _LEFT_AFTER_S:
                continue
            for path in (folder, *(path for path in folder.iterdir() if path.is_file())):
                held.enter_context(_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
            _log.info("%s: a run that was killed left it; it is deleted", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _untouched_s(folder: Path) -> float:
    """How long nobody has touched a folder, nor made or deleted anything in it.

    Raises:
        OSError: there is none.
    """
    return time.time() - folder.stat().st_mtime


def _delete(folder: Path) -> None:
    """Delete a folder, into which a process may still write that is just ending."""
    give_up_at = time.monotonic() + _ENDING_WITHIN_S
    while folder.exists() and time.monotonic() < give_up_at:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(_PAUSE_S)
