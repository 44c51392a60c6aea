"""Folders among temporary files that last as long as a run: deleted with it, or by the next run if it was killed."""

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
from pipeline.own_folder import make_own, own_folder

_log = logging.getLogger(__name__)

_ENDING_WITHIN_S = 2.0
_PAUSE_S = 0.05


@contextmanager
def held_folder(name: str, *, inside: Path | None = None) -> Iterator[Path]:
    """Have a folder that only this user can enter while the block lasts; what killed runs left beside it is deleted.

    Args:
        name: of the folder.
        inside: the user's own folder among temporary files, where it is another than ``own_folder()``.

    Raises:
        RunError: it cannot be made, or where it should be belongs to another user.
    """
    own = inside or own_folder()
    with ExitStack() as held:
        try:
            make_own(own)
            with _locked(own, fcntl.LOCK_EX):  # nobody deletes a folder between its making and its locking
                _delete_left(own)
                folder = own / name
                make_own(folder)
                held.enter_context(_locked(folder, fcntl.LOCK_SH))
        except OSError as error:
            raise RunError(
                f"{own}: expected a temporary folder of this user, got: {error.strerror or error}"
            ) from error
        try:
            yield folder
        finally:
            _delete(folder)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    """Hold a file or folder, which the kernel lets go of when this process ends, however it ends.

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
    """Delete the folders that nobody holds."""
    for folder in own.iterdir():
        if folder.is_symlink() or not folder.is_dir():
            continue
        # A ledger is held by the camera process that counts in it: on other nodes of a cluster, nothing else is.
        with suppress(OSError), ExitStack() as held:
            for path in (folder, *(path for path in folder.iterdir() if path.is_file())):
                held.enter_context(_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB))
            _log.info("%s: a run that was killed left it; it is deleted", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _delete(folder: Path) -> None:
    """Delete a folder, into which a process may still write that is just ending."""
    give_up_at = time.monotonic() + _ENDING_WITHIN_S
    while folder.exists() and time.monotonic() < give_up_at:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(_PAUSE_S)
