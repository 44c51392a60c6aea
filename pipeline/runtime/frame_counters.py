"""A camera's frame counters on its own node: shared memory that outlives the process which counts.

A killed process takes its variables with it. A page that is mapped from a file stays with the kernel, at the cost of a
store into memory per count, so whoever reads the camera next goes on counting where the dead one stopped, and knows to
the frame what died with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
import uuid
from pathlib import Path
from typing import Literal, get_args

from pipeline.errors import RunError
from pipeline.private_folder import make_private

_DropName = Literal["sampling", "overload", "stale", "corrupt", "decode_error", "camera_lost", "shutdown"]
CounterName = Literal["decoded", "dispatched", "confirmed", "session", _DropName]
_NAMES: tuple[CounterName, ...] = get_args(CounterName)
_INDEX = {name: index for index, name in enumerate(_NAMES)}
_DROPS: tuple[_DropName, ...] = get_args(_DropName)
_WORD_BYTES = 8
_ID_BYTES = 16  # a random id of the counters, before them
_SIZE_BYTES = _ID_BYTES + _WORD_BYTES * len(_NAMES)


class FrameCounters:
    """Counters of one camera. One process at a time holds it.

    ``decoded = dispatched + dropped + waiting`` at every moment in which no count is half made: what is missing when a
    live camera's counter file is opened again was waiting in a process that died.

    Slots: ``decoded``, ``dispatched`` (to a detector), ``confirmed`` (of a file: dispatched frames whose result the
        scorer knows), ``session`` (number of the newest connection) and one per reason to drop a frame before it is
        dispatched.

    Args:
        path: of the file; made when missing.

    Raises:
        RunError: another process holds it, there is no room for it, or its folder is another user's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        try:
            make_private(path.parent.parent)
            make_private(path.parent)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Room is taken now: a page that finds none later would kill the process that writes to it.
            os.posix_fallocate(self._file, 0, _SIZE_BYTES)
        except OSError as error:
            if self._file >= 0:
                os.close(self._file)
            raise RunError(f"{path}: expected a counter file of its own, got: {error.strerror}") from error
        self._counting = threading.Lock()
        self._pages = mmap.mmap(self._file, _SIZE_BYTES)
        if not any(self._pages[:_ID_BYTES]):
            self._pages[:_ID_BYTES] = uuid.uuid4().bytes
        self._bytes = memoryview(self._pages)
        self._words = self._bytes[_ID_BYTES:].cast("q")
        self.counter_id = uuid.UUID(bytes=self._pages[:_ID_BYTES]).hex
        """Name of this set of counters: another one, from 0, where the file was not found (another node)."""
        self.resumed = self["decoded"] > 0 or self["session"] > 0
        """Whether an earlier process has counted here."""

    def count_lost(self) -> None:
        """Count what waited in the process that held this before as ``camera_lost``: for a live camera."""
        self.add("camera_lost", max(self["decoded"] - self["dispatched"] - sum(self[name] for name in _DROPS), 0))

    def restart_file(self) -> None:
        """Set all counts but ``confirmed`` to 0: a file is read again from its start, and counted again."""
        for name in _NAMES:
            if name not in {"confirmed", "session"}:
                self[name] = 0

    def renew(self, session: int) -> None:
        """Count from 0 under another id: what was counted here belongs to a time before others counted elsewhere.

        Args:
            session: number of the first connection that will be counted here.
        """
        self._pages[:_ID_BYTES] = uuid.uuid4().bytes
        self.counter_id = uuid.UUID(bytes=self._pages[:_ID_BYTES]).hex
        for name in _NAMES:
            self[name] = 0
        self["session"] = session
        self.resumed = False

    def __getitem__(self, name: CounterName) -> int:
        return self._words[_INDEX[name]]

    def __setitem__(self, name: CounterName, value: int) -> None:
        self._words[_INDEX[name]] = value

    def add(self, name: CounterName, count: int = 1) -> None:
        """Count. Any thread may."""
        with self._counting:
            self._words[_INDEX[name]] += count

    def dropped(self) -> dict[str, int]:
        """Frames that were never dispatched, by reason; zeros left out."""
        return {name: self[name] for name in _DROPS if self[name]}

    def close(self) -> None:
        """Release the file, which stays; a second call does nothing."""
        if self._file < 0:
            return
        self._words.release()
        self._bytes.release()
        self._pages.close()
        os.close(self._file)
        self._file = -1

    def remove(self) -> None:
        """Close it and delete the file, and its folder with the last one: the run has ended."""
        self.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()
