"""Metrics over written scores, each defined exactly in ``docs/evaluation.md``. Free of torch.

Pixel metrics stream: ShanghaiTech Campus has 16.7 billion labelled pixels, so they are counted into bins of an
order-preserving quantisation of float32 and never held. What the bins cannot tell apart is counted as ties; the
largest error that can make is known exactly and reported beside the number.

A metric that does not exist (only one class, no region) is ``None``, never NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from sklearn.metrics import auc, roc_auc_score

from pipeline.errors import ScoresError

AUPRO_LIMIT = 0.3
"""Highest pixel false-positive rate that AUPRO integrates to (Bergmann et al., MVTec AD, IJCV 2021)."""

_DROPPED_BITS = 8
"""Low bits of a float32 that the bins ignore: 15 of 23 mantissa bits stay, 5 more than the stored float16 maps have."""

_BLOCK = 1 << 12
"""Bins by which a histogram grows at a time."""

_WITHIN_FRAME = np.zeros((3, 3, 3), dtype=bool)
"""8-connectivity inside a frame, none across frames."""
_WITHIN_FRAME[1] = True

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class MacroAuroc:
    """Mean frame AUROC over clips.

    Attributes:
        value: the mean, or None where no clip holds both classes.
        clips: clips that hold both classes and make the mean.
        left_out: clips of one class only, which have no AUROC.
    """

    value: float | None
    clips: int
    left_out: int


def frame_auroc(labels: BoolArray, scores: FloatArray) -> float | None:
    """Area under the ROC curve, all frames pooled (micro); tied pairs count half.

    Args:
        labels: bool (T,), True for anomalous.
        scores: (T,), higher is more anomalous.

    Returns:
        The area, or None where only one class is present.

    Raises:
        ScoresError: a score is not finite.
        ValueError: the shapes differ.
    """
    if labels.shape != scores.shape:
        raise ValueError(f"frame_auroc: expected one score per label, got {scores.shape} for {labels.shape}")
    check_finite(scores)
    if labels.all() or not labels.any():
        return None
    return float(roc_auc_score(labels, scores))


def frame_auroc_macro(clips: Sequence[tuple[BoolArray, FloatArray]]) -> MacroAuroc:
    """Unweighted mean over clips of each clip's own frame AUROC; clips of one class are left out and counted.

    Args:
        clips: (labels, scores) of each clip, as for ``frame_auroc``.
    """
    values = [value for labels, scores in clips if (value := frame_auroc(labels, scores)) is not None]
    mean = float(np.mean(values)) if values else None
    return MacroAuroc(mean, clips=len(values), left_out=len(clips) - len(values))


def ramp_score(frames: int) -> npt.NDArray[np.float64]:
    """Score a clip by the time passed in it: ``(i + 1) / T`` for frame i of T. Sees no pixel, so it is a floor."""
    return np.arange(1, frames + 1, dtype=np.float64) / frames


def random_padded_macro(clips: Sequence[BoolArray]) -> float | None:
    """What random scores reach, in expectation, under the padded macro average that some papers report.

    That average gives every clip one more normal frame that scores below all and one more anomalous frame that scores
    above all, so that one-class clips have an AUROC as well: 1, whatever the scores. Of ``(P + 1)(N + 1)`` pairs,
    ``P N`` are ranked right half the time and all others always.
    """
    values = []
    for labels in clips:
        positives = int(labels.sum())
        negatives = labels.size - positives
        values.append(1.0 - 0.5 * positives * negatives / ((positives + 1) * (negatives + 1)))
    return float(np.mean(values)) if values else None


def perfect_frames_floors(normal_share_beside: float) -> tuple[float, float]:
    """Pixel AUROC and AUPRO of a detector that knows every frame's label and nothing of where the anomaly is.

    All pixels of a frame get its label as score. Every anomalous pixel then stands above the normal pixels of normal
    frames and ties with those of anomalous frames, a share f of all normal ones. Both curves run straight from (0, 0)
    to (f, 1).

    Args:
        normal_share_beside: the share f.
    """
    share, limit = normal_share_beside, AUPRO_LIMIT
    aupro = 1.0 - share / (2.0 * limit) if share <= limit else limit / (2.0 * share)
    return 1.0 - share / 2.0, aupro


def upsample(maps: FloatArray, size_px: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize anomaly maps bilinearly, half-pixel centres, edges clamped (torch's ``align_corners=False``).

    Args:
        maps: (T, h, w).
        size_px: (H, W) of the ground truth. Shrinking, which anomaly maps never need, would average (triangle filter).

    Returns:
        float32 (T, H, W).
    """
    height, width = size_px
    result = np.empty((len(maps), height, width), dtype=np.float32)
    for target, one in zip(result, maps.astype(np.float32), strict=True):
        target[:] = np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR))
    return result


def check_finite(values: FloatArray) -> None:
    """Refuse scores that are NaN or infinite.

    Raises:
        ScoresError: says how many are, and where the first is.
    """
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.flatnonzero(~finite.ravel())
        where = tuple(int(i) for i in np.unravel_index(bad[0], values.shape))
        raise ScoresError(f"expected finite scores, got {bad.size} of {values.size} that are not, first at {where}")


def quantise(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Map finite float32 values to integers in the same order; values within 2**-15 of each other may share one.

    A float32's bits, read as an integer, rise with its value once those of negative numbers are flipped; the lowest
    bits are then dropped.
    """
    bits = (scores + np.float32(0.0)).view(np.int32)  # adding +0 turns -0 into +0: equal values, one bin
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return (ordered >> _DROPPED_BITS).astype(np.int64)


class PixelHistogram:
    """Pixel AUROC and AUPRO of any number of pixels in bounded memory.

    Three masses are kept per bin of the quantised score: anomalous pixels, normal pixels, and overlap (an anomalous
    pixel of a region of n pixels adds 1/n). There are at most 2**24 bins (400 MB), and only the stretch between the
    lowest and the highest score met is held: scores within one power of two take 0.8 MB.

    The pixel ROC curve is (normal, anomalous) mass above a falling threshold, the PRO curve is (normal, overlap) mass.
    Inside a bin both are taken as straight, as ROC curves are inside ties.
    """

    def __init__(self) -> None:
        self._masses = np.zeros((3, 0), dtype=np.float64)  # float64 counts whole numbers exactly up to 2**53
        self._low = 0
        self._regions = 0
        self._normal_beside = 0

    @property
    def anomalous_pixels(self) -> int:
        """Pixels counted whose ground truth is anomalous."""
        return int(self._masses[0].sum())

    @property
    def normal_pixels(self) -> int:
        """Pixels counted whose ground truth is normal."""
        return int(self._masses[1].sum())

    @property
    def regions(self) -> int:
        """Connected anomalous regions counted (8-connectivity, each frame by itself)."""
        return self._regions

    @property
    def normal_share_beside(self) -> float:
        """Share of the normal pixels that lie in frames with an anomalous pixel."""
        return self._normal_beside / max(self.normal_pixels, 1)

    @property
    def held_bytes(self) -> int:
        """Memory the histogram takes."""
        return self._masses.nbytes

    def add(self, labels: BoolArray, scores: npt.NDArray[np.float32]) -> None:
        """Count frames.

        Args:
            labels: bool (T, H, W), True for anomalous pixels.
            scores: float32 (T, H, W), higher is more anomalous.

        Raises:
            ScoresError: a score is not finite.
            ValueError: the shapes differ or are not three-dimensional.
        """
        if labels.shape != scores.shape or labels.ndim != 3:
            raise ValueError(f"expected labels and scores (T, H, W) of one shape, got {labels.shape}, {scores.shape}")
        if not labels.size:
            return
        check_finite(scores)
        bins = quantise(scores)
        low, high = int(bins.min()), int(bins.max())
        part, size = self._part(low, high), high - low + 1
        bins -= low
        every = np.bincount(bins.ravel(), minlength=size)
        anomalous = bins[labels]
        positives = np.bincount(anomalous, minlength=size)
        self._masses[0, part] += positives
        self._masses[1, part] += every - positives
        if anomalous.size:
            named = np.empty(labels.shape, dtype=np.int32)
            ndimage.label(labels, structure=_WITHIN_FRAME, output=named)
            self._regions += int(named.max())
            beside = labels[labels.any(axis=(1, 2))]
            self._normal_beside += beside.size - anomalous.size
            names = named[labels]
            weights = 1.0 / np.bincount(names)[names]
            self._masses[2, part] += np.bincount(anomalous, weights=weights, minlength=size)

    def merge(self, other: PixelHistogram) -> None:
        """Count all that another histogram has counted."""
        if other._masses.shape[1]:
            part = self._part(other._low, other._low + other._masses.shape[1] - 1)
            self._masses[:, part] += other._masses
            self._regions += other._regions
            self._normal_beside += other._normal_beside

    def auroc(self) -> float | None:
        """Pixel AUROC, all pixels pooled; None where only one class is present."""
        if not (self.anomalous_pixels and self.normal_pixels):
            return None
        normal, anomalous = self._curve(self._masses[0])
        return float(auc(normal, anomalous))

    def auroc_error(self) -> float | None:
        """The most by which ``auroc`` may differ from that of unquantised scores.

        Pairs that share a bin count half; they could have counted nothing or all: half their share of all pairs.
        """
        if not (self.anomalous_pixels and self.normal_pixels):
            return None
        pairs = float(self._masses[0] @ self._masses[1])
        return 0.5 * pairs / (float(self.anomalous_pixels) * float(self.normal_pixels))

    def aupro(self, limit: float = AUPRO_LIMIT) -> float | None:
        """Mean per-region overlap, averaged over pixel false-positive rates from 0 to ``limit``.

        The curve is interpolated linearly at ``limit`` exactly. None where there is no region or no normal pixel.
        """
        if not (self._regions and self.normal_pixels):
            return None
        normal, overlap = self._curve(self._masses[2])
        beyond = int(np.searchsorted(normal, limit))  # the first point at the limit or right of it
        before = beyond - 1
        slope = (overlap[beyond] - overlap[before]) / (normal[beyond] - normal[before])
        at_limit = overlap[before] + slope * (limit - normal[before])
        return float(auc(np.append(normal[:beyond], limit), np.append(overlap[:beyond], at_limit))) / limit

    def aupro_error(self, limit: float = AUPRO_LIMIT) -> float | None:
        """The most by which ``aupro`` may differ from that of unquantised scores.

        Inside a bin the true curve rises from one corner of a box to the other: it is off the straight line by at most
        half the box, and in the bin that ``limit`` cuts by at most what is left of the box before it.
        """
        if not (self._regions and self.normal_pixels):
            return None
        normal, overlap = self._curve(self._masses[2])
        height = np.diff(overlap)
        width = np.clip(np.minimum(normal[1:], limit) - normal[:-1], 0.0, None)
        share = np.where(normal[1:] > limit, 1.0, 0.5)
        return float((share * width * height).sum()) / limit

    def _curve(self, rising: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Share of normal pixels and of another mass above a threshold that falls bin by bin, both from 0 to 1."""
        occupied = self._masses.any(axis=0)
        curves = []
        for mass in (self._masses[1], rising):
            total = np.concatenate([[0.0], np.cumsum(mass[occupied][::-1])])
            curves.append(np.minimum(total / total[-1], 1.0))
        return curves[0], curves[1]

    def _part(self, low: int, high: int) -> slice:
        """Grow to hold the bins ``low`` to ``high`` and say where they lie."""
        held = self._masses.shape[1]
        if not held:
            self._low = low // _BLOCK * _BLOCK
        new_low = min(self._low, low // _BLOCK * _BLOCK)
        new_end = max(self._low + held, (high // _BLOCK + 1) * _BLOCK)
        if new_end - new_low > held:
            grown = np.zeros((3, new_end - new_low), dtype=np.float64)
            at = self._low - new_low
            grown[:, at : at + held] = self._masses
            self._masses, self._low = grown, new_low
        return slice(low - self._low, high + 1 - self._low)
