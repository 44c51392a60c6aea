r"""Whether events come in groups: by how much their number varies more than that of independent ones.

Somebody who is surprising and walks up and down, or a windy hour, opens several events. Their number then says less of
the rate than as many independent ones would: of a Poisson process, the variance of the number in a block of time is its
mean; here it is :math:`\varphi` times that, and n events tell as much as :math:`n / \varphi` (quasi-Poisson; McCullagh
and Nelder 1989, section 6.2).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_BLOCKS_S = (300.0, 1200.0, 3600.0)  # causes last for minutes, or for hours
_LEAST_BLOCKS = 10
_DEVIATIONS = 2.5  # of the estimate, for independent events: what is within that is chance


def grouping(times_s: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], lasted_s: float) -> float:
    """The dispersion of events over footage, 1 for independent ones and where nobody can tell.

    Args:
        times_s: when each happened, in seconds of the footage, shape (N,).
        weights: how much of an event each counts, shape (N,).
        lasted_s: how long the footage lasts.

    Returns:
        The greatest over blocks of several lengths, of those in which it is more than chance.
    """
    found = 1.0
    for block_s in _BLOCKS_S:
        blocks = int(lasted_s / block_s)
        if blocks < _LEAST_BLOCKS:
            continue
        within = times_s < blocks * block_s
        counts = np.bincount((times_s[within] / block_s).astype(np.int64), weights[within], minlength=blocks)
        mean = float(counts.mean())
        dispersion = float(counts.var(ddof=1)) / mean if mean else 1.0
        if dispersion > 1.0 + _DEVIATIONS * math.sqrt(2.0 / (blocks - 1)):
            found = max(found, dispersion)
    return found
