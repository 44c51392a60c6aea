"""An alert, a notice or a digest as a person reads it in a mail or on a telephone: a title of one line, and a text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline.alert_words import event_in_words, frequency_in_words, sight_in_words, time_in_words


def title_of(said: Mapping[str, Any]) -> str:
    """The line that is read first: where, what, and how unusual it is.

    Args:
        said: as ``pipeline.sinks.schema.alert_object`` gives it.
    """
    where, kind = said["camera_id"] or "run", said["kind"]
    if kind == "digest":
        what = f"{_more_events(said['events'])}, {_unusual(said['highest'])}"
    elif "until_at_s" in said:
        what = kind.replace("_", " ") + (" is over" if _is_over(said) else "")
    else:
        begin = {"end": "over: ", "evidence": "picture: "}.get(kind, "")
        what = begin + _unusual(said)
    return _line(f"{where}: {what}")


def text_of(said: Mapping[str, Any]) -> str:
    """All that there is to be said, in a few lines.

    Args:
        said: as ``pipeline.sinks.schema.alert_object`` gives it.
    """
    if said["kind"] == "digest":
        highest = said["highest"]
        spans = f"between {_clock(said['since_at_s'], highest)} and {_clock(said['until_at_s'], highest)}"
        lines = [
            f"{_more_events(said['events'])} on {said['camera_id']} {spans}.",
            f"Most unusual: {time_in_words({**highest, 'kind': 'new'})}, {event_in_words(highest)}",
            _what_to_do(highest["event_id"]),
        ]
    elif "until_at_s" in said:
        lines = [time_in_words(said), said["reason"], said["event_id"]]
    else:
        zone_time = said.get("started_local") or time_in_words(said)
        lines = [f"Began {zone_time}", event_in_words(said), f"severity {said['severity']}"]
        lines.append(_what_to_do(said["event_id"]))
    return "\n".join(_line(line) for line in lines if line)


def _what_to_do(event_id: str) -> str:
    return f"If it was nothing: cflow-stream alerts dismiss {event_id}"


def _is_over(said: Mapping[str, Any]) -> bool:
    """Of a notice that ends what began; kinds of their own say so themselves."""
    return said["until_at_s"] is not None and said["kind"] not in (
        *("camera_online", "storage_restored", "run_ended", "run_lost"),
    )


def _unusual(event: Mapping[str, Any]) -> str:
    """Such as ``motion at the left, zone yard, once in 9 days``."""
    return ", ".join(filter(None, (sight_in_words(event) or "something unusual", frequency_in_words(event))))


def _more_events(count: int) -> str:
    return f"{count} more event{'s' if count != 1 else ''}"


def _clock(at_s: float, event: Mapping[str, Any]) -> str:
    """Hour and minute in the time zone of an event's camera."""
    started = event.get("started_local")
    zone = datetime.fromisoformat(started).tzinfo if started else None
    return f"{datetime.fromtimestamp(at_s, UTC).astimezone(zone):%H:%M}"


def _line(text: str) -> str:
    return " ".join(text.split())
