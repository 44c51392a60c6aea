"""What is asked and shown of verdicts on events."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from pipeline.console.tables import plain
from pipeline.errors import BadInputError
from pipeline.sinks.redis_reader import read_alerts
from pipeline.verdicts import Verdict, VerdictKind

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_LONGEST_S = 10 * 366 * 86_400.0
_SHOWN = 3


def duration_s(text: str) -> float:
    """Seconds of a duration such as ``30m``, ``12h``, ``7d`` or ``2w``.

    Raises:
        BadInputError: it is none, or longer than ten years.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else math.nan
    if not 0.0 < seconds <= _LONGEST_S:
        raise BadInputError(f"--for: expected a duration such as 30m, 12h, 7d or 2w, up to ten years, got {text!r}")
    return seconds


def verdict_on(url: str, event_id: str, verdict: VerdictKind, now_s: float, for_s: float) -> Verdict:
    """A verdict on an event that alerts in Redis tell of.

    Args:
        url: address of that Redis.
        event_id: of the event.
        verdict: what is said of it.
        now_s: Unix time.
        for_s: for how long the like of a dismissed event is to be silent.

    Raises:
        BadInputError: no alert is about such an event.
        RedisError: Redis cannot be read.
    """
    newest: Mapping[str, Any] | None = None
    others: dict[str, None] = {}
    for alert in read_alerts(url):
        if "peak_smoothed" not in alert:  # a notice
            continue
        others[str(alert["event_id"])] = None
        if alert["event_id"] == event_id:
            newest = alert
    if newest is None:
        known = ", ".join(list(others)[-_SHOWN:]) or "none at all"
        raise BadInputError(f"event {event_id!r}: expected one that alerts in Redis tell of (the newest: {known})")
    return Verdict.on(newest, verdict, now_s, for_s)


def said_of(verdict: Verdict) -> str:
    """What was said of an event, and what follows from it."""
    if verdict.verdict == "confirmed":
        return f"event {verdict.event_id}: confirmed; it is never taken for normal footage"
    assert verdict.until_at_s is not None
    return (
        f"event {verdict.event_id}: dismissed; its like on camera {verdict.camera_id} is silent until {_time(verdict)}"
    )


def verdict_line(verdict: Mapping[str, Any]) -> Text:
    """One verdict as one line.

    Args:
        verdict: as ``Verdict.as_object`` gives it.
    """
    one = Verdict.parse(verdict)
    line = Text(time.strftime("%Y-%m-%d %H:%M ", time.localtime(one.given_at_s)))
    line.append(f"{one.verdict:<9}", style="bold red" if one.verdict == "confirmed" else "green")
    line.append(f" {plain(one.camera_id)}")
    if one.until_at_s is not None:
        line.append(f", its like silent until {_time(one)}")
    line.append(f"  {plain(one.event_id)}", style="dim")
    return line


def _time(verdict: Verdict) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(verdict.until_at_s))
