"""Who may use the folder of an embedded Redis: one server at a time, a run's before a reader's."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

import redis

from pipeline.errors import FolderInUseError, RedisError
from pipeline.sinks.redis_client import connect

_FILE = "lock"
_PAUSE_S = 0.02
_LONGEST_NOTE = 300


def take_folder(folder: Path, *, preemptible: str | None = None, within_s: float = 0.0) -> int:
    """Hold a folder against other servers, which would overwrite its data.

    Args:
        folder: made when missing.
        preemptible: address of a server that will be ended when somebody else wants the folder; None stays.
        within_s: how long to wait for the folder, having asked a preemptible holder for it.

    Returns:
        A descriptor. The folder is held until it is closed, also in the processes that were given it.

    Raises:
        FolderInUseError: somebody else holds it.
        RedisError: it cannot be made or written, or its file system knows no locks.
    """
    deadline = time.monotonic() + within_s
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(descriptor):
                if time.monotonic() >= deadline:
                    raise FolderInUseError(
                        f"{folder}: expected a folder of its own, but another run's embedded Redis uses it"
                    )
                _ask_for(descriptor)
                time.sleep(_PAUSE_S)
            with suppress(OSError):  # a full disk: nobody will be able to ask for the folder
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, (preemptible or "").encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        if isinstance(error, RedisError):
            raise
        raise RedisError(f"{folder}: expected a folder for Redis's data, got: {error.strerror}") from error
    return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ask_for(descriptor: int) -> None:
    """End the server of a preemptible holder."""
    url = os.pread(descriptor, _LONGEST_NOTE, 0).decode("utf-8", "replace")
    if not url:
        return
    with suppress(RedisError, redis.RedisError, OSError):  # it has ended meanwhile
        client = connect(url, retries=0)
        try:
            client.shutdown(nosave=True)  # pyright: ignore[reportUnknownMemberType]
        finally:
            client.close()
