"""Scores on their way to Redis: a bounded queue in memory and how a batch of it is delivered, every frame once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

import redis

from pipeline.sinks.redis_queue import (
    EntryId,
    InFlightQueue,
    StreamEntry,
    append,
    is_permanent,
    next_id,
    put,
    score_entry,
    stored,
    top_id,
)
from pipeline.sinks.redis_replicas import WAIT, Replicas, replicas_with
from pipeline.sinks.redis_servers import RedisServers
from pipeline.types import FrameHeader, Score

_log = logging.getLogger(__name__)


class ScoreQueue:
    """Scores that wait. ``add`` for any thread, ``deliver`` for one.

    Args:
        changed: guards the queue, and is notified of every change.
        redacted_url: the server's address without credentials, for messages.
        maxlen: entries that a camera's stream keeps, approximately.
        capacity: scores that wait at most; the oldest are evicted.

    Attributes:
        delivered: scores that Redis confirmed.
        dropped: scores that were evicted or that Redis will never take.
    """

    def __init__(self, changed: threading.Condition, redacted_url: str, *, maxlen: int, capacity: int) -> None:
        self.delivered = 0
        self.dropped = 0
        self._changed = changed
        self._redacted_url = redacted_url
        self._maxlen = maxlen
        self._capacity = capacity
        self._queue = InFlightQueue()
        self._newest: dict[str, FrameHeader] = {}
        self._top: dict[str, EntryId] = {}  # highest id per stream
        self._not_streams: set[str] = set()  # keys that are not streams

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, scores: Iterable[Score]) -> None:
        """Queue scores; a frame that was queued before is skipped."""
        with self._changed:
            for score in scores:
                if self._is_new(score.header):
                    self._queue.waiting.append(score_entry(score))
            self.dropped += len(self._queue.evict(len(self._queue) - self._capacity))
            self._changed.notify_all()

    def deliver(self, servers: RedisServers) -> None:
        """Append a batch in one pipeline per server; what Redis refuses for now stays taken.

        Args:
            servers: where the streams are.

        Raises:
            redis.RedisError: the refusal, or why nobody answered.
            OSError: likewise.
        """
        with self._changed:
            self._queue.take()
        self._number_all(servers)
        entries_of: dict[redis.Redis, list[StreamEntry]] = {}
        for entry in self._queue.in_flight:
            entries_of.setdefault(servers.holder(entry.stream), []).append(entry)
        for client, entries in entries_of.items():
            self._deliver_to(client, entries, servers.replicas)

    def _deliver_to(self, client: redis.Redis, entries: list[StreamEntry], replicas: Replicas) -> None:
        """Append entries to the streams of one server.

        Raises:
            redis.RedisError: the refusal, or why nobody answered.
        """
        asks_replicas = replicas.are_asked(client, entries[0].stream)
        with client.pipeline(transaction=False) as pipe:  # pyright: ignore[reportUnknownMemberType]
            for entry in entries:
                append(pipe, entry, self._maxlen)
            if asks_replicas:
                put(pipe, *WAIT)
            replies = pipe.execute(raise_on_error=False)
        if asks_replicas:
            replicas.heed(client, entries[0].stream, replicas_with(replies.pop()))
        rejection: Exception | None = None
        delivered: list[StreamEntry] = []
        rejected: list[StreamEntry] = []
        for entry, reply in zip(entries, replies, strict=True):
            if not isinstance(reply, Exception):
                delivered.append(entry)
            elif "equal or smaller" in str(reply):
                if stored(client, entry.stream, entry.sent_as or entry.wanted) is not None:
                    delivered.append(entry)
                else:  # somebody else wrote a higher id: take the next one in the next round
                    entry.sent_as = None
                    self._top.pop(entry.stream, None)
            elif is_permanent(reply):
                rejected.append(entry)
            else:
                rejection = reply
        self._acknowledge(delivered)
        self._drop_rejected(rejected)
        if rejection is not None:
            raise rejection

    def _number_all(self, servers: RedisServers) -> None:
        """Choose ids for the scores taken; those that an earlier run stored need none and are acknowledged."""
        here: list[StreamEntry] = []
        rejected: list[StreamEntry] = []
        for entry in self._queue.in_flight:
            try:
                if entry.sent_as is None and not self._number(servers.holder(entry.stream), entry):
                    here.append(entry)
            except redis.ResponseError as error:
                if not is_permanent(error):
                    raise
                rejected.append(entry)
        self._acknowledge(here)
        self._drop_rejected(rejected)

    def _number(self, client: redis.Redis, entry: StreamEntry) -> bool:
        """Choose a score's id above its stream's top; False if the frame turns out to be there from an earlier run."""
        top = self._top.get(entry.stream)
        if top is None:
            top = self._top[entry.stream] = top_id(client, entry.stream)
        if entry.wanted <= top and stored(client, entry.stream, entry.wanted) is not None:
            return False
        entry.sent_as = self._top[entry.stream] = next_id(entry.wanted, top)
        return True

    def _drop_rejected(self, entries: list[StreamEntry]) -> None:
        """Give up scores whose key holds something that is not a stream; no waiting will change that."""
        for stream in {entry.stream for entry in entries} - self._not_streams:
            self._not_streams.add(stream)
            _log.error("Redis %s: %s is not a stream; its scores are dropped", self._redacted_url, stream)
        self._acknowledge(entries, delivered=False)

    def _acknowledge(self, entries: Iterable[StreamEntry], *, delivered: bool = True) -> None:
        """Count scores in flight and acknowledge them."""
        with self._changed:
            count = self._queue.ack(entries)
            if delivered:
                self.delivered += count
            else:
                self.dropped += count
            self._changed.notify_all()

    def _is_new(self, header: FrameHeader) -> bool:
        """Whether a frame is above the camera's last, or of a later run that counts from 0 again."""
        newest = self._newest.get(header.camera_id)
        if newest and header.order <= newest.order and header.captured_at_s <= newest.captured_at_s:
            return False
        self._newest[header.camera_id] = header
        return True
