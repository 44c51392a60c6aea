"""Normal footage as its camera would have seen it: thinned, and smoothed as live frames are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.normal_footage import NormalStretch, StretchKind
from pipeline.scoring.smoothing import smooth

_WIDEST_STEP = 10**9


@dataclass(frozen=True, slots=True, eq=False)
class SmoothedStretch:
    """Smoothed scores of consecutive frames of a camera.

    Attributes:
        kind: what they are good for, as of ``NormalStretch``.
        fps: frames per second, after thinning.
        scores: float64, shape (T,).
        weight: 1 over how many such sequences tell of the same footage.
        begins_s: how much footage of its kind comes before it, in seconds.
    """

    kind: StretchKind
    fps: float
    scores: npt.NDArray[np.float64]
    weight: float
    begins_s: float

    @property
    def hours(self) -> float:
        """Of footage that nothing else tells of."""
        return self.weight * len(self.scores) / self.fps / 3600.0


def smoothed(stretches: Sequence[NormalStretch], sample_fps: float | None, smoothing_s: float) -> list[SmoothedStretch]:
    """Thin and smooth.

    Smoothing at a lower rate averages fewer frames, which widens the distribution and moves its quantiles. Every k-th
    frame is taken, from each of the k offsets, with k the rounded ratio of the rates: no score is lost. The k sequences
    tell of the same minutes, so each counts as a k-th.

    Args:
        stretches: scores as they were measured.
        sample_fps: frames per second the camera scores; None for all of them.
        smoothing_s: time constant of ``CausalSmoother``, in seconds.
    """
    found: list[SmoothedStretch] = []
    lasted_s: dict[StretchKind, float] = {}
    for stretch in stretches:
        step = 1 if sample_fps is None else max(1, round(min(stretch.fps / sample_fps, _WIDEST_STEP)))
        fps = stretch.fps / step
        for offset in range(min(step, len(stretch.scores))):
            scores = smooth(stretch.scores[offset::step], fps, smoothing_s)
            found.append(SmoothedStretch(stretch.kind, fps, scores, 1.0 / step, lasted_s.get(stretch.kind, 0.0)))
        lasted_s[stretch.kind] = lasted_s.get(stretch.kind, 0.0) + len(stretch.scores) / stretch.fps
    return found
