"""Alerts on their way: a durable queue in the run's store, of which every sink has its own end (``alert_queue``).

An alert is kept until every sink has it, but for those from which it is withheld (``withholding``). Memory is changed
first; how a change gets into the file, and what happens on a disk that is full, is ``run_store``'s.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Iterable, Mapping

from pipeline.sinks.alert_queue import AlertQueue, Change, Mirror, QueuedAlert
from pipeline.sinks.delivery_rules import DeliveryRules
from pipeline.sinks.schema import alert_object
from pipeline.sinks.withholding import WITHHOLDING_TABLES, Decided, Emission, Withholding

_log = logging.getLogger(__name__)

OUTBOX_TABLES = (
    """
CREATE TABLE IF NOT EXISTS alerts (serial INTEGER PRIMARY KEY, camera_id TEXT, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS undelivered (
    serial INTEGER, sink TEXT, receipt TEXT, PRIMARY KEY (serial, sink)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (
    run TEXT, sink TEXT, carried_over INTEGER, emitted INTEGER, delivered INTEGER, dropped INTEGER,
    withheld INTEGER,
    PRIMARY KEY (run, sink));
CREATE TABLE IF NOT EXISTS marks (sink TEXT PRIMARY KEY, mark TEXT NOT NULL);
"""
    + WITHHOLDING_TABLES
)


class AlertOutbox:
    """The queue as a whole. For the run's store, under its lock.

    Attributes:
        queues: each sink's end, by the sink's name.
        withholding: decides which sinks get what.

    Args:
        sinks: names of the sinks that get alerts; each gets all that are emitted from the first run on that has it.
        rules: of those that do not get everything, by name.
        run: name of the run.
        capacity: alerts that wait for a sink at most; the oldest are evicted and counted.
        mirror: the file.
    """

    def __init__(
        self, sinks: Collection[str], rules: Mapping[str, DeliveryRules], run: str, capacity: int, mirror: Mirror
    ) -> None:
        self.queues = {sink: AlertQueue(sink, run, mirror) for sink in sinks}
        self.withholding = Withholding(rules)
        self._run = run
        self._capacity = capacity
        self._serial = 0

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what earlier processes left, and release what waits for sinks that are no longer there."""
        known = tuple(self.queues)
        elsewhere = f"sink NOT IN ({', '.join('?' * len(known))})"
        query = f"SELECT sink, COUNT(*) FROM undelivered WHERE {elsewhere} GROUP BY sink"
        for sink, count in connection.execute(query, known):
            _log.warning(
                "%d alerts that wait for the sink %s, which the config no longer has, are dropped", count, sink
            )
        for table in ("undelivered", "marks", "counts"):
            connection.execute(f"DELETE FROM {table} WHERE {elsewhere}", known)
        connection.execute("DELETE FROM alerts WHERE serial NOT IN (SELECT serial FROM undelivered)")
        alerts = {
            serial: QueuedAlert(serial, camera_id, text)
            for serial, camera_id, text in connection.execute("SELECT serial, camera_id, text FROM alerts")
        }
        self._serial = max(alerts, default=0)
        for queue in self.queues.values():
            queue.load(connection, alerts)
        self.withholding.load(connection)

    def emit(self, decided: Decided) -> Change:
        """Add what was decided to be said, in order.

        Returns:
            The change of the file that belongs to it, for the transaction that writes the states it follows from.
        """
        self.withholding.apply(decided)
        new = [_queued(each, self._serial + 1 + i) for i, each in enumerate(decided.emissions)]
        self._serial += len(new)
        taken: dict[str, list[QueuedAlert]] = {}
        gone: dict[str, list[int]] = {}
        for sink, queue in self.queues.items():
            said = zip(new, decided.emissions, strict=True)
            meant = [(alert, each.withheld) for alert, each in said if each.is_meant_for(sink)]
            taken[sink] = [alert for alert, withheld in meant if sink not in withheld]
            counted = queue.counts.dropped
            gone[sink] = queue.add(taken[sink], self._capacity, withheld=len(meant) - len(taken[sink]))
            if gone[sink] and not counted:
                _log.error("%d alerts wait for the sink %s; the oldest are lost from now on", self._capacity, sink)
        needed = {alert.serial: alert for alerts in taken.values() for alert in alerts}

        def change(connection: sqlite3.Connection) -> None:
            self.withholding.write(connection, decided.told)
            if not new:
                return
            _insert(connection, needed.values())
            for sink, queue in self.queues.items():
                connection.executemany(
                    "INSERT INTO undelivered VALUES (?, ?, NULL)", [(alert.serial, sink) for alert in taken[sink]]
                )
                queue.delete(connection, gone[sink])
                queue.write_counts(connection)

        return change

    def write_all(self, connection: sqlite3.Connection) -> None:
        """Make the file hold what memory holds."""
        for table in ("alerts", "undelivered", "marks"):
            connection.execute(f"DELETE FROM {table}")
        held = {serial: alert for queue in self.queues.values() for serial, alert in queue.held.items()}
        _insert(connection, held.values())
        self.write_counts(connection)
        for queue in self.queues.values():
            queue.write_all(connection)
        self.withholding.write_all(connection)

    def write_counts(self, connection: sqlite3.Connection) -> None:
        """Begin the counts of this run, and forget those of others."""
        connection.execute("DELETE FROM counts WHERE run != ?", (self._run,))
        for queue in self.queues.values():
            queue.write_counts(connection)


def _queued(emission: Emission, serial: int) -> QueuedAlert:
    said = alert_object(emission.said, emission.withheld)
    return QueuedAlert(serial, said["camera_id"], json.dumps(said))


def _insert(connection: sqlite3.Connection, alerts: Iterable[QueuedAlert]) -> None:
    connection.executemany(
        "INSERT INTO alerts VALUES (?, ?, ?)", [(alert.serial, alert.camera_id, alert.text) for alert in alerts]
    )
