"""Entries on their way to a Redis stream: their ids, the queue they wait in, and the commands about them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import redis
from pydantic_core import to_json
from redis.client import Pipeline

from pipeline.sinks.schema import FIELD, score_object, scores_key
from pipeline.types import Score

EntryId = tuple[int, int]
"""(Unix milliseconds, number), which Redis orders as Python does."""

_BATCH = 100  # commands per pipeline: more gains nothing
_Answer = list[tuple[str, dict[str, str]]]


@dataclass(slots=True)
class StreamEntry:
    """One stream entry on its way.

    Attributes:
        stream: its key.
        text: what it says, JSON.
        wanted: the id it would like.
        sent_as: the id it is sent with, kept over retries; None until it is chosen.
    """

    stream: str
    text: str
    wanted: EntryId
    sent_as: EntryId | None = None


class InFlightQueue:
    """Entries of one kind: those that wait, and those in flight."""

    def __init__(self) -> None:
        self.waiting: deque[StreamEntry] = deque()
        self.in_flight: list[StreamEntry] = []

    def __len__(self) -> int:
        return len(self.waiting) + len(self.in_flight)

    def take(self) -> None:
        """Put the oldest entries in flight, unless some still are."""
        if not self.in_flight:
            self.in_flight = [self.waiting.popleft() for _ in range(min(_BATCH, len(self.waiting)))]

    def ack(self, entries: Iterable[StreamEntry]) -> int:
        """Forget entries that were taken; how many there were."""
        acknowledged = {id(entry) for entry in entries}
        self.in_flight = [entry for entry in self.in_flight if id(entry) not in acknowledged]
        return len(acknowledged)

    def evict(self, count: int) -> list[StreamEntry]:
        """Give up to ``count`` of the oldest that wait."""
        return [self.waiting.popleft() for _ in range(min(count, len(self.waiting)))]


def score_entry(score: Score) -> StreamEntry:
    """A score's entry; its id tells the frame's capture and index, so the same frame wants the same id again."""
    wanted = (unix_ms(score.header.captured_at_s), score.header.index)
    return StreamEntry(scores_key(score.header.camera_id), to_json(score_object(score)).decode(), wanted)


def put(pipe: Pipeline, *command: str | int) -> None:
    """Put a command into a pipeline as it stands, also into one that watches a key and would send others at once."""
    pipe.pipeline_execute_command(*command)  # pyright: ignore[reportUnknownMemberType]


def append(pipe: Pipeline, entry: StreamEntry, maxlen: int) -> None:
    """Put into a pipeline: add an entry, which has its id, to its stream, and trim the stream to about a length."""
    assert entry.sent_as is not None
    put(pipe, "XADD", entry.stream, "MAXLEN", "~", maxlen, as_text(entry.sent_as), FIELD, entry.text)


def stored(client: redis.Redis, stream: str, entry_id: EntryId) -> str | None:
    """The JSON that a stream holds under an id, or None where there is no such entry."""
    found = cast("_Answer", client.xrange(stream, as_text(entry_id), as_text(entry_id)))
    return found[0][1].get(FIELD, "") if found else None


def top_id(client: redis.Redis, stream: str) -> EntryId:
    """The highest id in a stream; (0, 0) in an empty one."""
    newest = cast("_Answer", client.xrevrange(stream, count=1))
    if not newest:
        return (0, 0)
    return from_text(newest[0][0])


def next_id(wanted: EntryId, top: EntryId) -> EntryId:
    """The wanted id, or the next one above the top where clocks went back or two share a millisecond."""
    return wanted if wanted > top else (top[0], top[1] + 1)


def as_text(entry_id: EntryId) -> str:
    """An id as Redis writes it."""
    return f"{entry_id[0]}-{entry_id[1]}"


def from_text(text: str) -> EntryId:
    """An id that Redis wrote; (0, 0) for an empty text."""
    ms, _, number = (text or "0-0").partition("-")
    return int(ms), int(number)


def unix_ms(time_s: float) -> int:
    """Unix time in whole milliseconds."""
    return round(time_s * 1000)


def is_permanent(error: Exception) -> bool:
    """Whether an answer says that the key holds something other than a stream, which no waiting changes."""
    return str(error).startswith("WRONGTYPE")
