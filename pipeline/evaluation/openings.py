"""Which events would open at other thresholds: from written smoothed scores, by the rule of ``EventTracker``.

Every threshold of a clip is moved by one *shift*, in units of scores, while the close thresholds stay. With these fixed
the stretches in which an event can be open are fixed, too, and at most one opens in each: at the first frame that ends
``open_frames`` frames in a row, ``open_s`` of media time long, which are all at or above the moved threshold. What
holds an event back or joins it to an earlier one (cooldown, changes of light, schedules) is left out. Free of torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.camera_settings import AlertSettings

_ROUNDING_S = 1e-6

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Opening:
    """A frame at which an event opens, while the shift is at or below ``level`` and above that of the next one.

    Attributes:
        level: highest shift at which it opens here or earlier.
        opened: the frame.
        began: the latest frame at which it may have begun: the first of those that opened it.
    """

    level: float
    opened: int
    began: int


@dataclass(frozen=True, slots=True)
class OpeningStretch:
    """A stretch of frames in which an event can be open.

    Attributes:
        first: its first frame at or above the close threshold.
        last: its last one.
        openings: by falling level, each at an earlier frame than the one before; at least one.
    """

    first: int
    last: int
    openings: tuple[Opening, ...]


class Openings:
    """All events that could open in one clip.

    Args:
        smoothed: smoothed scores, (T,).
        thresholds: that they were held against, (T,).
        closings: close thresholds, (T,).
        clock_s: time that has passed at each frame, not falling, (T,).
        settings: ``open_frames``, ``open_s`` and ``close_s`` are read.
    """

    def __init__(
        self,
        smoothed: FloatArray,
        thresholds: FloatArray,
        closings: FloatArray,
        clock_s: FloatArray,
        settings: AlertSettings,
    ) -> None:
        margins = smoothed - thresholds
        self._lowest = _RangeMinimum(np.where(smoothed >= closings, margins, -np.inf))
        frames = np.arange(smoothed.size)
        in_time = np.searchsorted(clock_s, clock_s - settings.open_s + _ROUNDING_S, side="right") - 1
        self._began = np.minimum(frames - settings.open_frames + 1, in_time)
        self.stretches = tuple(self._stretches(smoothed >= closings, clock_s, settings.close_s))
        """Those in which an event opens at some shift, in order."""

    def opened(self, shift: float = 0.0) -> list[int]:
        """The frames at which events open at a shift, in order."""
        at = [[of.opened for of in stretch.openings if of.level >= shift] for stretch in self.stretches]
        return [min(frames) for frames in at if frames]

    def kept_from(self, frame: int, opening: Opening) -> float:
        """Highest shift at which the event of an opening began at a frame before it, or earlier."""
        return self._lowest(frame, opening.opened)

    def _stretches(self, active: npt.NDArray[np.bool_], clock_s: FloatArray, close_s: float) -> list[OpeningStretch]:
        at = np.flatnonzero(active)
        if not at.size:
            return []
        # Between two active frames an event ends with the first frame that is ``close_s`` after the earlier one.
        quiet_s = clock_s[at[1:] - 1] - clock_s[at[:-1]]
        parts = np.split(at, np.flatnonzero(quiet_s >= close_s - _ROUNDING_S) + 1)
        found = [OpeningStretch(int(part[0]), int(part[-1]), tuple(self._openings(part))) for part in parts]
        return [stretch for stretch in found if stretch.openings]

    def _openings(self, frames: npt.NDArray[np.int64]) -> list[Opening]:
        """By falling level: the records of what the frames before each one kept, counted from the stretch's end."""
        frames = frames[self._began[frames] >= frames[0]]
        kept = [self._lowest(int(self._began[frame]), int(frame)) for frame in frames]
        best, found = -np.inf, list[Opening]()
        for frame, level in zip(frames, kept, strict=True):
            if level > best:
                best = level
                found.append(Opening(level, int(frame), int(self._began[frame])))
        return found[::-1]


class _RangeMinimum:
    """The least of any range of values, in constant time (sparse table)."""

    def __init__(self, values: FloatArray) -> None:
        self._tables = [values]
        width = 1
        while 2 * width <= values.size:
            last = self._tables[-1]
            self._tables.append(np.minimum(last[:-width], last[width:]))
            width *= 2

    def __call__(self, first: int, last: int) -> float:
        """Of the values from ``first`` to ``last``, both included."""
        level = (last - first + 1).bit_length() - 1
        table = self._tables[level]
        return float(min(table[first], table[last - (1 << level) + 1]))
