"""Scores of every frame into Parquet files that appear whole or not at all.

Rows go first into a journal (``parquet_journal``, which outlives the process), outside the data set's folder, where
readers would trip over it. At rotation the journal becomes one Parquet file per camera and day, written beside it,
synced and renamed into place. Journals that a dead process left are turned into files when the next sink starts.

A journal's files are named after it, so that a conversion that was interrupted gives the same files when it is
repeated: no row is lost and none doubled.
"""

# pyarrow has no types of its own.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import sync
from pipeline.sinks.base import Sink, SinkContext, SinkSettings
from pipeline.sinks.parquet_journal import (
    JOURNAL_SUFFIX,
    FrameOrder,
    Journal,
    OrphanedJournal,
    adopt,
    is_of_other_scorer,
    read_journal,
    remove_unlocked,
)
from pipeline.sinks.parquet_schema import MAP, MAP_SHAPE, for_readers, journal_schema, rows_batch
from pipeline.types import Score, Trouble

_log = logging.getLogger(__name__)

_RETRY_S = 5.0  # between attempts to turn journals into files on a disk that has no room
_ROTATE_BYTES = 64 * 2**20  # keeps converting a journal within some hundred MB
# A file costs two syncs, and a thousand cameras have a thousand files: the scorer must not wait for all of them.
_SLICE_S = 0.25


class ParquetSinkSettings(SinkSettings):
    """A data set, as the config's ``output`` has it.

    Attributes:
        folder: root of the data set.
        maps: whether rows hold the anomaly map.
        rotate_s: longest time before rows stand in a finished file.
    """

    takes_alerts: ClassVar[bool] = False

    kind: str = "parquet"
    folder: Path
    maps: bool
    rotate_s: float

    def open(self, context: SinkContext) -> ParquetSink:
        """Make the sink.

        Raises:
            OSError: the folders cannot be made.
        """
        return ParquetSink(
            self.folder,
            maps=self.maps,
            rotate_s=self.rotate_s,
            run=context.run,
            scorer=context.scorer,
            confirmed=context.confirmed,
        )


class ParquetSink(Sink):
    """Writes ``root/camera=ID/date=YYYY-MM-DD/part-*.parquet``; the date is the UTC day of ``captured_at_s``.

    A disk that is full or read-only costs rows, which are counted, and stops nothing; every write tries it again.

    Args:
        root: folder of the data set.
        maps: whether rows hold the anomaly map.
        rotate_s: longest time before rows stand in a finished file, as long as ``write`` is called.
        run: name of the run, which its journals carry.
        scorer: number of the scorer whose sink it is, which they carry, too. Journals that other scorers of the run
            left when they died are left to them; those of other runs go to whoever takes them first.
        confirmed: of each camera (session, index) of the last frame whose score the run remembers. Rows above it in
            journals of dead processes of this run are left out, since their frames will be scored again; None keeps
            all, as those of other runs are kept in any case.
        now: monotonic clock in seconds.

    Raises:
        OSError: the folders cannot be made.
    """

    is_storage: ClassVar[bool] = True

    def __init__(
        self,
        root: Path,
        *,
        maps: bool,
        rotate_s: float,
        run: str = "",
        scorer: int = 0,
        confirmed: Mapping[str, FrameOrder | None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._staging = staging_folder(root)
        self._maps = maps
        self._rotate_s = rotate_s
        self._run, self._scorer = run, scorer
        self._now = now
        self._journal: Journal | None = None
        self._map_shape: tuple[int, ...] | None = None  # of the journal's rows
        self._full: list[Journal | OrphanedJournal] = []  # ready to become files
        self._files: Iterator[None] | None = None  # those of the first of them, in the making
        self._retry_at = now()
        self._lost = 0
        self._last_trouble = ""
        self._rows_trouble: str | None = None
        self._files_trouble: str | None = None
        root.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(parents=True, exist_ok=True)
        self._replay(confirmed)

    @property
    def trouble(self) -> Trouble | None:
        """Why rows or files cannot be written at present; None where they can."""
        trouble = self._rows_trouble or self._files_trouble
        return None if trouble is None else Trouble(f"Parquet {self._root}", f"Parquet {self._root}: {trouble}")

    @property
    def rows_lost(self) -> int:
        """Rows that could not be written."""
        return self._lost

    def write(self, scores: Sequence[Score]) -> None:
        """Add rows; they are with the operating system when this returns, and survive this process.

        What was written before is turned into files when it is time, for a moment per call, and never these rows:
        whether they count is only known once the scorer has committed the states that belong to them.
        """
        now = self._now()
        if self._journal is not None and self._journal.is_due(now, self._rotate_s, _ROTATE_BYTES):
            self._rotate()
            self._retry_at = now
        if self._full and now >= self._retry_at:
            self._convert_to_files(_SLICE_S)
        if not scores:
            return
        try:
            self._append(scores)
            self._rows_trouble = None
        except OSError as error:  # a full disk must not stop the scorer
            self._lost += len(scores)
            self._rows_trouble = self._note_trouble(error)

    def maintain(self) -> None:
        """Turn into files what is due, and try again what failed."""
        self.write([])

    def close(self, timeout_s: float = math.inf) -> None:
        """Turn the journal into files; what cannot be turned in time stays a journal, for the next sink to replay.

        Args:
            timeout_s: no file is begun later than that.
        """
        self._rotate()
        self._convert_to_files(timeout_s)
        for journal in self._full:
            journal.close()
        try:
            self._staging.rmdir()
        except OSError as error:  # holds a journal: of another run, or one that could not be turned into files
            _log.debug("%s stays: %s", self._staging, error)

    def unwritten(self) -> list[str]:
        """Rows that could not be written."""
        lines = []
        if self._lost:
            lines.append(f"{self._lost} rows could not be written to {self._root} ({self._last_trouble})")
        if self._full:
            rows = sum(journal.rows for journal in self._full)
            why = self._last_trouble or "there was no time left"
            lines.append(f"{rows} rows still wait in {self._staging} ({why}); the next run replays them")
        return [f"Parquet: {line}" for line in lines]

    def _replay(self, confirmed: Mapping[str, FrameOrder | None] | None) -> None:
        """Turn journals of processes that died into files; those that cannot be now are tried again later."""
        remove_unlocked(self._staging)
        for path in sorted(self._staging.glob(f"*{JOURNAL_SUFFIX}")):
            if is_of_other_scorer(path, self._run, self._scorer) or (journal := adopt(path)) is None:
                continue
            _log.info("replaying %s, which a process that died left", path)
            try:
                journal.leave_out_unconfirmed(self._run, confirmed)
                self._full.append(journal)
            except OSError as error:
                self._note_trouble(error)
                journal.close()
        self._convert_to_files(_SLICE_S)

    def _append(self, scores: Sequence[Score]) -> None:
        for journal in self._full:
            journal.truncate()  # or rows of a journal that could not be cut at the start would soon be there twice
        shape = scores[0].anomaly_map.shape if self._maps and scores[0].anomaly_map is not None else None
        if shape != self._map_shape:
            self._rotate()  # a file's maps are of one shape
            self._map_shape = shape
        if self._journal is None:
            self._journal = Journal(self._staging, journal_schema(shape, self._run, self._scorer), self._now())
        self._journal.append(rows_batch(scores, shape, self._journal.schema))

    def _rotate(self) -> None:
        if self._journal is not None:
            self._full.append(self._journal)
            self._journal = None

    def _convert_to_files(self, longest_s: float) -> None:
        """Go on making files, of the oldest journal first, until the time is up or all are made.

        After a slice of time as long a pause follows, in which the scorer scores.
        """
        began = self._now()
        try:
            while self._full:
                if self._files is None:
                    self._full[0].truncate()
                    self._files = _convert(self._full[0].path, self._root)
                for _ in self._files:
                    if self._now() - began >= longest_s:
                        self._retry_at = self._now() + longest_s
                        return
                self._files = None
                self._full.pop(0).close()
            self._files_trouble = None
        except OSError as error:  # the journals keep the rows
            self._files = None
            self._retry_at = self._now() + min(_RETRY_S, self._rotate_s)
            self._files_trouble = self._note_trouble(error)

    def _note_trouble(self, error: OSError) -> str:
        if str(error) != self._last_trouble:
            _log.error("Parquet %s: %s", self._root, error)
        self._last_trouble = str(error)
        return self._last_trouble


def staging_folder(root: Path) -> Path:
    """Where journals of a data set live: beside it, on the same file system."""
    return root.parent / f".{root.name}-staging"


def discard_journals(root: Path) -> None:
    """Delete what dead processes left for a data set that is to be written anew."""
    remove_unlocked(staging_folder(root))
    for path in staging_folder(root).glob(f"*{JOURNAL_SUFFIX}"):
        if (journal := adopt(path)) is not None:
            _staged(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            journal.close()


def _staged(journal: Path) -> Path:
    return journal.with_suffix(".parquet")


def _convert(journal: Path, root: Path) -> Iterator[None]:
    """Turn a journal into files, one per step, and delete it; interrupted at any point, doing it again gives the same.

    Raises:
        OSError: a file cannot be written, or the journal not be read.
    """
    for camera_id, day, number, part in _parts(journal):
        folder = root / f"camera={camera_id}" / f"date={day}"
        name = f"part-{journal.stem}{f'-{number}' if number else ''}.parquet"
        _write_whole(for_readers(part), _staged(journal), folder / name)
        yield
    journal.unlink()


def _parts(journal: Path) -> Iterator[tuple[str, str, int, pa.Table]]:
    """A journal's rows by camera and day, each part in the order of its frames.

    Where one model followed another, there are further parts of the same camera and day, which are numbered.
    """
    batches, _ = read_journal(journal)
    if not batches:
        return
    table = pa.Table.from_batches(batches)
    days = pa.array([_utc_day(at_s) for at_s in table["captured_at_s"].to_pylist()], pa.string())
    order = [(name, "ascending") for name in ("camera_id", "day", "session", "index")]
    table = table.append_column("day", days).sort_by(order)  # once: sorting per camera costs a pass over all rows each
    names = zip(*(table[name].to_pylist() for name in ("camera_id", "day", "model")), strict=True)
    table = table.drop_columns(["day"])
    begin, parts = 0, Counter[tuple[str, str]]()
    for (camera_id, day, _), rows in groupby(names):
        count = sum(1 for _ in rows)
        yield camera_id, day, parts[camera_id, day], table.slice(begin, count)
        parts[camera_id, day] += 1
        begin += count


def _utc_day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()


def _write_whole(table: pa.Table, staged: Path, target: Path) -> None:
    is_new = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    encoding = {f"{MAP}.list.element": "BYTE_STREAM_SPLIT"} if MAP in table.schema.names else None
    try:
        with staged.open("wb") as file:
            pq.write_table(
                table,
                file,
                compression="zstd",
                use_dictionary=["camera_id", "event_id", "model", *MAP_SHAPE],  # pyright: ignore[reportArgumentType] # a list is documented
                column_encoding=encoding,
                write_page_checksum=True,
            )
        sync(staged)
        staged.replace(target)
    except BaseException:
        staged.unlink(missing_ok=True)  # a part of a file would hold the room that rows may find
        raise
    for folder in (target.parent, *(target.parents[1:3] if is_new else ())):  # new folders must last, too
        sync(folder)
