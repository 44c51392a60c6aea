"""What a run must not forget when its scorer dies: its state, its cameras' states, and alerts not delivered yet.

Everything is held in memory and every change is written to SQLite before anybody acts on it. A disk that is full or
read-only therefore stops nothing: memory goes on, and the first change that finds room again writes all of it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.alerts import Alert, Notice
from pipeline.errors import RunError
from pipeline.sinks.alert_outbox import AlertOutbox
from pipeline.sinks.alert_queue import AlertQueue, Change
from pipeline.sinks.delivery_rules import DeliveryRules
from pipeline.sinks.run_database import DiskError, RunDatabase, is_damage, is_locked
from pipeline.sinks.saved_run_state import SavedRunState
from pipeline.types import Score

_log = logging.getLogger(__name__)

_PATIENCE = 10.0  # while writing fails, trying again takes at most this share of the time: one part in ten


class RunStore:
    """State of a run, states of its cameras and the outbox of alerts, in one file. For any thread.

    States belong to a run; the outbox belongs to the file, so that what an earlier run could not deliver goes first.

    Args:
        path: the file, private to this user.
        run: name of the run.
        sinks: names of the sinks that get alerts.
        rules: by which alerts are withheld from some of these, by name.
        alerts_capacity: alerts that wait for a sink at most; the oldest are evicted and counted.

    Raises:
        RunError: another process has the file, another version wrote it, or what it holds cannot be read at present.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        sinks: Collection[str],
        rules: Mapping[str, DeliveryRules] | None = None,
        *,
        alerts_capacity: int = 50_000,
    ) -> None:
        self._run = run
        self._lock = threading.RLock()
        self._database = RunDatabase(path)
        self._states: dict[str, str] = {}
        self._run_state = SavedRunState()
        self._abandoned: dict[str, str] = {}
        self._abandoned_run = SavedRunState()
        self._outbox = AlertOutbox(sinks, rules or {}, run, alerts_capacity, self)
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
    def lock(self) -> threading.RLock:
        """Guards memory and file."""
        return self._lock

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be remembered any more."""
        return self._closed

    @property
    def run_state(self) -> SavedRunState:
        """This run's state as last committed."""
        return self._run_state

    @property
    def abandoned_run(self) -> SavedRunState:
        """State of the newest earlier run that left any."""
        return self._abandoned_run

    def states(self) -> dict[str, str]:
        """This run's camera states as last committed; empty for a new run."""
        with self._lock:
            return dict(self._states)

    def abandoned(self) -> dict[str, str]:
        """Camera states of earlier runs that were killed whole; of two for one camera the later."""
        with self._lock:
            return dict(self._abandoned)

    def alerts(self, sink: str) -> AlertQueue:
        """A sink's end of the outbox."""
        return self._outbox.queues[sink]

    def forget_abandoned(self, alerts: Sequence[Alert | Notice] = ()) -> None:
        """Drop what earlier runs left, and in the same step emit the alerts that end their events.

        Args:
            alerts: in order.
        """
        with self._lock:
            self._abandoned, self._abandoned_run = {}, SavedRunState()
            self._commit({}, alerts, None, forget="run != ?")

    def commit(
        self, states: Mapping[str, str], alerts: Sequence[Alert | Notice], run_state: SavedRunState | None = None
    ) -> None:
        """Remember states and emit alerts, all or none of it. A disk fault is no error: see ``trouble``.

        Args:
            states: camera id to its state, a text, of the cameras that changed.
            alerts: in order.
            run_state: of the run; None where it has not changed.
        """
        with self._lock:
            self._states.update(states)
            self._commit(states, alerts, run_state)

    def emit_digests(self, now_s: float, *, at_once: bool = False) -> bool:
        """Emit the digests that are due; whether there were any.

        Args:
            now_s: Unix time.
            at_once: whether those that are to come later are due, too: nobody else may tell them.
        """
        with self._lock:
            decided = self._outbox.withholding.digests(now_s, at_once=at_once)
            if decided.told:
                self.save(self._outbox.emit(decided))
            return bool(decided.emissions)

    def marked(self, scores: Sequence[Score], alerts: Iterable[Alert | Notice]) -> Sequence[Score]:
        """Scores with the sinks that are not told of the event that each is of.

        Args:
            scores: of frames.
            alerts: that follow from these, and will be committed next.
        """
        with self._lock:
            rules = self._outbox.withholding
            if not rules or all(score.event_id is None for score in scores):
                return scores
            decided = rules.decide(alerts)
            return [
                score
                if score.event_id is None
                else replace(score, withheld=rules.withheld_from(score.header.camera_id, score.event_id, decided))
                for score in scores
            ]

    def end_run(self, last: SavedRunState | None = None) -> None:
        """Forget the states of a run that ended in good order; alerts that wait stay.

        Args:
            last: of the run, for a process of it that is started once more, until the next run begins.
        """
        with self._lock:
            self._states = {}
            self._retry_at = 0.0
            self._commit({}, (), last or SavedRunState(), forget="run = ?")

    def close(self) -> None:
        """Release the file; a second call does nothing. Later calls change memory alone and give out no alerts."""
        with self._lock:
            if not self._closed and self._behind:
                self._retry_at = 0.0
                self.save(lambda connection: None)
            self._closed = True
            self._database.close()

    def save(self, change: Change) -> None:
        """Carry out a change of the file that memory has had, or, after one that failed, bring all of it up to date.

        Args:
            change: of the file; only to be called with ``lock`` held.
        """
        started = time.monotonic()
        if self._closed or (self._behind and started < self._retry_at):
            return
        try:
            with self._database.transaction() as connection:
                (self._write_all if self._behind else change)(connection)
        except DiskError as error:
            self._fail(error, time.monotonic() - started)
        else:
            if self._trouble is not None:
                _log.info("%s: written again", self._database.path)
            self._behind, self._trouble = False, None

    # Reading the file at the start.

    def _open(self, path: Path) -> None:
        try:
            try:
                self._load_and_begin()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._load_and_begin()  # the damaged file has been moved aside
        except DiskError as error:
            if is_locked(error):
                raise RunError(f"{path}: expected a run store of its own, but another process uses it") from error
            self._load_copy(path, error)
            self._fail(error, took_s=0.0)
        for sink, queue in self._outbox.queues.items():
            if waiting := queue.counts.waiting:
                _log.info("%s: %d alerts of an earlier process wait for the sink %s", path, waiting, sink)

    def _load_and_begin(self) -> None:
        with self._database.transaction() as connection:
            self._load(connection)
            self._outbox.write_counts(connection)

    def _load_copy(self, path: Path, cause: Exception) -> None:
        """Read what cannot be written now; to begin with nothing would score frames twice and lose alerts."""
        if not (path.exists() and path.stat().st_size):
            return
        try:
            with self._database.copy() as connection:
                self._load(connection)
        except DiskError:
            raise RunError(f"{path}: expected to read the run store, got: {cause}") from cause

    def _load(self, connection: sqlite3.Connection) -> None:
        self._states, self._abandoned = {}, {}
        for run, camera_id, state in connection.execute("SELECT run, camera_id, state FROM states ORDER BY rowid"):
            (self._states if run == self._run else self._abandoned)[camera_id] = state
        rows: dict[str, str] = {}
        abandoned: dict[str, str] = {}
        for run, key, value in connection.execute("SELECT run, key, value FROM run_state ORDER BY rowid"):
            (rows if run == self._run else abandoned)[key] = value
        self._run_state, self._abandoned_run = SavedRunState.from_rows(rows), SavedRunState.from_rows(abandoned)
        self._outbox.load(connection)

    # Writing changes. Memory is changed first, under the lock that the readers of the outbox need, too.

    def _commit(
        self,
        states: Mapping[str, str],
        alerts: Sequence[Alert | Notice],
        run_state: SavedRunState | None,
        forget: str | None = None,
    ) -> None:
        if run_state is not None:
            self._run_state = run_state
        emitted = self._outbox.emit(self._outbox.withholding.decide(alerts))

        def change(connection: sqlite3.Connection) -> None:
            if forget is not None:
                connection.execute(f"DELETE FROM states WHERE {forget}", (self._run,))
                connection.execute(f"DELETE FROM run_state WHERE {forget}", (self._run,))
            self._write_states(connection, states)
            if run_state is not None:
                self._write_run_state(connection, run_state)
            emitted(connection)

        self.save(change)

    def _fail(self, error: Exception, took_s: float) -> None:
        self._behind = True
        self._retry_at = time.monotonic() + _PATIENCE * took_s
        before, self._trouble = self._trouble, f"{self._database.path}: {error}; scoring goes on from memory"
        if self._trouble != before:
            _log.error("%s", self._trouble)

    def _write_all(self, connection: sqlite3.Connection) -> None:
        for table in ("states", "run_state"):
            if not self._abandoned and self._abandoned_run == SavedRunState():
                connection.execute(f"DELETE FROM {table}")
            connection.execute(f"DELETE FROM {table} WHERE run = ?", (self._run,))
        self._write_states(connection, self._states)
        self._write_run_state(connection, self._run_state)
        self._outbox.write_all(connection)

    def _write_states(self, connection: sqlite3.Connection, states: Mapping[str, str]) -> None:
        connection.executemany(
            "INSERT INTO states VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state",
            [(self._run, camera_id, state) for camera_id, state in states.items()],
        )

    def _write_run_state(self, connection: sqlite3.Connection, state: SavedRunState) -> None:
        connection.executemany(
            "INSERT INTO run_state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            [(self._run, key, value) for key, value in state.rows().items()],
        )
