"""How much values differ, whatever a few of them are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_DEVIATIONS = 1.4826  # median absolute deviations of a normal law in its standard deviation


def spread_of(values: npt.NDArray[np.float64]) -> float:
    """Standard deviation of values without their outliers: by the median absolute deviation.

    Args:
        values: at least one, shape (N,).
    """
    return _DEVIATIONS * float(np.median(np.abs(values - np.median(values))))
