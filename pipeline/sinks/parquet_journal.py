"""Journals: rows on their way to Parquet, in a form that gives back every complete batch after its process was killed.

An Arrow IPC stream per journal, locked while its process lives. Its schema carries the name of its run, and the number
of the scorer that wrote it.
"""

# pyarrow has no types of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false

from __future__ import annotations

import fcntl
import logging
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

_log = logging.getLogger(__name__)

JOURNAL_SUFFIX = ".arrows"
_UNLOCKED_SUFFIX = ".new"
RUN_METADATA_KEY = b"run"  # in a schema's metadata
SCORER_METADATA_KEY = b"scorer"

FrameOrder = tuple[int, int]
"""(session, index) of a frame."""


class Journal:
    """A journal of this process.

    Written message by message, since a stream writer of Arrow's cannot go on after a write that failed half-way.

    Attributes:
        path: the file.
        schema: of its rows.
        rows: how many it holds.

    Args:
        folder: where journals are; made when missing.
        schema: of its rows.
        opened_at: monotonic, seconds.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path, schema: pa.Schema, opened_at: float) -> None:
        self.path = folder / f"{time.time_ns() // 1_000_000}-{uuid.uuid4().hex[:12]}{JOURNAL_SUFFIX}"
        self.schema = schema
        self.rows = 0
        self._opened_at = opened_at
        self._size_bytes = 0
        self._file = _locked_file(self.path)
        try:
            self._write(schema.serialize())
        except BaseException:
            self.path.unlink(missing_ok=True)
            self.close()
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Add a batch whole, or leave the journal as it was.

        Raises:
            OSError: it could not be written.
        """
        self._write(batch.serialize())
        self.rows += batch.num_rows

    def is_due(self, now: float, rotate_s: float, rotate_bytes: int) -> bool:
        """Whether it is old or large enough to become files."""
        return now - self._opened_at >= rotate_s or self._size_bytes >= rotate_bytes

    def truncate(self) -> None:
        """Nothing is to be cut off a journal of this process."""

    def close(self) -> None:
        """Release the file and its lock."""
        os.close(self._file)

    def _write(self, message: pa.Buffer) -> None:
        rest = memoryview(message)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size_bytes)
            os.lseek(self._file, self._size_bytes, os.SEEK_SET)
            raise
        self._size_bytes += message.size


class OrphanedJournal:
    """A journal that a dead process left: its lock is held here. Use ``adopt`` to make one.

    Attributes:
        path: the file.
        rows: how many complete ones it holds, without those that are to be cut off.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.rows = 0
        self._lock = lock
        self._end: int | None = None  # where to cut

    def leave_out_unconfirmed(self, run: str, confirmed: Mapping[str, FrameOrder | None] | None) -> None:
        """Choose what to cut off if it is of this run: the last batches, whose frames will be scored again.

        A batch is confirmed as a whole or not at all, and in order, so what is not confirmed is the journal's end.

        Args:
            run: name of the run that goes on.
            confirmed: of each camera (session, index) of the last frame whose score is remembered; None keeps all.

        Raises:
            OSError: it cannot be read.
        """
        batches, begins = read_journal(self.path)
        if (
            confirmed is not None
            and batches
            and (batches[0].schema.metadata or {}).get(RUN_METADATA_KEY) == run.encode()
        ):
            while batches and not _has_confirmed(batches[-1], confirmed):
                batches.pop()
                self._end = begins[len(batches)]
        self.rows = sum(batch.num_rows for batch in batches)

    def truncate(self) -> None:
        """Cut off what was chosen, for good: the rows that are scored again must not meet their doubles in any process.

        Raises:
            OSError: the disk is read-only.
        """
        if self._end is not None:
            os.truncate(self.path, self._end)
            self._end = None

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)


def is_of_other_scorer(path: Path, run: str, scorer: int) -> bool:
    """Whether a journal is of another scorer of the same run, which alone knows what of it counts.

    To be asked before ``adopt``: its own scorer may come back at any moment, and must find it unlocked.

    Args:
        path: the journal.
        run: name of the run.
        scorer: number of the scorer that asks.
    """
    try:
        with pa.OSFile(str(path)) as file:
            metadata = pa.ipc.open_stream(file).schema.metadata or {}
    except (pa.ArrowInvalid, OSError):  # turned into files just now, or killed before it held a row
        return False
    return metadata.get(RUN_METADATA_KEY) == run.encode() and metadata.get(SCORER_METADATA_KEY) != str(scorer).encode()


def adopt(path: Path) -> OrphanedJournal | None:
    """Take over a journal, unless its process lives or another one was faster: the kernel frees a dead one's lock."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if path.exists():
        return OrphanedJournal(path, lock)
    os.close(lock)  # another sink has turned it into files just before
    return None


def remove_unlocked(folder: Path) -> None:
    """Delete what processes left that were killed between a journal's creation and its name; those hold no rows."""
    for path in folder.glob(f"*{_UNLOCKED_SUFFIX}"):
        if (left := adopt(path)) is not None:
            with suppress(OSError):  # a read-only disk: they harm nobody there
                path.unlink(missing_ok=True)
            left.close()


def _locked_file(path: Path) -> int:
    """Create a file that gets its name locked, or a sink that starts just now would take it for abandoned.

    Returns:
        The file's descriptor, open for writing.

    Raises:
        OSError: it cannot be made.
    """
    unlocked = path.with_suffix(_UNLOCKED_SUFFIX)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(unlocked, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # another sink that closed has just taken the folder for unused
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # waits for nothing but ``remove_unlocked`` of another sink
            unlocked.rename(path)
            return file
        except FileNotFoundError:  # that one was faster
            os.close(file)
        except BaseException:
            os.close(file)
            unlocked.unlink(missing_ok=True)
            raise


def read_journal(path: Path) -> tuple[list[pa.RecordBatch], list[int]]:
    """All complete batches, and where in the file each begins.

    Raises:
        OSError: the file cannot be read.
    """
    batches, begins = [], []
    source = pa.BufferReader(pa.py_buffer(path.read_bytes()))  # read first: Arrow raises OSError for a cut batch, too
    try:
        stream = pa.ipc.open_stream(source)
        while True:
            begin = source.tell()
            batches.append(stream.read_next_batch())
            begins.append(begin)
    except StopIteration:
        pass
    except (pa.ArrowInvalid, OSError) as error:
        _log.warning("%s ends in the middle of a batch, which is lost: %s", path, error)
    return batches, begins


def _has_confirmed(batch: pa.RecordBatch, confirmed: Mapping[str, FrameOrder | None]) -> bool:
    names = ("camera_id", "session", "index")
    for camera_id, *order in zip(*(batch[name].to_pylist() for name in names), strict=True):
        last = confirmed.get(camera_id)
        if last is not None and tuple(order) <= last:
            return True
    return False
