"""From normal footage and what a camera asks for to its thresholds: a pure function, told in docs/alarms.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.budget import events_per_hour
from pipeline.camera_settings import AlertSettings
from pipeline.normal_footage import StretchKind
from pipeline.scoring.event_counting import Peaks
from pipeline.scoring.event_rates import EventRates
from pipeline.scoring.poisson import RULE_OF_THREE, rate_interval
from pipeline.scoring.smoothed import SmoothedStretch
from pipeline.scoring.thresholds import Thresholds

# Best first: how rare events are is read off footage as good as there is.
_KINDS: tuple[StretchKind, ...] = ("own", "learned", "light")

# Light is changed every few frames there, thousands of times as often as it does: a single event is borne.
_BORNE_IN_OTHER_LIGHT = 1.0


def thresholds_of(stretches: Sequence[SmoothedStretch], settings: AlertSettings) -> Thresholds:
    """The thresholds of a camera all of whose frames are alike, with pairs or without.

    Args:
        stretches: of normal footage, thinned and smoothed as the camera's frames are; at least one frame.
        settings: when the camera raises an alarm.
    """
    scores = np.concatenate([stretch.scores for stretch in stretches])
    closing = _quantile(scores, settings.close_quantile)
    of_kind = {kind: [stretch for stretch in stretches if stretch.kind == kind] for kind in _KINDS}
    rates = EventRates.of(next(found for found in of_kind.values() if found), closing, settings)
    hours = sum(stretch.hours for stretch in of_kind["own"])
    missing = 0.0
    if settings.quantile is not None:
        opening = _quantile(scores, settings.quantile)
    else:
        budget = events_per_hour(settings.budget or "")
        learned, light = (Peaks.of(of_kind[kind], closing, settings) for kind in ("learned", "light"))
        opening = max(
            rates.threshold_for(budget),
            learned.threshold_for(budget * learned.hours, closing),
            light.threshold_for(max(budget * light.hours, _BORNE_IN_OTHER_LIGHT), closing),
        )
        missing = max(0.0, rates.grouping * RULE_OF_THREE / budget - hours)
    expected = rates.per_hour(opening)
    return Thresholds(
        opening=opening,
        closing=closing,
        unpaired_closing=closing,
        expected_per_hour=expected,
        interval_per_hour=_interval(rates, opening, expected) if hours else None,
        hours=hours,
        provisional=missing > 0.0,
        hours_missing=missing,
        rates=rates,
    )


def _quantile(scores: np.typing.NDArray[np.float64], quantile: float) -> float:
    """The next higher score where it falls between two: with few frames that is their maximum."""
    return float(np.quantile(scores, quantile, method="higher"))


def _interval(rates: EventRates, opening: float, expected: float) -> tuple[float, float]:
    """What the events counted say of their rate, and the law's word where it lies outside of that."""
    low, high = rate_interval(rates.peaks.counted(opening), rates.hours, rates.grouping)
    return min(low, expected), max(high, expected)
