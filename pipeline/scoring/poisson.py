"""What a number of counted events says of their rate."""

from __future__ import annotations

import math

from scipy.special import gammaincinv  # pyright: ignore[reportMissingTypeStubs]

CONFIDENCE = 0.95

RULE_OF_THREE = -math.log(1.0 - CONFIDENCE)
"""No event in H hours: the rate is below ``RULE_OF_THREE / H`` (3.0 / H) with ``CONFIDENCE``."""


def poisson_interval(count: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact (Garwood) interval of a Poisson process's mean, of which ``count`` events were seen.

    Each side is left out with half of ``1 - confidence``.

    Args:
        count: of events; a fraction where the same footage was gone over several times.
        confidence: that the interval holds the mean.
    """
    tail = (1.0 - confidence) / 2.0
    low = float(gammaincinv(count, tail)) if count else 0.0
    return low, float(gammaincinv(count + 1, 1.0 - tail))


def rate_interval(count: float, hours: float, grouping: float = 1.0) -> tuple[float, float]:
    """Interval of a rate per hour: Garwood's; one-sided where nothing was seen, for its lower end is 0 in any case.

    Args:
        count: of events that were seen.
        hours: in which they were; positive.
        grouping: how many of them tell as much as one independent event.
    """
    hours /= grouping
    if not count:
        return 0.0, RULE_OF_THREE / hours
    low, high = poisson_interval(count / grouping)
    return low / hours, high / hours
