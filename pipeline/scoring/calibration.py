"""What normal footage scores: conformal p-values and thresholds, from held-out normal frames alone.

Reference for the p-value: Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*, 2005 (conformal
prediction); Laxhammar and Falkman 2010 for its use on anomalies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.camera_settings import AlertSettings
from pipeline.normal_footage import NormalStretch
from pipeline.scoring.alignment import Alignment
from pipeline.scoring.drift import DriftTest
from pipeline.scoring.smoothed import smoothed
from pipeline.scoring.spread import spread_of
from pipeline.scoring.threshold_law import thresholds_of
from pipeline.scoring.thresholds import Thresholds

_LAW = 1
"""Number of the law by which thresholds are made; another law, other thresholds of the same footage."""

# What of a camera's alert settings decides thresholds.
_ASKED = {"budget", "quantile", "close_quantile", "smoothing_s", "open_frames", "open_s", "close_s"}


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What the scores of a camera are set against.

    Attributes:
        thresholds: of its smoothed scores.
        alignment: of frames without a pair; None where all frames are on one scale as they are.
        normal: scores of normal frames with a pair, lowest first, float64, shape (N,).
        unpaired: the same without one.
        drift: tells whether scores are still those; None where there is too little footage to.
        median: of ``normal``.
        spread: its standard deviation without outliers: by the median absolute deviation.
    """

    thresholds: Thresholds
    alignment: Alignment | None
    normal: npt.NDArray[np.float64]
    unpaired: npt.NDArray[np.float64]
    drift: DriftTest | None
    median: float
    spread: float

    @classmethod
    def of(
        cls, stretches: Sequence[NormalStretch], settings: AlertSettings, sample_fps: float | None = None
    ) -> Calibration:
        """Calibrate a camera; the same footage and settings give the same, wherever.

        Args:
            stretches: normal footage, at least one frame.
            settings: when the camera raises an alarm.
            sample_fps: frames per second the camera scores; None for all of them.
        """
        # Where nobody has looked without pairs, footage tells of frames with one alone.
        apart = [replace(stretch, scores=stretch.unpaired) for stretch in stretches if stretch.unpaired is not None]
        own, own_median = _thresholds(stretches, settings, sample_fps)
        own, normal = replace(own, version=_version(stretches, settings, sample_fps)), _sorted(stretches)
        drift, median, spread = DriftTest.of(stretches), float(np.median(normal)), spread_of(normal)
        if not apart:
            return cls(own, None, normal, normal, drift, median, spread)
        other, other_median = _thresholds(apart, settings, sample_fps)
        alignment = Alignment.between(own.opening, own_median, other.opening, other_median)
        aligned = replace(own, unpaired_closing=alignment.aligned(other.closing))
        return cls(aligned, alignment, normal, _sorted(apart), drift, median, spread)

    def p_value(self, score: float, *, paired: bool) -> float:
        r"""Conformal p-value of a raw (not smoothed) anomaly score, in (0, 1].

        .. math:: p(s) = \frac{1 + \#\{i : s_i \ge s\}}{n + 1}

        For a frame exchangeable with the held-out ones, :math:`P(p \le a) \le a`. Neighbouring frames resemble each
        other, so p-values of consecutive frames are far from independent. No p-value is below ``1 / (n + 1)``.

        Args:
            score: as the detector gave it.
            paired: whether the frame had a pair; it is set against normal frames of its kind.
        """
        known = self.normal if paired else self.unpaired
        at_least = len(known) - int(known.searchsorted(score))
        return (1 + at_least) / (len(known) + 1)


def _thresholds(
    stretches: Sequence[NormalStretch], settings: AlertSettings, sample_fps: float | None
) -> tuple[Thresholds, float]:
    """Thresholds of frames of one kind, and the median of their smoothed scores."""
    seen = smoothed(stretches, sample_fps, settings.smoothing_s)
    median = np.quantile(np.concatenate([stretch.scores for stretch in seen]), 0.5, method="higher")
    return thresholds_of(seen, settings), float(median)


def _sorted(stretches: Sequence[NormalStretch]) -> npt.NDArray[np.float64]:
    return np.sort(np.concatenate([stretch.scores for stretch in stretches]))


def _version(stretches: Sequence[NormalStretch], settings: AlertSettings, sample_fps: float | None) -> str:
    """12 hex digits of a SHA-256 over all that decides thresholds."""
    asked = settings.model_dump(mode="json", include=_ASKED)
    digest = hashlib.sha256(json.dumps([_LAW, asked, sample_fps], sort_keys=True).encode())
    for stretch in stretches:
        parts = (stretch.scores,) if stretch.unpaired is None else (stretch.scores, stretch.unpaired)
        digest.update(json.dumps([stretch.kind, stretch.fps, len(stretch.scores), len(parts)]).encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part, "<f8").tobytes())
    return digest.hexdigest()[:12]
