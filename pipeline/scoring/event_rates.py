"""How often normal footage opens events, at any threshold: counted as far as it shows them, and by a law beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.camera_settings import AlertSettings
from pipeline.scoring.event_counting import Peaks
from pipeline.scoring.grouping import grouping
from pipeline.scoring.smoothed import SmoothedStretch
from pipeline.scoring.tail import ENOUGH, Tail

# Where the close threshold leaves too few peaks for a law, they are looked for from these quantiles on.
_LOWER = (0.95, 0.9, 0.75, 0.5)
_HIGHEST = (25.0, 50.0, 100.0)  # peaks of which it is asked whether they come in groups
_DEVIATION = (0.5, 0.84)  # quantiles a standard deviation apart, of a normal law


@dataclass(frozen=True, slots=True, eq=False)
class EventRates:
    """Of some normal footage.

    Attributes:
        closing: the close threshold; below it nothing opens.
        peaks: its sustained peaks above that.
        tail: their law.
        grouping: by how much the number of events varies more than that of independent ones; 1 for those.
    """

    closing: float
    peaks: Peaks
    tail: Tail
    grouping: float

    @classmethod
    def of(cls, stretches: Sequence[SmoothedStretch], closing: float, settings: AlertSettings) -> EventRates:
        """Count, and fit the law.

        Args:
            stretches: of footage, at least one.
            closing: the close threshold.
            settings: when the camera raises an alarm.
        """
        peaks = fitted = Peaks.of(stretches, closing, settings)
        scores, least = np.concatenate([stretch.scores for stretch in stretches]), closing
        for quantile in _LOWER:
            if fitted.weights.sum() >= ENOUGH:
                break
            level = min(closing, float(np.quantile(scores, quantile)))
            lower = Peaks.of(stretches, level, settings)
            if len(lower.levels) > len(fitted.levels):
                fitted, least = lower, level
        middle, usual = np.quantile(scores, _DEVIATION, method="higher").tolist()
        tail = Tail.fitted(fitted.levels, fitted.weights, least, usual - middle)
        return cls(closing, peaks, tail, _grouping(fitted))

    @property
    def hours(self) -> float:
        """Of the footage."""
        return self.peaks.hours

    def per_hour(self, threshold: float) -> float:
        """How many events an hour open at a threshold; one below the close threshold counts as that.

        Never less than the footage shows.
        """
        counted = self.peaks.counted(max(threshold, self.closing))
        if counted < ENOUGH:
            counted = max(counted, min(self.tail.counted(threshold), ENOUGH))
        return counted / self.hours

    def threshold_for(self, per_hour: float) -> float:
        """The lowest threshold at which no more events open than a number per hour.

        Where so many are ``ENOUGH`` of the footage, they are counted off: the threshold is the peak with that rank, at
        and above which as many are to be expected of other footage. Else the law says, and never less than the footage
        shows.

        Args:
            per_hour: how many may; positive.
        """
        events = per_hour * self.hours
        least = self.peaks.threshold_for(events, self.closing)
        if events < ENOUGH:
            return max(least, self.tail.level_for(events))
        if least == self.closing:
            return least
        return float(self.peaks.levels[self.peaks.levels >= least][-1])


def _grouping(peaks: Peaks) -> float:
    """The greatest among the highest peaks, some and more of them: what is loud may come in groups alone."""
    counted = np.cumsum(peaks.weights)
    ends = [int(np.searchsorted(counted, some)) + 1 for some in _HIGHEST]
    return max(grouping(peaks.times_s[:end], peaks.weights[:end], peaks.hours * 3600.0) for end in ends)
