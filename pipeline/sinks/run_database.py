"""The SQLite file behind a run's store: for one process alone, repaired, and read even where it cannot be written.

WAL with ``synchronous=NORMAL``: a commit is a write to the log without a sync, which outlives the process whatever
kills it. Only a power cut may take the last commits, and leaves the file consistent; ``OFF`` could leave it damaged
then, and saves no more than a sync per thousand pages. ``locking_mode=EXCLUSIVE`` keeps a second scorer out and needs
no ``-shm`` file, so the file opens on a full disk, too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RunError
from pipeline.sinks.alert_outbox import OUTBOX_TABLES

_log = logging.getLogger(__name__)

DiskError = (sqlite3.Error, OSError)
"""What a full, read-only or broken disk raises here."""

_LAYOUT = 3  # user_version; another one is not ours to read
_LOCK_WITHIN_S = 5.0  # a scorer that was killed may take a moment to be gone
_TABLES = (
    """
CREATE TABLE IF NOT EXISTS states (run TEXT, camera_id TEXT, state TEXT NOT NULL, PRIMARY KEY (run, camera_id));
CREATE TABLE IF NOT EXISTS run_state (run TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (run, key));
"""
    + OUTBOX_TABLES
)


class RunDatabase:
    """The file. Not for several threads at a time.

    Args:
        path: the file; made for this user alone when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """Everything done in the block is kept, or nothing of it.

        A file that turns out to be damaged is moved aside; the next transaction begins with an empty one.

        Raises:
            sqlite3.Error: the disk is full, read-only or broken, or the file is damaged or locked.
            OSError: the folder cannot be made or entered.
        """
        try:
            if self._connection is None:
                self._connection = _open(self.path)
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._roll_back()
            if is_damage(error):
                self.move_aside(error)
            raise
        except BaseException:
            self._roll_back()
            raise

    @contextmanager
    def copy(self) -> Generator[sqlite3.Connection, None, None]:
        """What the file holds, from a copy elsewhere: SQLite cannot read a log on a disk that it cannot write.

        Raises:
            sqlite3.Error: the copy cannot be read.
            OSError: there is no room for a copy either.
        """
        with tempfile.TemporaryDirectory(prefix="cflow-") as folder:
            for path in _files(self.path):
                shutil.copyfile(path, Path(folder) / path.name)
            with contextlib.closing(_open(Path(folder) / self.path.name)) as connection:
                yield connection

    def move_aside(self, error: Exception) -> None:
        """Keep a damaged file under another name, for whoever wants to look at it.

        Raises:
            OSError: it cannot be renamed.
        """
        self.close()
        at_ms = time.time_ns() // 1_000_000
        for path in _files(self.path):
            path.rename(path.with_name(f"{path.name}.damaged-{at_ms}"))
        _log.warning(
            "%s is damaged (%s): moved to %s.damaged-%d, a fresh one is begun", self.path, error, self.path.name, at_ms
        )

    def close(self) -> None:
        """Release the file and its lock; a second call does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _roll_back(self) -> None:
        if self._connection is None or not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()  # what became of the transaction is settled when the file is opened again


def is_damage(error: Exception) -> bool:
    """Whether an error speaks of the file's content rather than of its disk."""
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_locked(error: Exception) -> bool:
    """Whether an error says that another process has the file."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def _files(path: Path) -> list[Path]:
    """The file and its log, as far as they are there."""
    return [file for file in (path, path.with_name(f"{path.name}-wal")) if file.exists()]


def _open(path: Path) -> sqlite3.Connection:
    if path.exists():
        with contextlib.suppress(OSError):  # a read-only disk
            path.chmod(0o600)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite gives its log the mode of the file, so that both are private from their first byte.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_LOCK_WITHIN_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        _check(connection, path)
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={_LAYOUT}; COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        error = sqlite3.DatabaseError(" ".join(found.split()))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if layout not in (0, _LAYOUT):
        raise RunError(
            f"{path}: expected a run store of layout {_LAYOUT}, got {layout}: another version wrote it; end its run "
            "with that version, or move the file away to begin anew, without the alerts that wait in it"
        )
