"""Normal footage as a camera's zones see it: thresholds are measured under the mask that frames are read under."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.model_settings import top_count
from pipeline.zoning import Regime


def scores_under(maps: npt.NDArray[np.float16], regime: Regime, top_fraction: float) -> npt.NDArray[np.float64]:
    """Scores of frames, read off their maps as ``pipeline.models.read_out`` does under a mask.

    Args:
        maps: as scores are read off them, shape (T, h, w).
        regime: the zones that hold.
        top_fraction: as ``ScoreSettings`` has it.

    Returns:
        Shape (T,).
    """
    weights = regime.weights(*maps.shape[1:])
    counts = weights > 0.0
    values, factors = maps[:, counts].astype(np.float32), weights[counts]
    values = np.where(values > 0.0, values * factors, values)
    count = top_count(values.shape[1], top_fraction)
    return np.partition(values, -count, axis=1)[:, -count:].mean(axis=1, dtype=np.float64)
