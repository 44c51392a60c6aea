r"""How rare peaks are that are higher than the footage shows: a generalised Pareto law of what exceeds a base.

.. math:: P(X - u > x \mid X > u) = (1 + \xi x / \sigma)^{-1/\xi}

Whatever a score's law, the excesses of its peaks over a high base :math:`u` come to this one (Balkema and de Haan 1974,
Pickands 1975). It is fitted by probability-weighted moments (Hosking and Wallis 1987, *Technometrics* 29:339), which
for the tens of peaks that there are err less than maximum likelihood does, always exist, and need no search.

The shape decides what a day brings where an hour was seen, and is what little data says least of: its error is about
:math:`1.15/\sqrt n`. So it is drawn towards 0, an exponential tail, as far as it errs more than shapes differ (by about
.1; the idea is that of Martins and Stedinger 2000, *Water Resources Research* 36:737), and is held within a quarter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ENOUGH = 10.0
"""So many events were counted that their number says more than a law does."""

_MOST = 100.0  # peaks that a law is fitted to: the highest, and of those at most half
_MOMENTS_VARIANCE = 4.0 / 3.0  # of the shape by moments, times n, around 0
_SHAPES_VARIANCE = 0.1**2
_WIDEST_SHAPE = 0.25
_STRAIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Tail:
    """The law of what exceeds a base.

    Attributes:
        base: u, on the scale of smoothed scores.
        count: peaks above it, weighted.
        scale: sigma; 0 where nothing exceeds it.
        shape: xi.
    """

    base: float
    count: float
    scale: float
    shape: float

    @classmethod
    def fitted(
        cls, levels: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], least: float, usual: float
    ) -> Tail:
        """Fit the law to the highest peaks.

        Args:
            levels: all peaks, highest first, shape (N,).
            weights: how much each counts, shape (N,).
            least: below all of them: the level from which on they were looked for.
            usual: by how much smoothed scores differ; excesses are taken to be about that where there are few of them.
        """
        wanted = min(max(float(weights.sum()) / 2.0, ENOUGH), _MOST)
        above = int(np.searchsorted(np.cumsum(weights), wanted * (1.0 - 1e-9))) + 1
        base = float(levels[above]) if above < len(levels) else least
        excesses, parts = levels[:above][::-1] - base, weights[:above][::-1]
        count = float(parts.sum())
        total = float(parts @ excesses)
        shape = _shape(excesses, parts) * count / (count + _MOMENTS_VARIANCE / _SHAPES_VARIANCE)
        shape = min(max(shape, -_WIDEST_SHAPE), _WIDEST_SHAPE)
        missing = max(0.0, ENOUGH - count)
        mean = (total + missing * usual) / (count + missing)
        return cls(base, count, mean * (1.0 - shape), shape)

    def counted(self, level: float) -> float:
        """How many peaks the law expects at or above a level, where ``count`` are above the base."""
        excess = max(level - self.base, 0.0)
        if not excess:
            return self.count
        if not self.scale:
            return 0.0
        if abs(self.shape) < _STRAIGHT:
            return self.count * math.exp(-excess / self.scale)
        kept = max(1.0 + self.shape * excess / self.scale, 0.0)
        return self.count * kept ** (-1.0 / self.shape) if kept else 0.0

    def level_for(self, events: float) -> float:
        """The level at or above which the law expects so many peaks, at least the base.

        Args:
            events: positive.
        """
        rarer = math.log(max(self.count / events, 1.0))
        if abs(self.shape) < _STRAIGHT:
            return self.base + self.scale * rarer
        return self.base + self.scale * math.expm1(self.shape * rarer) / self.shape


def _shape(excesses: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    """The shape by probability-weighted moments, between -1/2 and 1/2.

    Args:
        excesses: lowest first, shape (N,).
        weights: shape (N,).
    """
    total = float(weights.sum())
    if total <= 0.0:
        return 0.0
    below = (np.cumsum(weights) - 0.35 * weights) / total
    first = float(weights @ excesses) / total
    second = float((weights * (1.0 - below)) @ excesses) / total
    lean = first - 2.0 * second
    if lean <= 0.0:  # no such law has moments like these
        return 0.5 if first > 0.0 else 0.0
    return min(max(2.0 - first / lean, -0.5), 0.5)
