"""A false-alarm budget: how many events a camera may open on normal footage, as people write it."""

from __future__ import annotations

import re

_HOURS = {"hour": 1.0, "h": 1.0, "day": 24.0, "d": 24.0, "week": 168.0, "w": 168.0}
_BUDGET = re.compile(
    rf"(?P<events>\d+(?:\.\d+)?)\s*/\s*(?P<times>\d+(?:\.\d+)?)?\s*(?P<unit>{'|'.join(_HOURS)})s?", re.ASCII
)
_RAREST_H, _MOST_PER_H = 52 * 168.0, 3600.0
_UNITS = (("hour", 1.0), ("day", 24.0), ("week", 168.0))


def events_per_hour(text: str) -> float:
    """Read a budget.

    Args:
        text: such as ``1/day``, ``1/week``, ``2/hour``, ``1/4h``, ``3 / 2 days``.

    Returns:
        Events per hour.

    Raises:
        ValueError: it is something else, more than one event a second, or rarer than one in 52 weeks.
    """
    found = _BUDGET.fullmatch(text.strip())
    hours = float(found["times"] or 1.0) * _HOURS[found["unit"]] if found else 0.0
    per_hour = float(found["events"]) / hours if found and hours else 0.0
    if not 1.0 / _RAREST_H <= per_hour <= _MOST_PER_H:
        raise ValueError(
            "expected a number of events in a time, from 1/52weeks to 3600/hour, such as '1/day', '1/week', '2/hour' "
            f"or '1/4h', got {text[:40]!r}"
        )
    return per_hour


def rate_in_words(per_hour: float) -> str:
    """A rate for people: per hour, day or week, whichever is the first with about one event or more.

    Args:
        per_hour: events per hour.
    """
    unit, events = next(
        ((unit, per_hour * hours) for unit, hours in _UNITS if per_hour * hours >= 0.95),
        (_UNITS[-1][0], per_hour * _UNITS[-1][1]),
    )
    return f"{events:.2g} per {unit}" if events < 100 else f"{events:,.0f} per {unit}"


def hours_in_words(hours: float) -> str:
    """A time for people: seconds below two minutes, minutes below two hours, days from four days on."""
    if hours * 60.0 < 2.0:
        return f"{hours * 3600:.0f} s"
    if hours < 2.0:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 96.0 else f"{hours / 24:.0f} days"
