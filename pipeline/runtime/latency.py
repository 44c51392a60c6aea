"""Latency quantiles of an endless stream in fixed memory."""

from __future__ import annotations

import math

import numpy as np

_FLOOR_S = 1e-4
_GROWTH = 1.02
_BINS = 810  # the last one ends beyond 900 s


class LatencyHistogram:
    """Counts in bins that grow by 2 %, so every quantile is known to within 2 % of its value."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)

    def add(self, latency_s: float) -> None:
        """Count one latency in seconds; negative ones (clocks that disagree) count as zero."""
        position = math.log(max(latency_s, _FLOOR_S) / _FLOOR_S) / math.log(_GROWTH)
        self._counts[min(int(position), _BINS - 1)] += 1

    def quantile_s(self, q: float) -> float | None:
        """The q-quantile in seconds, or None before the first value."""
        total = int(self._counts.sum())
        if total == 0:
            return None
        rank = max(1, math.ceil(q * total))
        found = int(np.searchsorted(np.cumsum(self._counts), rank))
        return _FLOOR_S * _GROWTH ** (found + 0.5)
