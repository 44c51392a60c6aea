"""One sink's end of the outbox: the alerts that it does not have yet, in order, and what became of the others.

What a sink needs to tell an attempt whose answer was lost from one that never arrived, it keeps here as a receipt, a
text that nobody else reads.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Protocol

_BATCH = 100  # alerts that a sink takes at a time: more gains nothing

Change = Callable[[sqlite3.Connection], None]
"""What is to be done in a transaction of the file."""


@dataclass(frozen=True, slots=True)
class AlertCounts:
    """What became of a run's alerts at one sink.

    ``carried_over + emitted = delivered + withheld + dropped + waiting``, always.

    Attributes:
        carried_over: alerts that earlier runs had left undelivered when this one began.
        emitted: alerts of this run, from its first process on, with digests that are this sink's alone.
        delivered: alerts that the sink confirmed.
        dropped: alerts that were evicted in a full queue.
        withheld: alerts that the sink's rules keep from it.
    """

    carried_over: int = 0
    emitted: int = 0
    delivered: int = 0
    dropped: int = 0
    withheld: int = 0

    @property
    def waiting(self) -> int:
        """Alerts not delivered yet."""
        return self.carried_over + self.emitted - self.delivered - self.withheld - self.dropped

    def as_json(self) -> dict[str, int]:
        """As ``cflow:run`` shows them (docs/alerts.md)."""
        return {
            "emitted": self.emitted,
            "delivered": self.delivered,
            "withheld": self.withheld,
            "dropped": self.dropped,
            "waiting": self.waiting,
        }


@dataclass(frozen=True, slots=True)
class QueuedAlert:
    """An alert on its way.

    Attributes:
        serial: its place in the order of all alerts.
        camera_id: of the camera, or None where the run itself is meant.
        text: what it says, JSON as docs/alerts.md has it.
    """

    serial: int
    camera_id: str | None
    text: str


class Mirror(Protocol):
    """The file that mirrors what the outbox holds in memory."""

    @property
    def lock(self) -> threading.RLock:
        """Guards memory and file."""
        ...

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be remembered any more."""
        ...

    def save(self, change: Change) -> None:
        """Carry out a change of the file."""
        ...


class AlertQueue:
    """One sink's end of the outbox. Its methods may be called by any thread.

    Attributes:
        held: serial to alert, of those that the sink does not have yet; for the outbox, under the lock.

    Args:
        sink: the sink's name.
        run: name of the run, whose alerts are counted.
        mirror: the file.
    """

    def __init__(self, sink: str, run: str, mirror: Mirror) -> None:
        self._sink = sink
        self._run = run
        self._mirror = mirror
        self.held: OrderedDict[int, QueuedAlert] = OrderedDict()
        self._receipts: dict[int, str] = {}
        self._in_flight: list[int] = []  # they may be arriving, and are not evicted
        self._counts = AlertCounts()
        self._mark = ""

    @property
    def counts(self) -> AlertCounts:
        """Counts up to now, without waiting for a commit that is under way."""
        return self._counts

    @property
    def mark(self) -> str:
        """The text that the sink last left with ``keep_receipts``, also in an earlier run; empty where it never did."""
        return self._mark

    def take(self) -> list[QueuedAlert]:
        """The oldest alerts, at most a batch; the same again until they are acknowledged. None once it is closed."""
        with self._mirror.lock:
            if self._mirror.is_closed:
                return []
            if not self._in_flight:
                self._in_flight = [serial for serial, _ in zip(self.held, range(_BATCH), strict=False)]
            return [self.held[serial] for serial in self._in_flight]

    def take_next(self, skip: Collection[str | None] = ()) -> QueuedAlert | None:
        """The oldest alert of any camera but some; what was taken before and is not acknowledged waits again.

        Args:
            skip: cameras to pass over; None among them stands for alerts of the run itself.

        Returns:
            None where there is none, or once the store is closed.
        """
        with self._mirror.lock:
            found = next((alert for alert in self.held.values() if alert.camera_id not in skip), None)
            if self._mirror.is_closed or found is None:
                return None
            self._in_flight = [found.serial]
            return found

    def held_of(self, camera_id: str | None) -> list[QueuedAlert]:
        """What the sink does not have yet of a camera, or, for None, of the run itself, the oldest first."""
        with self._mirror.lock:
            return [alert for alert in self.held.values() if alert.camera_id == camera_id]

    def receipt(self, alert: QueuedAlert) -> str | None:
        """What was last kept for an alert, also by a process that died since; None where nothing was."""
        with self._mirror.lock:
            return self._receipts.get(alert.serial)

    def keep_receipts(self, receipts: Mapping[int, str], mark: str) -> bool:
        """Remember what the sink needs to know should it meet these alerts again; to be called before they are sent.

        Args:
            receipts: serial to receipt, of alerts taken.
            mark: of the sink as a whole; it outlives the alerts.

        Returns:
            False once the store is closed, when nothing can be remembered and nothing must be sent.
        """
        with self._mirror.lock:
            if self._mirror.is_closed:
                return False
            self._receipts.update(receipts)
            self._mark = mark
            rows = [(receipt, serial, self._sink) for serial, receipt in receipts.items()]

            def change(connection: sqlite3.Connection) -> None:
                connection.executemany("UPDATE undelivered SET receipt = ? WHERE serial = ? AND sink = ?", rows)
                self._write_mark(connection)

            self._mirror.save(change)
            return True

    def ack(self, alerts: Iterable[QueuedAlert]) -> None:
        """Count alerts that the sink confirmed, and forget them.

        Args:
            alerts: of those taken.
        """
        with self._mirror.lock:
            gone = [alert.serial for alert in alerts if alert.serial in self.held]
            self._forget(gone)
            self._counts = replace(self._counts, delivered=self._counts.delivered + len(gone))

            def change(connection: sqlite3.Connection) -> None:
                self.delete(connection, gone)
                self.write_counts(connection)

            self._mirror.save(change)

    # For the outbox, under the lock.

    def load(self, connection: sqlite3.Connection, alerts: Mapping[int, QueuedAlert]) -> None:
        """Read what earlier processes left of these alerts."""
        self.held, self._receipts = OrderedDict(), {}
        rows = connection.execute(
            "SELECT serial, receipt FROM undelivered WHERE sink = ? ORDER BY serial", (self._sink,)
        )
        for serial, receipt in rows:
            self.held[serial] = alerts[serial]
            if receipt is not None:
                self._receipts[serial] = receipt
        # Those with a receipt were in the sink's hands: they may have arrived.
        self._in_flight = list(self._receipts)
        counts = connection.execute(
            "SELECT carried_over, emitted, delivered, dropped, withheld FROM counts WHERE run = ? AND sink = ?",
            (self._run, self._sink),
        ).fetchone()
        self._counts = AlertCounts(*counts) if counts else AlertCounts(carried_over=len(self.held))
        (self._mark,) = connection.execute("SELECT mark FROM marks WHERE sink = ?", (self._sink,)).fetchone() or ("",)

    def add(self, alerts: Sequence[QueuedAlert], capacity: int, *, withheld: int = 0) -> list[int]:
        """Add alerts, and count those withheld; returns serials of evicted ones, the oldest that are not in flight."""
        self.held.update((alert.serial, alert) for alert in alerts)
        excess = len(self.held) - capacity
        taken = set(self._in_flight)
        gone: list[int] = []
        if excess > 0:
            gone = [serial for serial, _ in zip((s for s in self.held if s not in taken), range(excess), strict=False)]
            self._forget(gone)
        counts = self._counts
        self._counts = replace(
            counts,
            emitted=counts.emitted + len(alerts) + withheld,
            dropped=counts.dropped + len(gone),
            withheld=counts.withheld + withheld,
        )
        return gone

    def _forget(self, serials: Collection[int]) -> None:
        for serial in serials:
            self.held.pop(serial, None)
            self._receipts.pop(serial, None)
        self._in_flight = [serial for serial in self._in_flight if serial in self.held]

    def delete(self, connection: sqlite3.Connection, serials: Iterable[int]) -> None:
        """Delete alerts of this sink from the file, and those that no sink waits for."""
        rows = [(serial, self._sink) for serial in serials]
        connection.executemany("DELETE FROM undelivered WHERE serial = ? AND sink = ?", rows)
        connection.executemany(
            "DELETE FROM alerts WHERE serial = ? AND serial NOT IN (SELECT serial FROM undelivered WHERE serial = ?)",
            [(serial, serial) for serial, _ in rows],
        )

    def write_all(self, connection: sqlite3.Connection) -> None:
        """Write what memory holds into tables that hold nothing of this sink."""
        connection.executemany(
            "INSERT INTO undelivered VALUES (?, ?, ?)",
            [(serial, self._sink, self._receipts.get(serial)) for serial in self.held],
        )
        self._write_mark(connection)
        self.write_counts(connection)

    def _write_mark(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (self._sink, self._mark))

    def write_counts(self, connection: sqlite3.Connection) -> None:
        """Write the counts of this run."""
        counts = self._counts
        connection.execute(
            "INSERT OR REPLACE INTO counts (run, sink, carried_over, emitted, delivered, dropped, withheld) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._run, self._sink, *astuple(counts)),
        )
