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

    def quantiles_s(self, *of: float) -> tuple[float | None, ...]:
        """These quantiles in seconds, each None before the first value; several cost as much as one."""
        up_to = self._counts.cumsum()
        total = int(up_to[-1])
        if total == 0:
            return (None,) * len(of)
        found = up_to.searchsorted([max(1, math.ceil(q * total)) for q in of])
        return tuple(_FLOOR_S * _GROWTH ** (int(position) + 0.5) for position in found)
