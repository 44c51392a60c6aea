"""Scores and alerts to Redis Streams: never in the way of scoring, in order, each once.

One daemon thread delivers: alerts from the run's store, where they are safe, and scores from a queue in memory, whose
oldest give way, counted, while Redis is away, full or read-only.

Why an entry is not stored twice: every id is chosen here before the first attempt and kept over all retries, so that an
attempt whose answer got lost can be told from one that never arrived. A score's id is ``<Unix ms of capture>-<index>``,
which the same frame gets again even in another process; an alert's is in the store before it is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import redis

from pipeline.redaction import redact
from pipeline.sinks.redis_client import connect, explain
from pipeline.sinks.redis_queue import Entry, append, stored, top_id
from pipeline.sinks.redis_scores import ScoreQueue
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.schema import ALERTS_KEY
from pipeline.types import Score

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 1.0
_AWAY_AFTER_S = 2.0  # how long closing waits for a Redis that does not answer


@dataclass(frozen=True, slots=True)
class RedisStats:
    """What became of everything written. ``alerts_carried_over + alerts_emitted`` is the sum of the other alerts.

    Attributes:
        scores_delivered: score entries that Redis confirmed to this process.
        scores_dropped: score entries that gave way in a full queue or that Redis will never take.
        scores_waiting: score entries not delivered yet.
        alerts_carried_over: alerts that earlier runs had left undelivered.
        alerts_emitted: alerts of the run, also those of its earlier processes, as are the next two.
        alerts_delivered: alerts that Redis confirmed.
        alerts_dropped: alerts that gave way in a full store.
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


class RedisSink:
    """Writes the streams of ``docs/alerts.md``. Its methods may be called by any thread.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` address. Nothing is sent before there is something to send; use
            ``check_redis`` to fail early.
        store: where alerts come from; it stays open when this closes.
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
        store: RunStore,
        scores_maxlen: int = 100_000,
        alerts_maxlen: int = 10_000,
        capacity: int = 100_000,
    ) -> None:
        self._client = connect(url, retries=1)  # the writer tries again by itself
        self._shown_url = redact(url)
        self._store = store
        self._alerts_maxlen = alerts_maxlen
        self._changed = threading.Condition()  # guards everything below but what the writer thread alone uses
        self._scores = ScoreQueue(self._changed, self._shown_url, maxlen=scores_maxlen, capacity=capacity)
        self._closing = False
        self._trouble: str | None = None  # writer's to set: what was last said of Redis
        self._writer = threading.Thread(target=self._run, name="redis-writer", daemon=True)
        self._writer.start()

    @property
    def trouble(self) -> str | None:
        """Why nothing is delivered at present, in one line without credentials; None when all is well."""
        trouble = self._trouble
        return None if trouble is None else f"Redis {self._shown_url}: {trouble}"

    def write(self, scores: Sequence[Score]) -> None:
        """Queue scores and return at once; a frame that was written before is skipped."""
        self._scores.add(scores)

    def wake(self) -> None:
        """Say that the store has new alerts."""
        with self._changed:
            self._changed.notify_all()

    def stats(self) -> RedisStats:
        """Counts up to now."""
        with self._changed:
            alerts = self._store.counts
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

    def faults(self) -> list[str]:
        """One line per thing that could not be written so far."""
        stats, why = self.stats(), self._trouble or "still on their way"
        lines = []
        if stats.alerts_dropped or stats.scores_dropped:
            lines.append(f"dropped {stats.alerts_dropped} alerts and {stats.scores_dropped} scores")
        if stats.scores_waiting:
            lines.append(f"{stats.scores_waiting} scores were not delivered ({why})")
        if stats.alerts_waiting:
            lines.append(f"{stats.alerts_waiting} alerts were not delivered ({why}); the next run delivers them")
        return [f"Redis {self._shown_url}: {line}" for line in lines]

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until Redis has everything; whether it does.

        Args:
            timeout_s: longest wait.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work(), timeout_s)

    def close(self, timeout_s: float = 10.0, away_s: float = _AWAY_AFTER_S) -> None:
        """Deliver what can be delivered in time, then stop; alerts that are left stay in the store.

        Args:
            timeout_s: longest wait while Redis takes what it gets.
            away_s: longest wait while it does not.
        """
        if not self._writer.is_alive():
            return
        started = time.monotonic()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._has_work(), min(away_s, timeout_s)):
                self._changed.wait_for(lambda: not self._has_work() or self._trouble is not None, timeout_s - away_s)
            self._closing = True
            self._changed.notify_all()
        # A call that hangs outlives this by seconds at most; a store that is closed by then hands it no more alerts.
        self._writer.join(max(0.1, away_s - (time.monotonic() - started)))
        for line in self.faults():
            _log.error("%s", line)
        self._client.close()

    def _has_work(self) -> bool:
        return bool(len(self._scores) or self._store.counts.waiting)

    # The writer thread.

    def _run(self) -> None:
        failures = 0
        while self._wait_for_work():
            try:
                self._deliver_alerts()
                self._scores.deliver(self._client)
            except Exception as error:  # whatever it is: a writer that ended would lose every alert after it
                failures += 1
                self._say(explain(error))
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, min(_LONGEST_PAUSE_S, 0.05 * 2 ** min(failures, 10)))
            else:
                failures = 0
                self._say(None)

    def _wait_for_work(self) -> bool:
        """Wait for work; False once the sink closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._has_work())
            return not self._closing

    def _say(self, trouble: str | None) -> None:
        """Log when Redis goes, when the reason changes and when it is back; not at every attempt."""
        with self._changed:
            before, self._trouble = self._trouble, trouble
            self._changed.notify_all()
        # The details in brackets change from attempt to attempt.
        if (trouble or "").partition(" (")[0] == (before or "").partition(" (")[0]:
            return
        if trouble is None:
            _log.info("Redis %s: delivering again", self._shown_url)
        else:
            _log.warning("Redis %s: %s; scoring goes on and alerts wait", self._shown_url, trouble)

    def _deliver_alerts(self) -> None:
        """Append a batch of alerts in one transaction: all or none, so that no refusal in between changes their order.

        WATCH makes it fail when another writer appended meanwhile, so that ids always lie above the stream's top; a
        command of our own that was still on its way, from before a time-out or a death, then fails in the same way.
        """
        while entries := self._store.take_alerts():
            with self._client.pipeline(transaction=True) as pipe:
                try:
                    pipe.watch(ALERTS_KEY)
                    # All or none: where the last one is, an earlier attempt went through and only its answer was lost.
                    tried = [entry for entry in entries if entry.sent_as is not None]
                    if tried and self._is_there(pipe, tried[-1]):
                        entries = tried
                    else:
                        entries = self._store.choose_ids(top_id(pipe, ALERTS_KEY))
                        pipe.multi()
                        for entry in entries:
                            append(pipe, entry, self._alerts_maxlen)
                        pipe.execute()
                except redis.WatchError as error:
                    # redis-py says the same when the connection went while it watched; that is for the caller.
                    if isinstance(error.__context__, redis.ConnectionError | redis.TimeoutError):
                        raise error.__context__ from None
                    continue
            self._store.settle_alerts(entries)
            self.wake()  # whoever flushes
            return

    @staticmethod
    def _is_there(client: redis.Redis, entry: Entry) -> bool:
        assert entry.sent_as is not None
        return stored(client, entry.stream, entry.sent_as) == entry.text
