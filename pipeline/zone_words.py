"""What a camera's zones come to, in words."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.zone_settings import ZoneSettings
from pipeline.zoning import Regime, Zoning


def zones_words(zones: Sequence[ZoneSettings], zoning: Zoning, now_s: float) -> str:
    """One line.

    Args:
        zones: all of a camera's.
        zoning: made of them.
        now_s: Unix time.
    """
    now = zoning.at(now_s)
    named = ", ".join(f"{zone.name} {zone_kind(zone)}" for zone in zones)
    count = f"{len(zones)} zone{'s' * (len(zones) > 1)}"
    others = [regime_words(regime) for regime in zoning.distinct if regime != now]
    at_others = f"; at other times {', or '.join(dict.fromkeys(others))}" if others else ""
    clock = f" ({zoning.time_zone})" if others else ""
    return f"{count} ({named}): {regime_words(now)}{' now' if others else ''}{at_others}{clock}"


def zone_kind(zone: ZoneSettings) -> str:
    """What a zone does, in words."""
    if zone.ignore is not None:
        return "ignored"
    return "watched" if zone.sensitivity == 1.0 else f"watched x{zone.sensitivity:g}"


def regime_words(regime: Regime) -> str:
    """What is watched, in words."""
    if not regime.armed:
        return "not armed"
    return f"{100.0 * regime.watched_share:.0f} % of the image watched"
