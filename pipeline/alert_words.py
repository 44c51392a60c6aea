"""What an alert says to a person: when, which camera, what, where, and how unusual it is.

Alerts are taken as the objects that ``pipeline.sinks.schema`` makes of them. They may come out of Redis, where anybody
may write: what lacks keys, or holds something else under them, is told as far as it goes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, cast

_UNITS = ((24.0 * 365.0, "year"), (24.0 * 7.0, "week"), (24.0, "day"), (1.0, "hour"), (1.0 / 60.0, "minute"))
_LARGEST = 2.0 / 3.0  # of a side; what covers more of it is not at one end of it


def number_of(value: Any) -> float | None:
    """A number as a float; None where it is none, or one that no float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


def time_in_words(alert: Mapping[str, Any]) -> str:
    """Month, day and time of day at which it happened: of a ``new`` alert when the event began.

    It is that of the camera's time zone where the alert names it, and otherwise that of this machine.
    """
    started = _datetime_of(alert.get("started_local"))
    if started is not None and alert.get("kind") == "new":
        return f"{started:%m-%d %H:%M:%S}"
    zone = None if started is None else started.tzinfo
    for key in ("emitted_at_s", "since_at_s"):
        at_s = number_of(alert.get(key))
        moment = None if at_s is None else _moment(at_s, zone)
        if moment is not None:
            return f"{moment:%m-%d %H:%M:%S}"
    return "-"


def event_in_words(alert: Mapping[str, Any]) -> str:
    """What is said of an event, such as ``motion at the top left, zone yard; once in 9 days (p 0.0004, 6.4 over 6)``.

    Args:
        alert: of the kind new, update or end.
    """
    parts = [_state_in_words(alert), sight_in_words(alert), rarity_in_words(alert)]
    return "; ".join(filter(None, parts))


def sight_in_words(alert: Mapping[str, Any]) -> str:
    """What stood out and where, such as ``motion at the top left, zone yard``; empty where nobody can tell."""
    where = " ".join(filter(None, (_word(alert.get("channel")), place_in_words(alert.get("region")))))
    zone = _word(alert.get("zone"))
    return ", ".join(filter(None, (where, f"zone {zone}" if zone else "")))


def rarity_in_words(alert: Mapping[str, Any]) -> str:
    """How unusual an event is: how often normal footage looks like that, with the numbers behind it."""
    numbers = []
    if (p_value := number_of(alert.get("peak_p_value"))) is not None:
        numbers.append(f"p {p_value:.1g}")
    smoothed, threshold = number_of(alert.get("peak_smoothed")), number_of(alert.get("threshold"))
    if smoothed is not None and threshold is not None:
        numbers.append(f"{smoothed:.3g} over {threshold:.3g}")
    once = frequency_in_words(alert)
    told = ", ".join(numbers)
    return f"{once} ({told})" if once and told else once or told


def frequency_in_words(alert: Mapping[str, Any]) -> str:
    """``once_in_words`` of an event; with ``perhaps`` where there was too little normal footage for its budget."""
    once = once_in_words(number_of(alert.get("once_in_h")))
    return f"perhaps {once}" if once and alert.get("provisional") is True else once


def once_in_words(once_in_h: float | None) -> str:
    """Such as ``once in 9 days``; empty where nobody can tell."""
    if once_in_h is None or once_in_h <= 0.0:
        return ""
    if once_in_h >= 10.0 * _UNITS[0][0]:
        return "once in 10+ years"
    for hours, unit in _UNITS:
        count = once_in_h / hours
        if count >= 2.0 or unit == "minute":
            whole = max(1, math.floor(count))
            return f"once in {whole} {unit}s" if whole > 1 else f"once a {unit}"
    raise AssertionError


def place_in_words(region: Any) -> str:
    """Where in the image a region is, such as ``at the top left``; empty where it is none.

    Args:
        region: an object with ``left``, ``top``, ``right`` and ``bottom``, fractions of the image.
    """
    if not isinstance(region, Mapping):
        return ""
    sides = [number_of(cast("Mapping[str, Any]", region).get(side)) for side in ("left", "top", "right", "bottom")]
    if None in sides:
        return ""
    left, top, right, bottom = cast("list[float]", sides)
    across, down = _third(left, right, "left", "right"), _third(top, bottom, "top", "bottom")
    if right - left > _LARGEST and bottom - top > _LARGEST:
        return "all over the image"
    return f"at the {' '.join(filter(None, (down, across)))}" if across or down else "in the middle"


def _third(first: float, last: float, low: str, high: str) -> str:
    middle = (first + last) / 2.0
    if last - first > _LARGEST or 1.0 / 3.0 <= middle <= 2.0 / 3.0:
        return ""
    return low if middle < 0.5 else high


def _state_in_words(alert: Mapping[str, Any]) -> str:
    """Of an event that was told before, what became of it."""
    kind, stretches = alert.get("kind"), number_of(alert.get("stretches"))
    again = f", {stretches:.0f} times" if stretches is not None and stretches > 1 else ""
    start_s, end_s = number_of(alert.get("start_s")), number_of(alert.get("end_s"))
    began_at_s, told_at_s = number_of(alert.get("started_at_s")), number_of(alert.get("emitted_at_s"))
    if kind == "end" and start_s is not None and end_s is not None:
        how = {"over": "over after", "still_there": "still there after", "interrupted": "interrupted after"}
        return f"{how.get(_word(alert.get('ended')), 'ended after')} {_duration(end_s - start_s)}{again}"
    if kind == "update" and began_at_s is not None and told_at_s is not None:
        return f"for {_duration(told_at_s - began_at_s)}{again}"
    return ""


def _duration(seconds: float) -> str:
    if seconds < 60.0:
        return f"{seconds:.0f} s" if seconds >= 10.0 else f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _datetime_of(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _moment(at_s: float, zone: tzinfo | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(at_s, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return None
