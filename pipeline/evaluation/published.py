"""What papers do to the scores of a whole clip before they take its AUROC. No live camera can: it uses later frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.evaluation.metrics import FloatArray

SIGMA_S = 0.3
"""Width (standard deviation) of the Gaussian: 3 frames on Ped2, 7 on ShanghaiTech Campus."""


def as_published(scores: FloatArray, media_time_s: FloatArray) -> npt.NDArray[np.float64]:
    """Smooth a clip's scores with a Gaussian that looks ahead as far as back, and scale them to reach from 0 to 1.

    The Gaussian is cut at four standard deviations, and the clip is mirrored at its ends.

    Args:
        scores: (T,), of all frames of one clip in their order.
        media_time_s: (T,), seconds; the median of its steps says how many frames ``SIGMA_S`` is.

    Returns:
        (T,), lowest 0 and highest 1; all 0 where the smoothed scores are all the same.
    """
    values = np.asarray(scores, np.float64)
    step_s = float(np.median(np.diff(media_time_s))) if values.size > 1 else 0.0
    if step_s > 0.0:
        values = np.asarray(ndimage.gaussian_filter1d(values, SIGMA_S / step_s))
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
