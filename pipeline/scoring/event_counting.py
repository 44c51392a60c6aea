"""How many events normal footage opens, for every threshold at once.

With the close threshold fixed, the stretches in which an event can be open are fixed, too: from a score at or above it
to the last one before ``close_s`` without any. At most one event opens in each, and it does where enough scores in a
row are at or above the opening threshold (``opens_after``). So the *sustained peak* of a stretch, the
highest level that its scores keep for that long, says for every threshold whether an event opens in it: counting
events is counting peaks. ``EventTracker`` opens the same ones, frame by frame; a test holds the two together.

What continues an event that ended within the cooldown, what opens nothing because its cause was told and stays, and
what a change of light makes anomalous is counted here as if each opened an event, so that what is promised is an upper
bound. (Beside a thing that stays, one such stretch may hold several events: one in ``still_after_s`` at most.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

from pipeline.camera_settings import AlertSettings
from pipeline.scoring.smoothed import SmoothedStretch
from pipeline.scoring.smoothing import ROUNDING_S

_ROUNDING = 1e-9

FloatArray = npt.NDArray[np.float64]


def opens_after(settings: AlertSettings, fps: float) -> int:
    """How many frames in a row at or above the threshold open an event.

    Args:
        settings: of the camera.
        fps: at which its frames come.
    """
    in_time = math.ceil((settings.open_s - ROUNDING_S) * fps) + 1
    return max(settings.open_frames, in_time)


def sustained_peaks(
    scores: FloatArray, fps: float, closing: float, settings: AlertSettings
) -> tuple[FloatArray, FloatArray]:
    """The sustained peak of every stretch in which an event could be open.

    Args:
        scores: smoothed, of consecutive frames, shape (T,).
        fps: frames per second.
        closing: the close threshold.
        settings: ``open_frames``, ``open_s`` and ``close_s`` are read.

    Returns:
        Levels, shape (N,), in order; all at or above ``closing``. At a threshold at or above it as many events open as
        there are peaks at or above the threshold. And when each stretch begins, in seconds.
    """
    frames = opens_after(settings, fps)
    active = np.flatnonzero(scores >= closing)
    if len(scores) < frames or not active.size:
        return np.empty(0), np.empty(0)
    quiet_frames = max(1, math.ceil(settings.close_s * fps * (1.0 - _ROUNDING)))
    begins = np.diff(active, prepend=-quiet_frames - 1) > quiet_frames
    stretch_of = np.zeros(len(scores), np.int64)
    stretch_of[active] = np.cumsum(begins)
    # The lowest score of the frames that end with each one; every frame of them is active where it is.
    lowest = np.asarray(ndimage.minimum_filter1d(scores, frames, origin=(frames - 1) // 2), np.float64)  # pyright: ignore
    ends = np.flatnonzero(lowest[frames - 1 :] >= closing) + frames - 1
    if not ends.size:
        return np.empty(0), np.empty(0)
    firsts = np.flatnonzero(np.diff(stretch_of[ends], prepend=0))
    return np.maximum.reduceat(lowest[ends], firsts), ends[firsts] / fps


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """Sustained peaks of some footage.

    Attributes:
        levels: highest first, shape (N,).
        weights: how much of an event each counts, shape (N,): a k-th where k sequences tell of the same footage.
        times_s: when each happened, in seconds of the footage, shape (N,).
        hours: of the footage.
    """

    levels: FloatArray
    weights: FloatArray
    times_s: FloatArray
    hours: float

    @classmethod
    def of(cls, stretches: Sequence[SmoothedStretch], closing: float, settings: AlertSettings) -> Peaks:
        """The peaks of several stretches; arguments as for ``sustained_peaks``."""
        levels, weights, times_s = [np.empty(0)], [np.empty(0)], [np.empty(0)]
        for stretch in stretches:
            peaks, at_s = sustained_peaks(stretch.scores, stretch.fps, closing, settings)
            levels.append(peaks)
            weights.append(np.full(len(peaks), stretch.weight))
            times_s.append(stretch.begins_s + at_s)
        found = np.concatenate(levels)
        order = np.argsort(-found, kind="stable")
        hours = sum(stretch.hours for stretch in stretches)
        return cls(found[order], np.concatenate(weights)[order], np.concatenate(times_s)[order], hours)

    def counted(self, threshold: float) -> float:
        """How many events open at a threshold at or above the close threshold."""
        return float(self.weights[self.levels >= threshold].sum())

    def threshold_for(self, events: float, closing: float) -> float:
        """The lowest threshold at which no more than a number of events opens, and at least the close threshold.

        Args:
            events: how many may open.
            closing: the close threshold.
        """
        above = np.flatnonzero(np.cumsum(self.weights) > events * (1.0 + _ROUNDING))
        return just_above(float(self.levels[above[0]])) if above.size else closing


def just_above(level: float) -> float:
    """A little more, by more than rounding."""
    return level + _ROUNDING * max(1.0, abs(level))
