"""What each sink was told of each camera, kept in the run's store: by it alerts are withheld, and told in digests.

For the outbox, under its lock.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.alerts import Alert, Digest, Notice
from pipeline.sinks.delivery_rules import DeliveryRules, Told

_log = logging.getLogger(__name__)

WITHHOLDING_TABLES = """
CREATE TABLE IF NOT EXISTS told (sink TEXT, camera_id TEXT, told TEXT NOT NULL, PRIMARY KEY (sink, camera_id));
"""

AllTold = Mapping[tuple[str, str], Told]
"""By sink and camera."""


@dataclass(frozen=True, slots=True)
class Emission:
    """Something to be said.

    Attributes:
        said: what.
        withheld: names of the sinks that do not get it, in the order of the run's sinks.
        only_to: the sink that alone gets it, and counts it; None for all.
    """

    said: Alert | Notice | Digest
    withheld: tuple[str, ...] = ()
    only_to: str | None = None

    def is_meant_for(self, sink: str) -> bool:
        """Whether the sink counts it, be it withheld or not."""
        return self.only_to in (None, sink)


@dataclass(frozen=True, slots=True)
class Decided:
    """What is to be said to whom, and what they were told of cameras then.

    Attributes:
        emissions: in order.
        told: of the cameras of which something has changed.
    """

    emissions: list[Emission] = field(default_factory=list[Emission])
    told: dict[tuple[str, str], Told] = field(default_factory=dict[tuple[str, str], Told])


class Withholding:
    """Decides by each sink's rules.

    Args:
        rules: of the sinks that have any, by name.
    """

    def __init__(self, rules: Mapping[str, DeliveryRules]) -> None:
        self._rules = {name: each for name, each in rules.items() if not each.withhold_nothing}
        self._told: dict[tuple[str, str], Told] = {}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def decide(self, alerts: Iterable[Alert | Notice]) -> Decided:
        """What becomes of alerts, each after the digests of its camera that are due. Changes nothing.

        Args:
            alerts: in order.
        """
        decided = Decided()
        for alert in alerts:
            if isinstance(alert, Notice):
                refusing = [sink for sink, rules in self._rules.items() if not rules.wants_notice(alert)]
            else:
                refusing = [sink for sink in self._rules if not self._is_delivered(sink, alert, decided)]
            decided.emissions.append(Emission(alert, tuple(refusing)))
        return decided

    def digests(self, now_s: float, *, at_once: bool) -> Decided:
        """The digests that are due. Changes nothing.

        Args:
            now_s: Unix time.
            at_once: whether those that are to come later are due, too.
        """
        decided = Decided()
        for (sink, camera_id), told in self._told.items():
            if told.gathered is not None:
                self._tell(sink, camera_id, now_s, decided, at_once=at_once)
        return decided

    def withheld_from(self, camera_id: str, event_id: str, decided: Decided) -> tuple[str, ...]:
        """Names of the sinks that are not told of an event, once something was decided."""
        return tuple(sink for sink in self._rules if event_id not in self._of(sink, camera_id, decided).admitted)

    def apply(self, decided: Decided) -> None:
        """Make it so, in memory."""
        self._told.update(decided.told)

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what earlier processes left."""
        self._told = {}
        with_rules = tuple(self._rules)
        connection.execute(f"DELETE FROM told WHERE sink NOT IN ({', '.join('?' * len(with_rules))})", with_rules)
        for sink, camera_id, text in connection.execute("SELECT sink, camera_id, told FROM told"):
            try:
                self._told[sink, camera_id] = Told.of_json(text)
            except ValueError as error:  # it tells once more, or withholds nothing: no reason to lose the run
                _log.error("sink %s, camera %s: %s", sink, camera_id, error)

    def write(self, connection: sqlite3.Connection, told: AllTold) -> None:
        """Write what sinks were told."""
        rows = [(sink, camera_id, each.as_json()) for (sink, camera_id), each in told.items()]
        connection.executemany("INSERT OR REPLACE INTO told VALUES (?, ?, ?)", rows)

    def write_all(self, connection: sqlite3.Connection) -> None:
        """Make the file hold what memory holds."""
        connection.execute("DELETE FROM told")
        self.write(connection, self._told)

    def _is_delivered(self, sink: str, alert: Alert, decided: Decided) -> bool:
        camera_id = alert.event.camera_id
        self._tell(sink, camera_id, alert.emitted_at_s, decided)
        told = self._of(sink, camera_id, decided)
        decision = self._rules[sink].decide(told, alert)
        if decision.told != told:
            decided.told[sink, camera_id] = decision.told
        return decision.is_delivered

    def _tell(self, sink: str, camera_id: str, now_s: float, decided: Decided, *, at_once: bool = False) -> None:
        """Decide on the digest of a camera."""
        before = self._of(sink, camera_id, decided)
        digest, told = self._rules[sink].digest(before, camera_id, now_s, at_once=at_once)
        if told != before:
            decided.told[sink, camera_id] = told
        if digest is not None:
            decided.emissions.append(Emission(digest, only_to=sink))

    def _of(self, sink: str, camera_id: str, decided: Decided) -> Told:
        return decided.told.get((sink, camera_id)) or self._told.get((sink, camera_id)) or Told()
