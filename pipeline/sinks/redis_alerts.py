"""Alerts on their way from the outbox to Redis: their ids, and a batch in one transaction, each once and in order.

An alert's receipt in the outbox is the id it is sent with, and the sink's mark the highest id ever chosen: it outlives
the alerts, so that a Redis that comes back empty does not bring back ids that readers have left behind them.
"""

from __future__ import annotations

import json
from typing import Any, cast

import redis
from redis.client import Pipeline

from pipeline.sinks.alert_queue import AlertQueue, QueuedAlert
from pipeline.sinks.redis_queue import (
    EntryId,
    StreamEntry,
    append,
    as_text,
    from_text,
    next_id,
    put,
    stored,
    top_id,
    unix_ms,
)
from pipeline.sinks.redis_replicas import WAIT, replicas_with
from pipeline.sinks.redis_servers import RedisServers
from pipeline.sinks.schema import ALERTS_KEY


class AlertStream:
    """Delivers alerts. For one thread.

    Args:
        alerts: this sink's end of the outbox.
        maxlen: alerts that the stream keeps, approximately.
    """

    def __init__(self, alerts: AlertQueue, maxlen: int) -> None:
        self._alerts = alerts
        self._maxlen = maxlen

    def deliver(self, servers: RedisServers) -> None:
        """Append a batch of alerts in one transaction: all or none, so that no refusal in between changes their order.

        WATCH makes it fail when another writer appended meanwhile, so that ids always lie above the stream's top; a
        command of our own that was still on its way, from before a time-out or a death, then fails in the same way.

        Args:
            servers: where the stream is.

        Raises:
            redis.RedisError: the refusal, or why nobody answered.
            OSError: likewise.
        """
        client = servers.holder(ALERTS_KEY)
        have_it = 1
        while taken := self._alerts.take():
            asks_replicas = servers.replicas.are_asked(client, ALERTS_KEY)
            entries = [self._entry(alert) for alert in taken]
            with client.pipeline(transaction=False) as pipe:  # pyright: ignore[reportUnknownMemberType]
                try:
                    pipe.watch(ALERTS_KEY)
                    # All or none: where the last one is, an earlier attempt went through and only its answer was lost.
                    tried = [entry for entry in entries if entry.sent_as is not None]
                    if tried and _is_there(pipe, tried[-1]):
                        taken = [alert for alert in taken if self._alerts.receipt(alert) is not None]
                        if asks_replicas:
                            put(pipe, *WAIT)
                            have_it = replicas_with(pipe.execute(raise_on_error=False)[0])
                    elif self._choose_ids(taken, entries, top_id(pipe, ALERTS_KEY)):
                        have_it = self._append_all(pipe, entries, and_wait=asks_replicas)
                    else:  # the store is closed
                        return
                except redis.WatchError as error:
                    # redis-py says the same when the connection went while it watched; that is for the caller.
                    if isinstance(error.__context__, redis.ConnectionError | redis.TimeoutError):
                        raise error.__context__ from None
                    continue
            servers.replicas.heed(client, ALERTS_KEY, have_it)
            self._alerts.ack(taken)
            return

    def _append_all(self, pipe: Pipeline, entries: list[StreamEntry], *, and_wait: bool) -> int:
        """Append entries unless somebody else did since the pipeline began to watch the stream.

        Args:
            pipe: watches the stream.
            entries: they have their ids.
            and_wait: whether a replica should have them, too.

        Returns:
            How many replicas have them; 1 where none is asked.

        Raises:
            redis.WatchError: somebody did.
            redis.RedisError: the refusal, or why nobody answered.
        """
        put(pipe, "MULTI")  # not redis-py's own transaction: that gives the connection back, which WAIT is about
        for entry in entries:
            append(pipe, entry, self._maxlen)
        put(pipe, "EXEC")
        if and_wait:
            put(pipe, *WAIT)
        commands = cast("list[Any]", pipe.command_stack)  # pyright: ignore[reportUnknownMemberType]
        answers = pipe.execute(raise_on_error=False)
        pipe.raise_first_error(commands, answers[: len(entries) + 2])  # pyright: ignore[reportUnknownMemberType]
        if (appended := answers[len(entries) + 1]) is None:
            raise redis.WatchError("the stream has a new entry")
        for answer in appended:
            if isinstance(answer, Exception):
                raise answer
        return replicas_with(answers[-1]) if and_wait else 1

    def _choose_ids(self, taken: list[QueuedAlert], entries: list[StreamEntry], top: EntryId) -> bool:
        """Give entries their ids and remember them, so that any later process can ask whether they arrived.

        Ids lie above the stream's top and, unless they were chosen before, above every id ever chosen here.

        Args:
            taken: the alerts.
            entries: theirs, in the same order.
            top: the highest id in the stream.

        Returns:
            Whether they are remembered; else they must not be sent.
        """
        chosen: dict[int, str] = {}
        last, floor = from_text(self._alerts.mark), top
        for alert, entry in zip(taken, entries, strict=True):
            if entry.sent_as is None or entry.sent_as <= floor:
                entry.sent_as = next_id(entry.wanted, max(floor, last))
                chosen[alert.serial] = as_text(entry.sent_as)
            floor = entry.sent_as
        return self._alerts.keep_receipts(chosen, as_text(max(last, floor)))

    def _entry(self, alert: QueuedAlert) -> StreamEntry:
        """An alert's entry; the id it would like tells when it was emitted."""
        receipt = self._alerts.receipt(alert)
        wanted = (unix_ms(json.loads(alert.text)["emitted_at_s"]), 0)
        return StreamEntry(ALERTS_KEY, alert.text, wanted, None if receipt is None else from_text(receipt))


def _is_there(client: redis.Redis, entry: StreamEntry) -> bool:
    assert entry.sent_as is not None
    return stored(client, entry.stream, entry.sent_as) == entry.text
