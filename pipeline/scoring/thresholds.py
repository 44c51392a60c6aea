"""What a camera's smoothed scores are held against, and what that promises."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.scoring.event_rates import EventRates
from pipeline.scoring.poisson import RULE_OF_THREE

LONGEST_H = 10 * 365.25 * 24.0
"""Nobody can tell how much rarer than once in ten years something is."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds of one camera, on the scale of its smoothed scores.

    Attributes:
        opening: smoothed scores at or above it are anomalous; enough of them in a row open an event.
        closing: smoothed scores at or above it keep one open; at most ``opening``.
        unpaired_closing: the same at frames without a pair.
        version: short digest of all that decided them (normal footage, settings); another one means other thresholds.
        expected_per_hour: events an hour that normal footage opens at ``opening``; None where nobody has counted.
        interval_per_hour: 95 % interval of that rate; None where no footage proves anything.
        hours: of normal footage in which they were counted.
        provisional: whether that is too little footage for the budget that was asked for.
        hours_missing: how many more hours of normal footage would do; 0 where there is enough.
        moved: by how much they have followed the camera's normal scores since they were made.
        rates: how often normal footage opens events at any threshold; None where nobody has counted.
    """

    opening: float
    closing: float
    unpaired_closing: float
    version: str = ""
    expected_per_hour: float | None = None
    interval_per_hour: tuple[float, float] | None = None
    hours: float = 0.0
    provisional: bool = False
    hours_missing: float = 0.0
    moved: float = 0.0
    rates: EventRates | None = field(default=None, repr=False, compare=False)

    @property
    def supported_per_hour(self) -> float | None:
        """The rarest budget, in events per hour, that so much footage tells from a higher rate; None without any."""
        if not self.hours:
            return None
        return RULE_OF_THREE * (self.rates.grouping if self.rates else 1.0) / self.hours

    def once_in_h(self, smoothed_score: float) -> float | None:
        """Once in how many hours normal footage reaches a smoothed score; None where nobody can tell.

        Args:
            smoothed_score: such as the highest of an event.

        Returns:
            At most ``LONGEST_H``.
        """
        if self.rates is None:
            return None
        return 1.0 / max(self.rates.per_hour(smoothed_score - self.moved), 1.0 / LONGEST_H)
