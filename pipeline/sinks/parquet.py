"""Scores of every frame into Parquet files that appear whole or not at all.

Rows go first into a journal (an Arrow IPC stream, which gives back every complete batch after the process was killed),
outside the data set's folder, where readers would trip over it. At rotation the journal becomes one Parquet file per
camera and day, written beside it, synced and renamed into place. Journals that a dead process left are turned into
files when the next sink starts.

A journal's files are named after it, so that a conversion that was interrupted gives the same files when it is
repeated: no row is lost and none doubled.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.types import Alert, Score

_log = logging.getLogger(__name__)

JOURNAL_SUFFIX = ".arrows"
_ROTATE_BYTES = 64 * 2**20  # keeps converting a journal within a few seconds and some hundred MB
_COLUMNS = (
    pa.field("camera_id", pa.string(), nullable=False),
    pa.field("session", pa.int64(), nullable=False),
    pa.field("index", pa.int64(), nullable=False),
    pa.field("pts", pa.int64(), nullable=False),
    pa.field("media_time_s", pa.float64(), nullable=False),
    pa.field("captured_at_s", pa.float64(), nullable=False),
    pa.field("scored_at_s", pa.float64(), nullable=False),
    pa.field("latency_s", pa.float32(), nullable=False),
    pa.field("anomaly_score", pa.float64(), nullable=False),
    pa.field("p_value", pa.float64(), nullable=False),
    pa.field("threshold", pa.float64(), nullable=False),
    pa.field("is_anomalous", pa.bool_(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
)


class ParquetSink:
    """Writes ``root/camera=ID/date=YYYY-MM-DD/part-*.parquet``; the date is the UTC day of ``captured_at_s``.

    A disk that is full costs rows, which are counted, and stops nothing; it is tried again at the next write.

    Args:
        root: folder of the data set.
        model_fingerprint: written into every row.
        maps: whether rows hold the anomaly map.
        rotate_s: longest time before rows stand in a finished file, as long as something is written.
        now: monotonic clock in seconds.

    Raises:
        OSError: the folders cannot be made.
    """

    def __init__(
        self,
        root: Path,
        *,
        model_fingerprint: str,
        maps: bool,
        rotate_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._staging = staging_folder(root)
        self._model = model_fingerprint
        self._maps = maps
        self._rotate_s = rotate_s
        self._now = now
        self._journal: _Journal | None = None
        self._full: list[_Journal] = []  # ready to become files
        self._lost = 0
        self._complaint = ""
        root.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._staging.glob(f"*{JOURNAL_SUFFIX}")):
            self._replay(path)

    def write(self, scores: Sequence[Score], alerts: Sequence[Alert]) -> None:
        """Add rows; they are in the operating system's hands when this returns, and survive this process."""
        try:
            if scores:
                self._append(scores)
        except OSError as error:  # a full disk must not stop the scorer
            self._lost += len(scores)
            self._complain(error)
        try:
            if self._journal is not None and self._journal.is_due(self._now(), self._rotate_s):
                self._rotate()
        except OSError as error:  # the journal keeps the rows
            self._complain(error)

    def close(self) -> None:
        """Turn the journal into files; what cannot be turned stays a journal, for the next sink to replay."""
        try:
            self._rotate()
        except OSError as error:
            self._complain(error)
        for journal in self._full:
            journal.close()
        try:
            self._staging.rmdir()
        except OSError as error:  # holds a journal: of another run, or one that could not be turned into files
            _log.debug("%s stays: %s", self._staging, error)

    def faults(self) -> list[str]:
        """Rows that could not be written."""
        lines = []
        if self._lost:
            lines.append(f"{self._lost} rows could not be written to {self._root} ({self._complaint})")
        if self._full:
            rows = sum(journal.rows for journal in self._full)
            lines.append(f"{rows} rows still wait in {self._staging} ({self._complaint}); the next run replays them")
        return [f"Parquet: {line}" for line in lines]

    def _replay(self, path: Path) -> None:
        """Turn the journal of a run that died into files; one that cannot be turned now is left for the next run."""
        with _abandoned(path) as ours:
            if not ours:
                return
            _log.info("replaying %s, which a run that died left", path)
            try:
                _convert(path, self._root)
            except OSError as error:
                self._complain(error)

    def _append(self, scores: Sequence[Score]) -> None:
        shape = scores[0].anomaly_map.shape if self._maps and scores[0].anomaly_map is not None else None
        schema = _schema(shape)
        if self._journal is not None and self._journal.schema != schema:
            self._retire()
        if self._journal is None:
            self._journal = _Journal(self._staging, schema, self._now())
        self._journal.append(_batch(scores, self._model, schema))

    def _retire(self) -> None:
        if self._journal is not None:
            self._full.append(self._journal)
            self._journal = None

    def _rotate(self) -> None:
        self._retire()
        while self._full:
            journal = self._full[0]
            _convert(journal.path, self._root)
            journal.close()
            del self._full[0]

    def _complain(self, error: OSError) -> None:
        if str(error) != self._complaint:
            _log.error("Parquet %s: %s", self._root, error)
        self._complaint = str(error)


def staging_folder(root: Path) -> Path:
    """Where journals of a data set live: beside it, on the same file system."""
    return root.parent / f".{root.name}-staging"


def discard_journals(root: Path) -> None:
    """Delete what dead processes left for a data set that is to be written anew."""
    for path in staging_folder(root).glob("*"):
        if path.suffix != JOURNAL_SUFFIX:
            continue
        with _abandoned(path) as ours:
            if ours:
                _staged(path).unlink(missing_ok=True)
                path.unlink(missing_ok=True)


class _Journal:
    """An Arrow IPC stream that is locked while its process lives.

    Written message by message, since a stream writer of Arrow's cannot go on after a write that failed half-way.
    """

    def __init__(self, folder: Path, schema: pa.Schema, opened_at: float) -> None:
        self.path = folder / f"{time.time_ns() // 1_000_000}-{uuid.uuid4().hex[:12]}{JOURNAL_SUFFIX}"
        self.schema = schema
        self.rows = 0
        self._opened_at = opened_at
        self._size_bytes = 0
        # Locked before it gets its name, or a sink that starts just now would take it for abandoned.
        unlocked = self.path.with_suffix(".new")
        self._file = os.open(unlocked, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(schema.serialize())
            unlocked.rename(self.path)
        except BaseException:
            self.close()
            unlocked.unlink(missing_ok=True)
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Add a batch whole, or leave the journal as it was.

        Raises:
            OSError: it could not be written.
        """
        self._write(batch.serialize())
        self.rows += batch.num_rows

    def is_due(self, now: float, rotate_s: float) -> bool:
        """Whether it is old or large enough to become files."""
        return now - self._opened_at >= rotate_s or self._size_bytes >= _ROTATE_BYTES

    def close(self) -> None:
        """Let go of the file and its lock."""
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


def _schema(map_shape: tuple[int, ...] | None) -> pa.Schema:
    if map_shape is None:
        return pa.schema(list(_COLUMNS))
    height, width = map_shape
    column = pa.field("map", pa.list_(pa.float16(), height * width))
    return pa.schema([*_COLUMNS, column], metadata={"map_shape": f"{height},{width}"})


def _batch(scores: Sequence[Score], model: str, schema: pa.Schema) -> pa.RecordBatch:
    headers = [score.header for score in scores]
    columns: dict[str, list] = {
        name: [getattr(header, name) for header in headers]
        for name in ("camera_id", "session", "index", "pts", "media_time_s", "captured_at_s")
    }
    for name in ("scored_at_s", "latency_s", "anomaly_score", "p_value", "threshold", "is_anomalous"):
        columns[name] = [getattr(score, name) for score in scores]
    columns["model"] = [model] * len(scores)
    arrays = [pa.array(columns[field.name], type=field.type) for field in _COLUMNS]
    if "map" in schema.names:
        maps = np.stack([_flat_map(score) for score in scores])
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(maps.ravel()), maps.shape[1]))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _flat_map(score: Score) -> npt.NDArray[np.float16]:
    assert score.anomaly_map is not None  # one model, one answer: all maps or none
    return np.ascontiguousarray(score.anomaly_map, dtype=np.float16).ravel()


@contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Whether the process that wrote a journal is gone: the kernel has released its lock, which the block holds."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield path.exists()  # another sink may have turned it into files just before


def _staged(journal: Path) -> Path:
    return journal.with_suffix(".parquet")


def _convert(journal: Path, root: Path) -> None:
    """Turn a journal into files and delete it; interrupted at any point, doing it again gives the same files."""
    table = _read_journal(journal)
    if table is not None:
        cameras = np.array(table["camera_id"].to_pylist())
        days = np.array([_utc_day(at_s) for at_s in table["captured_at_s"].to_pylist()])
        for camera_id, day in sorted({*zip(cameras.tolist(), days.tolist(), strict=True)}):
            rows = np.flatnonzero((cameras == camera_id) & (days == day))
            part = table.take(pa.array(rows)).sort_by([("session", "ascending"), ("index", "ascending")])
            folder = root / f"camera={camera_id}" / f"date={day}"
            _write_whole(part, _staged(journal), folder / f"part-{journal.stem}.parquet")
    journal.unlink()


def _utc_day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


def _read_journal(journal: Path) -> pa.Table | None:
    """All complete batches of a journal, or None where there is none."""
    batches = []
    data = pa.py_buffer(journal.read_bytes())  # read first: Arrow raises OSError for a cut batch, too
    try:
        batches.extend(pa.ipc.open_stream(data))
    except (pa.ArrowInvalid, OSError) as error:
        _log.warning("%s ends in the middle of a batch, which is lost: %s", journal, error)
    return pa.Table.from_batches(batches) if batches else None


def _write_whole(table: pa.Table, staged: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    encoding = {"map.list.element": "BYTE_STREAM_SPLIT"} if "map" in table.schema.names else None
    with staged.open("wb") as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            use_dictionary=["camera_id", "model"],  # pyright: ignore[reportArgumentType] # a list is documented
            column_encoding=encoding,
            write_page_checksum=True,
        )
        file.flush()
        os.fsync(file.fileno())
    staged.replace(target)
    for folder in (target.parent, *target.parents[1:3]):  # new folders must last, too
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
