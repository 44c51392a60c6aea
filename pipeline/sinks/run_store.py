"""What a run must not forget when its scorer dies: the cameras' states, and alerts that Redis does not have yet.

Everything is held in memory and every change is written to SQLite before anybody acts on it. A disk that is full or
read-only therefore stops nothing: memory goes on, and the first change that finds room again writes all of it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from pipeline.errors import RunError
from pipeline.sinks.redis_queue import Entry, EntryId, Lane, alert_entry, next_id
from pipeline.sinks.run_database import DiskFault, RunDatabase, is_damage, is_locked
from pipeline.sinks.schema import ALERTS_KEY
from pipeline.types import Alert, Notice

_log = logging.getLogger(__name__)

_PATIENCE = 10.0  # while writing fails, trying again takes at most this share of the time: one part in ten


@dataclass(frozen=True, slots=True)
class AlertCounts:
    """The books of a run's alerts: ``carried_over + emitted = delivered + dropped + waiting``, always.

    Attributes:
        carried_over: alerts that earlier runs had left undelivered when this one began.
        emitted: alerts of this run, from its first process on.
        delivered: alerts that Redis confirmed.
        dropped: alerts that gave way in a full queue.
    """

    carried_over: int = 0
    emitted: int = 0
    delivered: int = 0
    dropped: int = 0

    @property
    def waiting(self) -> int:
        """Alerts not delivered yet."""
        return self.carried_over + self.emitted - self.delivered - self.dropped


class RunStore:
    """States of a run's cameras and the queue of alerts, in one file. Its methods may be called by any thread.

    States belong to a run; the queue belongs to the file, so that what an earlier run could not deliver goes first.

    Args:
        path: the file, private to this user.
        run: name of the run.
        alerts_capacity: alerts that wait at most; the oldest give way and are counted.

    Raises:
        RunError: another process has the file, another version wrote it, or what it holds cannot be read at present.
    """

    def __init__(self, path: Path, run: str, *, alerts_capacity: int = 50_000) -> None:
        self._run = run
        self._capacity = alerts_capacity
        self._lock = threading.RLock()
        self._database = RunDatabase(path)
        self._states: dict[str, str] = {}
        self._abandoned: dict[str, str] = {}
        self._queue = Lane()
        self._counts = AlertCounts()
        self._last_id: EntryId = (0, 0)
        self._serial = 0
        self._closed = False
        self._trouble: str | None = None
        self._behind = False  # whether memory holds something that the file does not
        self._retry_at = 0.0  # monotonic
        self._open(path)

    @property
    def trouble(self) -> str | None:
        """One line while the file cannot be written, else None."""
        return self._trouble

    @property
    def counts(self) -> AlertCounts:
        """The books up to now, without waiting for a commit that is under way."""
        return self._counts

    def states(self) -> dict[str, str]:
        """This run's camera states as last committed; empty for a new run."""
        with self._lock:
            return dict(self._states)

    def abandoned(self) -> dict[str, str]:
        """Camera states of earlier runs that were killed whole; of two for one camera the later."""
        with self._lock:
            return dict(self._abandoned)

    def forget_abandoned(self, alerts: Sequence[Alert | Notice] = ()) -> None:
        """Drop them, and in the same step emit the alerts that end their events.

        Args:
            alerts: in order.
        """
        with self._lock:
            self._abandoned = {}
            self._commit({}, alerts, forget="run != ?")

    def commit(self, states: Mapping[str, str], alerts: Sequence[Alert | Notice]) -> None:
        """Remember states and emit alerts, all or none of it. A disk fault is no error: see ``trouble``.

        Args:
            states: camera id to its state, a text, of the cameras that changed.
            alerts: in order.
        """
        with self._lock:
            self._states.update(states)
            self._commit(states, alerts)

    def end_run(self, last: Mapping[str, str] = MappingProxyType({})) -> None:
        """Forget the states of a run that ended in good order; alerts that wait stay.

        Args:
            last: states that stay, for a process of this run that is started once more, until the next run begins.
        """
        with self._lock:
            self._states = dict(last)
            self._retry_at = 0.0
            self._commit(last, (), forget="run = ?")

    def close(self) -> None:
        """Let go of the file; a second call does nothing. Later calls change memory alone and hand out no alerts."""
        with self._lock:
            if not self._closed and self._behind:
                self._retry_at = 0.0
                self._save(lambda connection: None)
            self._closed = True
            self._database.close()

    # The queue's other end: for one writer thread.

    def take_alerts(self) -> list[Entry]:
        """The oldest alerts, at most a batch; the same again until they are settled."""
        with self._lock:
            if self._closed:
                return []
            self._queue.take()
            return list(self._queue.taken)

    def choose_ids(self, top: EntryId) -> list[Entry]:
        """Give the alerts taken their ids and remember them, so that any later process can ask whether they arrived.

        Ids lie above the stream's top and, unless they were chosen before, above every id ever chosen here: a Redis
        that comes back empty does not bring back ids that readers have left behind them.

        Args:
            top: the highest id in the stream.

        Returns:
            The alerts to send now; none once the store is closed, when nothing could be remembered.
        """
        with self._lock:
            if self._closed:
                return []
            floor, chosen = top, []
            for entry in self._queue.taken:
                if entry.sent_as is None or entry.sent_as <= floor:
                    entry.sent_as = next_id(entry.wanted, max(floor, self._last_id))
                    chosen.append(entry)
                floor = entry.sent_as
            if chosen:
                self._last_id = max(self._last_id, floor)
                self._save(lambda connection: self._write_ids(connection, chosen))
            return list(self._queue.taken)

    def settle_alerts(self, entries: Sequence[Entry]) -> None:
        """Count alerts that Redis confirmed, and forget them.

        Args:
            entries: of those taken.
        """
        with self._lock:
            gone = [(entry.serial,) for entry in entries]
            delivered = self._counts.delivered + self._queue.let_go(entries)
            self._counts = replace(self._counts, delivered=delivered)

            def change(connection: sqlite3.Connection) -> None:
                connection.executemany("DELETE FROM alerts WHERE serial = ?", gone)
                self._write_counts(connection)

            self._save(change)

    # Reading the file at the start.

    def _open(self, path: Path) -> None:
        try:
            try:
                self._load_and_begin()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._load_and_begin()  # the damaged file has been moved aside
        except DiskFault as error:
            if is_locked(error):
                raise RunError(f"{path}: expected a run store of its own, but another process uses it") from error
            self._load_copy(path, error)
            self._fail(error, took_s=0.0)
        if self._counts.waiting:
            _log.info("%s: %d alerts of an earlier process wait for delivery", path, self._counts.waiting)

    def _load_and_begin(self) -> None:
        with self._database.transaction() as connection:
            self._load(connection)
            self._write_counts(connection)

    def _load_copy(self, path: Path, cause: Exception) -> None:
        """Read what cannot be written now; to begin with nothing would score frames twice and lose alerts."""
        if not (path.exists() and path.stat().st_size):
            return
        try:
            with self._database.copy() as connection:
                self._load(connection)
        except DiskFault:
            raise RunError(f"{path}: expected to read the run store, got: {cause}") from cause

    def _load(self, connection: sqlite3.Connection) -> None:
        self._states, self._abandoned, self._queue = {}, {}, Lane()
        for run, camera_id, state in connection.execute("SELECT run, camera_id, state FROM states ORDER BY rowid"):
            (self._states if run == self._run else self._abandoned)[camera_id] = state
        for serial, text, wanted_ms, ms, number in connection.execute(
            "SELECT serial, text, wanted_ms, sent_ms, sent_number FROM alerts ORDER BY serial"
        ):
            sent_as = None if ms is None else (ms, number)
            entry = Entry(ALERTS_KEY, text, (wanted_ms, 0), sent_as, serial)
            # Those with an id were one batch in the writer's hands: they arrived all or none.
            (self._queue.waiting if sent_as is None else self._queue.taken).append(entry)
            self._serial = serial
        counts = connection.execute(
            "SELECT carried_over, emitted, delivered, dropped FROM counts WHERE run = ?", (self._run,)
        ).fetchone()
        self._counts = AlertCounts(*counts) if counts else AlertCounts(carried_over=len(self._queue))
        self._last_id = connection.execute("SELECT ms, number FROM last_id").fetchone() or (0, 0)

    # Writing changes. Memory is changed first, under the lock that the reader of the queue needs, too.

    def _commit(self, states: Mapping[str, str], alerts: Sequence[Alert | Notice], forget: str | None = None) -> None:
        new = [alert_entry(alert, self._serial + 1 + i) for i, alert in enumerate(alerts)]
        self._serial += len(new)
        self._queue.waiting.extend(new)
        gone = self._queue.give_way(max(0, len(self._queue) - self._capacity))
        if gone and not self._counts.dropped:
            _log.error("%s: %d alerts wait; the oldest are lost from now on", self._database.path, self._capacity)
        before = self._counts
        self._counts = replace(before, emitted=before.emitted + len(new), dropped=before.dropped + len(gone))

        def change(connection: sqlite3.Connection) -> None:
            if forget is not None:
                connection.execute(f"DELETE FROM states WHERE {forget}", (self._run,))
            self._write_states(connection, states)
            if new or gone:
                self._write_alerts(connection, new)
                connection.executemany("DELETE FROM alerts WHERE serial = ?", [(entry.serial,) for entry in gone])
                self._write_counts(connection)

        self._save(change)

    def _save(self, change: Callable[[sqlite3.Connection], None]) -> None:
        """Carry out a change of the file, or, after one that failed, bring all of it up to date."""
        started = time.monotonic()
        if self._closed or (self._behind and started < self._retry_at):
            return
        try:
            with self._database.transaction() as connection:
                (self._write_all if self._behind else change)(connection)
        except DiskFault as error:
            self._fail(error, time.monotonic() - started)
        else:
            if self._trouble is not None:
                _log.info("%s: written again", self._database.path)
            self._behind, self._trouble = False, None

    def _fail(self, error: Exception, took_s: float) -> None:
        self._behind = True
        self._retry_at = time.monotonic() + _PATIENCE * took_s
        before, self._trouble = self._trouble, f"{self._database.path}: {error}; scoring goes on from memory"
        if self._trouble != before:
            _log.error("%s", self._trouble)

    def _write_all(self, connection: sqlite3.Connection) -> None:
        if not self._abandoned:
            connection.execute("DELETE FROM states")
        connection.execute("DELETE FROM states WHERE run = ?", (self._run,))
        self._write_states(connection, self._states)
        connection.execute("DELETE FROM alerts")
        self._write_alerts(connection, [*self._queue.taken, *self._queue.waiting])
        self._write_ids(connection, self._queue.taken)
        self._write_counts(connection)

    def _write_states(self, connection: sqlite3.Connection, states: Mapping[str, str]) -> None:
        connection.executemany(
            "INSERT INTO states VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state",
            [(self._run, camera_id, state) for camera_id, state in states.items()],
        )

    def _write_alerts(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        connection.executemany(
            "INSERT INTO alerts VALUES (?, ?, ?, NULL, NULL)",
            [(entry.serial, entry.text, entry.wanted[0]) for entry in entries],
        )

    def _write_ids(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        connection.executemany(
            "UPDATE alerts SET sent_ms = ?, sent_number = ? WHERE serial = ?",
            [(*(entry.sent_as or (None, None)), entry.serial) for entry in entries],
        )
        connection.execute("INSERT OR REPLACE INTO last_id VALUES (1, ?, ?)", self._last_id)

    def _write_counts(self, connection: sqlite3.Connection) -> None:
        counts = self._counts
        connection.execute("DELETE FROM counts WHERE run != ?", (self._run,))
        connection.execute(
            "INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?, ?)",
            (self._run, counts.carried_over, counts.emitted, counts.delivered, counts.dropped),
        )
