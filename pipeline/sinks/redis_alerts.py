"""Alerts on their way from the outbox to Redis: their ids, and a batch in one transaction, each once and in order.

An alert's receipt in the outbox is the id it is sent with, and the sink's mark the highest id ever chosen: it outlives
the alerts, so that a Redis that comes back empty does not bring back ids that readers have left behind them.
"""

from __future__ import annotations

import json

import redis

from pipeline.sinks.alert_outbox import AlertQueue, QueuedAlert
from pipeline.sinks.redis_queue import (
    EntryId,
    StreamEntry,
    append,
    as_text,
    from_text,
    next_id,
    stored,
    top_id,
    unix_ms,
)
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

    def deliver(self, client: redis.Redis) -> None:
        """Append a batch of alerts in one transaction: all or none, so that no refusal in between changes their order.

        WATCH makes it fail when another writer appended meanwhile, so that ids always lie above the stream's top; a
        command of our own that was still on its way, from before a time-out or a death, then fails in the same way.

        Args:
            client: connection to the server.

        Raises:
            redis.RedisError: the refusal, or why nobody answered.
        """
        while taken := self._alerts.take():
            entries = [self._entry(alert) for alert in taken]
            with client.pipeline(transaction=True) as pipe:  # pyright: ignore[reportUnknownMemberType]
                try:
                    pipe.watch(ALERTS_KEY)
                    # All or none: where the last one is, an earlier attempt went through and only its answer was lost.
                    tried = [entry for entry in entries if entry.sent_as is not None]
                    if tried and _is_there(pipe, tried[-1]):
                        taken = [alert for alert in taken if self._alerts.receipt(alert) is not None]
                    elif self._choose_ids(taken, entries, top_id(pipe, ALERTS_KEY)):
                        pipe.multi()
                        for entry in entries:
                            append(pipe, entry, self._maxlen)
                        pipe.execute()
                    else:  # the store is closed
                        return
                except redis.WatchError as error:
                    # redis-py says the same when the connection went while it watched; that is for the caller.
                    if isinstance(error.__context__, redis.ConnectionError | redis.TimeoutError):
                        raise error.__context__ from None
                    continue
            self._alerts.ack(taken)
            return

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
