"""One run at a time in a folder: a lock that the kernel releases when the command ends, however it ends."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import BadInputError
from pipeline.run_folder import RunFolder

_log = logging.getLogger(__name__)

_LONGEST_PID = 20
_LOOKED_AT_WITHIN_S = 0.1  # whoever looks whether the folder is in use holds the lock for a moment
_PAUSE_S = 0.01


@contextmanager
def run_lock(state_folder: Path) -> Generator[None, None, None]:
    """Hold a folder against other runs while the block lasts; processes that are started meanwhile do not inherit that.

    Args:
        state_folder: where the run keeps its state; made when missing.

    Raises:
        BadInputError: another run uses it, or nothing can be written there.
    """
    try:
        state_folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(RunFolder(state_folder).lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise BadInputError(f"{state_folder}: expected a folder that can be written, got: {error.strerror}") from None
    try:
        give_up_at = time.monotonic() + _LOOKED_AT_WITHIN_S
        while not _locked(descriptor, fcntl.LOCK_EX, state_folder):
            if time.monotonic() > give_up_at:
                raise _taken(state_folder, _written(descriptor))
            time.sleep(_PAUSE_S)
        try:
            with suppress(OSError):  # a full disk: the lock holds without saying who has it
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def check_unused(state_folder: Path) -> None:
    """Make sure that no run uses a folder; writes nothing.

    Args:
        state_folder: where the run would keep its state.

    Raises:
        BadInputError: one does.
    """
    try:
        descriptor = os.open(RunFolder(state_folder).lock_file, os.O_RDONLY)
    except OSError:  # there has been none, or nobody may look: whoever wants the lock will be told
        return
    try:
        if not _locked(descriptor, fcntl.LOCK_SH, state_folder):
            raise _taken(state_folder, _written(descriptor))
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int, state_folder: Path) -> bool:
    """Whether nobody else has the lock; true, too, on a file system that knows none: the run store has its own."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _log.warning("%s: a second run into this folder would not be noticed at once: %s", state_folder, error.strerror)
    return True


def _written(descriptor: int) -> str:
    """Who has the lock, in words."""
    text = os.pread(descriptor, _LONGEST_PID, 0).decode("ascii", "replace").strip()
    return f" (process {text})" if text.isdecimal() else ""


def _taken(state_folder: Path, by_whom: str) -> BadInputError:
    return BadInputError(
        f"{state_folder}: expected a folder that no run uses, but one is under way in it{by_whom}; "
        "end it, or choose another folder"
    )
