"""Scores and alerts to Redis Streams: never in the way of scoring, in order, each once.

``write`` only queues; one daemon thread delivers. While Redis is away, full or read-only the queue holds what it can:
the oldest scores give way first and are counted, alerts only once no score is left to drop.

Why an entry is not stored twice: every id is chosen here before the first attempt and kept over all retries, so that an
attempt whose answer got lost can be told from one that never arrived. A score's id is ``<Unix ms of capture>-<index>``,
which the same frame gets again even in another process.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from pipeline.redaction import redact
from pipeline.sinks.redis_client import connect, explain
from pipeline.sinks.redis_queue import (
    Entry,
    EntryId,
    Lane,
    alert_entry,
    append,
    is_hopeless,
    next_id,
    score_entry,
    stored,
    top_id,
)
from pipeline.sinks.schema import ALERTS_KEY, CAMERAS_KEY
from pipeline.types import Alert, FrameHeader, Score

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class RedisStats:
    """What became of everything written.

    Attributes:
        scores_delivered: score entries that Redis confirmed.
        scores_dropped: score entries that gave way in a full queue or that Redis will never take.
        alerts_delivered: alerts that Redis confirmed.
        alerts_dropped: alerts that gave way; 0 unless the queue was full of alerts alone.
        waiting: entries of both kinds not delivered yet.
    """

    scores_delivered: int
    scores_dropped: int
    alerts_delivered: int
    alerts_dropped: int
    waiting: int


class RedisSink:
    """Writes the streams and the hash of ``docs/alerts.md``. Its methods may be called by any thread.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` address. Nothing is sent before the first write; use
            ``check_redis`` to fail early.
        scores_maxlen: entries kept per camera, approximately.
        alerts_maxlen: alerts kept, approximately.
        capacity: entries that wait at most (about 1 kB of memory each).

    Raises:
        RedisError: the address is not one.
    """

    def __init__(
        self, url: str, *, scores_maxlen: int = 100_000, alerts_maxlen: int = 10_000, capacity: int = 100_000
    ) -> None:
        self._client = connect(url)
        self._shown_url = redact(url)
        self._scores_maxlen = scores_maxlen
        self._alerts_maxlen = alerts_maxlen
        self._capacity = capacity
        self._changed = threading.Condition()  # guards everything below but what the writer thread alone uses
        self._scores = Lane()
        self._alerts = Lane()
        self._statuses: dict[str, str] = {}
        self._replace_statuses = False
        self._newest: dict[str, FrameHeader] = {}
        self._closing = False
        self._top: dict[str, EntryId] = {}  # writer's: highest id per scores stream
        self._hopeless: set[str] = set()  # writer's: keys that are not streams
        self._trouble: str | None = None  # writer's to set: what was last said of Redis
        self._writer = threading.Thread(target=self._run, name="redis-writer", daemon=True)
        self._writer.start()

    def write(self, scores: Sequence[Score], alerts: Sequence[Alert]) -> None:
        """Queue entries and return at once; a frame that was written before is skipped."""
        alert_entries = [alert_entry(alert) for alert in alerts]
        with self._changed:
            for score in scores:
                if self._is_new(score.header):
                    self._scores.waiting.append(score_entry(score))
            self._alerts.waiting.extend(alert_entries)
            self._make_room()
            self._changed.notify_all()

    def write_status(self, camera_id: str, status: Mapping[str, Any]) -> None:
        """Set a camera's status; while Redis is away only the newest of each camera waits.

        Args:
            camera_id: the camera.
            status: must be serialisable as JSON.
        """
        with self._changed:
            self._statuses[camera_id] = json.dumps(status)
            self._changed.notify_all()

    def replace_statuses(self, statuses: Mapping[str, Mapping[str, Any]]) -> None:
        """Set the statuses of all cameras in one step; cameras not named vanish.

        Args:
            statuses: camera id to its status, serialisable as JSON.
        """
        with self._changed:
            self._statuses = {camera_id: json.dumps(status) for camera_id, status in statuses.items()}
            self._replace_statuses = True
            self._changed.notify_all()

    def stats(self) -> RedisStats:
        """Counts up to now."""
        with self._changed:
            return RedisStats(
                scores_delivered=self._scores.delivered,
                scores_dropped=self._scores.dropped,
                alerts_delivered=self._alerts.delivered,
                alerts_dropped=self._alerts.dropped,
                waiting=len(self._scores) + len(self._alerts),
            )

    def faults(self) -> list[str]:
        """One line per thing that could not be written so far."""
        stats = self.stats()
        lines = []
        if stats.alerts_dropped or stats.scores_dropped:
            lines.append(f"dropped {stats.alerts_dropped} alerts and {stats.scores_dropped} scores")
        if stats.waiting:
            lines.append(f"{stats.waiting} entries were not delivered ({self._trouble or 'still on their way'})")
        return [f"Redis {self._shown_url}: {line}" for line in lines]

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until Redis has everything; whether it does.

        Args:
            timeout_s: longest wait.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work(), timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what can be delivered in time, then stop; what is left is logged and lost.

        Args:
            timeout_s: longest wait for the delivery.
        """
        if not self._writer.is_alive():
            return
        if not self.flush(timeout_s):
            stats = self.stats()
            _log.error("Redis %s: closing with %d entries not delivered", self._shown_url, stats.waiting)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join(timeout_s)
        self._client.close()

    def _is_new(self, header: FrameHeader) -> bool:
        """Whether a frame is above the camera's last, or of a later run that counts from 0 again."""
        newest = self._newest.get(header.camera_id)
        if newest and header.order <= newest.order and header.captured_at_s <= newest.captured_at_s:
            return False
        self._newest[header.camera_id] = header
        return True

    def _make_room(self) -> None:
        excess = len(self._scores) + len(self._alerts) - self._capacity
        if excess <= 0:
            return
        excess -= self._scores.give_way(excess)
        if excess > 0 and self._alerts.give_way(excess) == self._alerts.dropped:  # the first time
            _log.error("Redis %s: the queue is full of alerts; the oldest are lost from now on", self._shown_url)

    def _has_work(self) -> bool:
        return bool(len(self._scores) or len(self._alerts) or self._statuses or self._replace_statuses)

    # The writer thread.

    def _run(self) -> None:
        failures = 0
        while self._take():
            try:
                self._deliver_alerts()
                self._deliver_scores()
                self._deliver_statuses()
            except Exception as error:  # whatever it is: a writer that ended would lose every alert after it
                failures += 1
                self._say(explain(error))
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, min(_LONGEST_PAUSE_S, 0.05 * 2 ** min(failures, 10)))
            else:
                failures = 0
                self._say(None)

    def _take(self) -> bool:
        """Wait for work and take some; False once the sink closes."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._has_work())
            self._alerts.take()
            self._scores.take()
            return not self._closing

    def _say(self, trouble: str | None) -> None:
        """Log when Redis goes, when the reason changes and when it is back; not at every attempt."""
        before, self._trouble = self._trouble, trouble
        # The details in brackets change from attempt to attempt.
        if (trouble or "").partition(" (")[0] == (before or "").partition(" (")[0]:
            return
        if trouble is None:
            _log.info("Redis %s: delivering again", self._shown_url)
        else:
            _log.warning("Redis %s: %s; scoring goes on and alerts wait", self._shown_url, trouble)

    def _settle(self, lane: Lane, entries: Iterable[Entry], *, delivered: bool = True) -> None:
        """Count entries of a lane's ``taken`` and let go of them."""
        settled = {id(entry) for entry in entries}
        with self._changed:
            lane.taken = [entry for entry in lane.taken if id(entry) not in settled]
            if delivered:
                lane.delivered += len(settled)
            else:
                lane.dropped += len(settled)
            self._changed.notify_all()

    def _deliver_alerts(self) -> None:
        """Append alerts in one transaction: all or none, so that no refusal in between can change their order.

        WATCH makes it fail when another writer appended meanwhile, so that ids always lie above the stream's top.
        """
        entries = self._alerts.taken
        while entries:
            with self._client.pipeline(transaction=True) as pipe:
                try:
                    pipe.watch(ALERTS_KEY)
                    # All or none: where the first one is, an earlier attempt went through and only its answer was lost.
                    first = entries[0]
                    if first.sent_as is None or stored(pipe, ALERTS_KEY, first.sent_as) != first.text:
                        top = top_id(pipe, ALERTS_KEY)
                        for entry in entries:
                            top = entry.sent_as = next_id(entry.wanted, top)
                        pipe.multi()
                        for entry in entries:
                            append(pipe, entry, self._alerts_maxlen)
                        pipe.execute()
                except redis.WatchError:
                    continue
            self._settle(self._alerts, entries)
            return

    def _deliver_scores(self) -> None:
        """Append scores in one pipeline; what Redis refuses for now stays taken and the refusal is raised."""
        self._number_scores()
        if not (entries := self._scores.taken):
            return
        with self._client.pipeline(transaction=False) as pipe:
            for entry in entries:
                append(pipe, entry, self._scores_maxlen)
            replies = pipe.execute(raise_on_error=False)
        refusal: Exception | None = None
        delivered, hopeless = [], []
        for entry, reply in zip(entries, replies, strict=True):
            if not isinstance(reply, Exception):
                delivered.append(entry)
            elif "equal or smaller" in str(reply):
                if stored(self._client, entry.stream, entry.sent_as or entry.wanted) is not None:
                    delivered.append(entry)
                else:  # somebody else wrote a higher id: take the next one in the next round
                    entry.sent_as = None
                    self._top.pop(entry.stream, None)
            elif is_hopeless(reply):
                hopeless.append(entry)
            else:
                refusal = reply
        self._settle(self._scores, delivered)
        self._drop_hopeless(hopeless)
        if refusal is not None:
            raise refusal

    def _number_scores(self) -> None:
        """Choose ids for the scores taken; those that an earlier run stored need none and are settled."""
        here, hopeless = [], []
        for entry in self._scores.taken:
            try:
                if entry.sent_as is None and not self._number(entry):
                    here.append(entry)
            except redis.ResponseError as error:
                if not is_hopeless(error):
                    raise
                hopeless.append(entry)
        self._settle(self._scores, here)
        self._drop_hopeless(hopeless)

    def _number(self, entry: Entry) -> bool:
        """Choose a score's id above its stream's top; False if the frame turns out to be there from an earlier run."""
        top = self._top.get(entry.stream)
        if top is None:
            top = self._top[entry.stream] = top_id(self._client, entry.stream)
        if entry.wanted <= top and stored(self._client, entry.stream, entry.wanted) is not None:
            return False
        entry.sent_as = self._top[entry.stream] = next_id(entry.wanted, top)
        return True

    def _drop_hopeless(self, entries: list[Entry]) -> None:
        """Give up scores whose key holds something that is not a stream; no waiting will change that."""
        for stream in {entry.stream for entry in entries} - self._hopeless:
            self._hopeless.add(stream)
            _log.error("Redis %s: %s is not a stream; its scores are dropped", self._shown_url, stream)
        self._settle(self._scores, entries, delivered=False)

    def _deliver_statuses(self) -> None:
        with self._changed:
            statuses, sent, replace = self._statuses, dict(self._statuses), self._replace_statuses
        if not (sent or replace):
            return
        with self._client.pipeline(transaction=True) as pipe:
            if replace:
                pipe.delete(CAMERAS_KEY)
            if sent:
                pipe.hset(CAMERAS_KEY, mapping=cast("dict[Any, Any]", sent))  # redis-py's dict type is invariant
            pipe.execute()
        with self._changed:
            if self._statuses is not statuses:
                return  # replaced meanwhile: all of the new ones are still to be sent
            self._replace_statuses = False
            self._statuses = {key: value for key, value in statuses.items() if sent.get(key) != value}
            self._changed.notify_all()
