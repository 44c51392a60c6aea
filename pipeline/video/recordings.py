"""A folder of recordings that ``train --data`` reads, in which only whole segments ever appear.

::

    training/videos/SCENE_NNNN.mkv    whole segments
    .recording/lock                   held by the process that records
    .recording/SCENE/NAME.mkv         segments in the making

A segment is made in ``.recording``, which no data set reader looks into and which is on the same file system by
construction (a folder beside ``--out`` need not be, where a disk is mounted there), then synced and renamed.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.errors import BadInputError, RunError
from pipeline.files import sync
from pipeline.video.read_back import copy_readable
from pipeline.video.segment import SUFFIX

LONGEST_SCENE = 64 - len("_00000")
"""Characters of a scene's name: clips are named after it, and those names have 64 at most."""

_STAGING = ".recording"
_COPY_SUFFIX = ".copy"
_OF_THE_DISK = frozenset({"lost+found"})

_log = logging.getLogger(__name__)


class RecordingFolder:
    """The folder, held by one process at a time; a context manager that releases it.

    Args:
        root: a new or empty folder, or one of earlier recordings, which are kept and continued.

    Raises:
        BadInputError: it holds something else, cannot be written, or another process records into it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.videos = root / "training" / "videos"
        self._staging = root / _STAGING
        self._lock = threading.Lock()
        self._last_numbers: dict[str, int] = {}
        _check_ours(root)
        try:
            for folder in (self._staging, self.videos):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = (self._staging / "lock").open("ab")
        except OSError as error:
            raise BadInputError(f"{root}: expected a folder to record into, got: {error.strerror}") from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise BadInputError(
                f"{root}: expected a folder to itself, got one that another process records into"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock_file.close()

    def stage(self, scene: str) -> Path:
        """A path for a segment in the making.

        Raises:
            RunError: the disk is full, or cannot be written.
        """
        folder = self._staging / scene
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder}: cannot be created: {error.strerror}") from error
        return folder / f"{uuid.uuid4().hex}{SUFFIX}"

    def publish(self, staged: Path) -> Path:
        """Give a whole segment its name, after what was there before.

        Returns:
            Where it is now.

        Raises:
            RunError: the disk is full, or cannot be written.
        """
        scene = staged.parent.name
        try:
            sync(staged)
            with self._lock:
                target = self._next_path(scene)
                staged.rename(target)
            sync(self.videos)
        except OSError as error:
            raise RunError(f"{staged}: cannot be kept: {error.strerror}") from error
        return target

    def discard(self, staged: Path) -> None:
        """Forget a segment that nobody could use."""
        staged.unlink(missing_ok=True)

    def salvage(self) -> list[Path]:
        """Publish what can be read of segments that a killed process left, and remove the rest.

        What the system does not let it read stays where it is, and is reported in the log.

        Returns:
            The segments that were published.

        Raises:
            RunError: the disk is full, or cannot be written.
        """
        published = []
        for left in sorted(self._staging.glob(f"*/*{_COPY_SUFFIX}")):
            left.unlink()
        for left in sorted(self._staging.glob(f"*/*{SUFFIX}"), key=lambda path: path.stat().st_mtime):
            copy = left.with_suffix(_COPY_SUFFIX)
            try:
                packets = copy_readable(left, copy)
            except OSError as error:
                copy.unlink(missing_ok=True)
                _log.warning("%s: cannot be read to its end and stays for the next run: %s", left, error.strerror)
                continue
            if packets:
                # In one step: killed at any time, this leaves either the one or the other, never both or none.
                copy.replace(left)
                published.append(self.publish(left))
            else:
                left.unlink()
        return published

    def _next_path(self, scene: str) -> Path:
        """The first free name of a scene; file systems may ignore case, so numbers do, too."""
        key = scene.lower()
        if key not in self._last_numbers:
            numbers = [int(number) for name, number in self._names() if name == key and number.isdecimal()]
            self._last_numbers[key] = max(numbers, default=0)
        self._last_numbers[key] += 1
        return self.videos / f"{scene}_{self._last_numbers[key]:04d}{SUFFIX}"

    def _names(self) -> list[tuple[str, str]]:
        """Scene, in lower case, and number of all there is."""
        parts = (path.stem.rpartition("_") for path in self.videos.iterdir())
        return [(scene.lower(), number) for scene, _, number in parts]


def _check_ours(root: Path) -> None:
    """Raise unless the folder is new, empty or one of ours."""
    try:
        if root.exists() and not root.is_dir():
            raise BadInputError(f"{root}: expected a folder to record into, got a file")
        if not root.is_dir() or (root / _STAGING).is_dir():
            return
        strange = sorted(path.name for path in root.iterdir() if path.name not in _OF_THE_DISK)
    except OSError as error:
        raise BadInputError(f"{root}: expected a readable folder, got: {error.strerror}") from error
    if strange:
        raise BadInputError(
            f"{root}: expected a new folder or one that 'record' wrote, got one with {strange[0]!r} in it"
        )
