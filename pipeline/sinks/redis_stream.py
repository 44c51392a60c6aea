"""Scores and alerts to Redis Streams: never in the way of scoring, in order, each once.

One daemon thread delivers: alerts from the outbox, where they are safe, and scores from a queue in memory, whose
oldest are evicted, counted, while Redis is away, full or read-only.

Why an entry is not stored twice: every id is chosen here before the first attempt and kept over all retries, so that an
attempt whose answer got lost can be told from one that never arrived. A score's id is ``<Unix ms of capture>-<index>``,
which the same frame gets again even in another process; an alert's is in the outbox before it is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from pipeline.backoff import Backoff
from pipeline.redaction import redact
from pipeline.sinks.alert_queue import AlertCounts, AlertQueue
from pipeline.sinks.base import Outage, Reason, Sink, SinkContext, SinkSettings
from pipeline.sinks.redis_alerts import AlertStream
from pipeline.sinks.redis_scores import ScoreQueue
from pipeline.sinks.redis_servers import RedisServers
from pipeline.sinks.redis_trouble import explain
from pipeline.sinks.schema import ALERTS_KEY, scores_key
from pipeline.types import Score, Trouble

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
_AWAY_AFTER_S = 2.0  # how long closing waits for a Redis that does not answer


@dataclass(frozen=True, slots=True)
class RedisStats:
    """What became of everything written. ``alerts_carried_over + alerts_emitted`` is the sum of the other alerts.

    Attributes:
        scores_delivered: score entries that Redis confirmed to this process.
        scores_dropped: score entries that were evicted in a full queue or that Redis will never take.
        scores_waiting: score entries not delivered yet.
        alerts_carried_over: alerts that earlier runs had left undelivered.
        alerts_emitted: alerts of the run, also those of its earlier processes, as are the next two.
        alerts_delivered: alerts that Redis confirmed.
        alerts_dropped: alerts that were evicted in a full store.
        alerts_waiting: alerts not delivered yet.
    """

    scores_delivered: int
    scores_dropped: int
    scores_waiting: int
    alerts_carried_over: int
    alerts_emitted: int
    alerts_delivered: int
    alerts_dropped: int
    alerts_waiting: int


class RedisSinkSettings(SinkSettings):
    """A Redis, as the config's ``redis`` has it.

    Attributes:
        url: address, as ``parse_redis_address`` reads it; a secret, it may hold a password.
        scores_maxlen: entries kept per camera, approximately.
        alerts_maxlen: alerts kept, approximately.
    """

    kind: str = "redis"
    url: SecretStr
    scores_maxlen: int = 100_000
    alerts_maxlen: int = 10_000

    def open(self, context: SinkContext) -> RedisSink:
        """Make the sink.

        Raises:
            RedisError: the address is not one.
        """
        assert context.alerts is not None
        return RedisSink(
            self.url.get_secret_value(),
            alerts=context.alerts,
            scores_maxlen=self.scores_maxlen,
            alerts_maxlen=self.alerts_maxlen,
        )


class RedisSink(Sink):
    """Writes the streams of ``docs/alerts.md``. Its methods may be called by any thread.

    Args:
        url: address, as ``parse_redis_address`` reads it. Nothing is sent before there is something to send; use
            ``check_redis`` to fail early.
        alerts: where alerts come from; what is left there when this closes waits for the next run.
        scores_maxlen: entries kept per camera, approximately.
        alerts_maxlen: alerts kept, approximately.
        capacity: scores that wait at most (about 1 kB of memory each).

    Raises:
        RedisError: the address is not one.
    """

    def __init__(
        self,
        url: str,
        *,
        alerts: AlertQueue,
        scores_maxlen: int = 100_000,
        alerts_maxlen: int = 10_000,
        capacity: int = 100_000,
    ) -> None:
        self._servers = RedisServers(url, retries=1)  # the writer tries again by itself
        self._redacted_url = redact(url)
        self._alerts = alerts
        self._stream = AlertStream(alerts, alerts_maxlen)
        self._changed = threading.Condition()  # guards everything below but what the writer thread alone uses
        self._scores = ScoreQueue(self._changed, self._redacted_url, maxlen=scores_maxlen, capacity=capacity)
        self._closing = False
        self._outage = Outage(f"Redis {self._redacted_url}")  # the writer's to change
        self._writer = threading.Thread(target=self._run, name="redis-writer", daemon=True)
        self._writer.start()

    @property
    def trouble(self) -> Trouble | None:
        """Why nothing is delivered at present, without credentials; None when all is well."""
        return self._outage.trouble

    @property
    def alert_counts(self) -> AlertCounts:
        """What became of the alerts."""
        return self._alerts.counts

    @property
    def rows_lost(self) -> int:
        """Scores that were evicted in a full queue, or that Redis will never take."""
        return self._scores.dropped

    def write(self, scores: Sequence[Score]) -> None:
        """Queue scores and return at once; a frame that was written before is skipped."""
        self._scores.add(scores)

    def wake(self) -> None:
        """Say that the outbox has new alerts."""
        with self._changed:
            self._changed.notify_all()

    def stats(self) -> RedisStats:
        """Counts up to now."""
        with self._changed:
            alerts = self._alerts.counts
            return RedisStats(
                scores_delivered=self._scores.delivered,
                scores_dropped=self._scores.dropped,
                scores_waiting=len(self._scores),
                alerts_carried_over=alerts.carried_over,
                alerts_emitted=alerts.emitted,
                alerts_delivered=alerts.delivered,
                alerts_dropped=alerts.dropped,
                alerts_waiting=alerts.waiting,
            )

    def unwritten(self) -> list[str]:
        """One line per thing that could not be written so far."""
        stats, why = self.stats(), self._outage.reason or "still on their way"
        lines: list[str] = []
        if stats.alerts_dropped or stats.scores_dropped:
            lines.append(f"dropped {stats.alerts_dropped} alerts and {stats.scores_dropped} scores")
        if stats.scores_waiting:
            lines.append(f"{stats.scores_waiting} scores were not delivered ({why})")
        if stats.alerts_waiting:
            lines.append(f"{stats.alerts_waiting} alerts were not delivered ({why}); the next run delivers them")
        return [f"Redis {self._redacted_url}: {line}" for line in lines]

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until Redis has everything; whether it does.

        Args:
            timeout_s: longest wait.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work(), timeout_s)

    def close(self, timeout_s: float = 10.0, away_s: float = _AWAY_AFTER_S) -> None:
        """Deliver what can be delivered in time, then stop; alerts that are left stay in the outbox.

        Args:
            timeout_s: longest wait while Redis takes what it gets.
            away_s: longest wait while it does not.
        """
        if not self._writer.is_alive():
            return
        started = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._has_work(), min(away_s, timeout_s)):
                self._changed.wait_for(lambda: not self._has_work() or self.trouble is not None, timeout_s - away_s)
            self._closing = True
            self._changed.notify_all()
        # A call that hangs outlives this by seconds at most; an outbox that is closed by then gives it no more alerts.
        self._writer.join(max(0.1, away_s - (time.monotonic() - started)))
        for line in self.unwritten():
            _log.error("%s", line)
        self._servers.close()

    def _has_work(self) -> bool:
        return bool(len(self._scores) or self._alerts.counts.waiting)

    # The writer thread.

    def _run(self) -> None:
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while self._wait_for_work():
            about = ALERTS_KEY
            try:
                self._servers.call(lambda: self._stream.deliver(self._servers))
                self.wake()  # whoever flushes
                about = scores_key("*")
                self._servers.call(lambda: self._scores.deliver(self._servers))
            except Exception as error:  # whatever it is: a writer that ended would lose every alert after it
                self._say(explain(error, about))
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, backoff.failed())
            else:
                backoff.succeeded()
                self._say(None)

    def _wait_for_work(self) -> bool:
        """Wait for work; False once the sink closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._has_work())
            return not self._closing

    def _say(self, reason: Reason | None) -> None:
        self._outage.report(reason)
        self.wake()  # whoever waits for an end
