"""RBDC and TBDC: how many anomalous regions, and how many tracks of them, maps find at how many false regions a frame.

Criteria of Ramachandra and Jones (Street Scene, WACV 2020), in one pass over frames and in memory that grows with the
number of tracks alone. ``docs/evaluation.md`` defines both and says what is approximated. Free of torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

from pipeline.evaluation.tracks import BoxArray, TrackLinker

OVERLAP = 0.1
"""Least intersection over union at which a region counts as found (the paper's beta)."""

TRACK_SHARE = 0.1
"""Least share of a track's regions by which the track counts as found (the paper's alpha)."""

THRESHOLDS = 64
"""Heights that maps are cut at."""

_RAREST, _MOST_COMMON = 1e-5, 0.5
"""Shares of all values that the highest and the lowest threshold leave at or above it."""

_WITHIN_CUT = np.zeros((3, 3, 3), dtype=bool)
"""8-connectivity inside a map that was cut, none across cuts."""
_WITHIN_CUT[1] = True


@dataclass(frozen=True, slots=True)
class RegionCriteria:
    """Both criteria; one that does not exist is None.

    Attributes:
        rbdc: area under the share of regions found against false regions a frame, from 0 to 1 of these.
        tbdc: the same of tracks.
        tracks: tracks of anomalous regions.
    """

    rbdc: float | None
    tbdc: float | None
    tracks: int


def cut_heights(maps: Iterable[npt.NDArray[np.float16]]) -> npt.NDArray[np.float32]:
    """Thresholds for ``RegionCounter``: heights that fixed shares of all map values reach.

    The shares are evenly spaced in their logarithm. Every value of float16 is counted by itself, so they are exact and
    memory is half a megabyte.

    Args:
        maps: anomaly maps, shape (n, h, w) each, finite.

    Returns:
        float32 (K,), rising, each once; K is at most ``THRESHOLDS``, and 0 without maps.
    """
    counts = np.zeros(1 << 16, dtype=np.int64)
    for several in maps:
        counts += np.bincount(several.view(np.uint16).ravel(), minlength=counts.size)
    bits = np.flatnonzero(counts).astype(np.uint16)
    if not bits.size:
        return np.zeros(0, dtype=np.float32)
    values = bits.view(np.float16).astype(np.float32)
    order = np.argsort(values)
    values, reached = values[order], counts[bits][order][::-1].cumsum()[::-1]
    wanted = np.geomspace(_RAREST, _MOST_COMMON, THRESHOLDS) * reached[0]
    # Of the values that at least so many reach, the highest.
    at = np.searchsorted(-reached, -wanted, side="right") - 1
    return np.unique(values[np.maximum(at, 0)])


class RegionCounter:
    """Counts found regions, found regions of each track, and false regions, at every threshold.

    Args:
        thresholds: rising, float32 (K,).
    """

    def __init__(self, thresholds: npt.NDArray[np.float32]) -> None:
        self.thresholds = thresholds
        self._frames = 0
        self._false = np.zeros(thresholds.size, dtype=np.int64)
        self._found: list[npt.NDArray[np.int64]] = []  # of each track: its regions found, by threshold
        self._sizes: list[int] = []
        self._linker = TrackLinker()

    def begin_clip(self) -> None:
        """Let no track go on: what comes is another clip."""
        self._linker = TrackLinker()

    def add(self, masks: npt.NDArray[np.bool_], maps: npt.NDArray[np.float16]) -> None:
        """Count the next frames of the clip.

        Args:
            masks: bool (T, H, W), True for anomalous pixels.
            maps: (T, h, w), higher is more anomalous.
        """
        before = len(self._sizes) - len(self._linker.regions)
        for mask, anomaly_map in zip(masks, maps, strict=True):
            self._frames += 1
            truth, tracks = self._linker.link(mask)
            new = len(self._linker.regions) + before - len(self._sizes)
            self._sizes += [0] * new
            self._found += [np.zeros(self.thresholds.size, dtype=np.int64) for _ in range(new)]
            for track in tracks:
                self._sizes[before + track] += 1
            self._count(anomaly_map, mask.shape, truth, tracks + before)

    def merge(self, other: RegionCounter) -> None:
        """Count all that another counter with the same thresholds has counted."""
        self._frames += other._frames
        self._false += other._false
        self._found += other._found
        self._sizes += other._sizes
        self.begin_clip()

    def criteria(self) -> RegionCriteria:
        """Both criteria of all that was counted; None each where there is no region."""
        if not self._sizes:
            return RegionCriteria(None, None, 0)
        found, sizes = np.stack(self._found), np.array(self._sizes)
        false_rate = self._false / self._frames
        regions = found.sum(axis=0) / sizes.sum()
        tracks = (found >= TRACK_SHARE * sizes[:, None]).mean(axis=0)
        return RegionCriteria(area_to_one(false_rate, regions), area_to_one(false_rate, tracks), sizes.size)

    def _count(
        self,
        anomaly_map: npt.NDArray[np.float16],
        shape_px: tuple[int, ...],
        truth: BoxArray,
        tracks: npt.NDArray[np.int64],
    ) -> None:
        """Cut one frame's map at every threshold and hold what stands out against the truth."""
        boxes, cuts = _regions(anomaly_map.astype(np.float32), self.thresholds)
        scale = np.array(shape_px) / anomaly_map.shape
        matches = _overlaps(boxes * np.tile(scale, 2), truth) >= OVERLAP
        self._false += np.bincount(cuts[~matches.any(axis=1)], minlength=self.thresholds.size)
        for region, track in enumerate(tracks):
            self._found[track][np.unique(cuts[matches[:, region]])] += 1


def area_to_one(false_rate: npt.NDArray[np.float64], found: npt.NDArray[np.float64]) -> float:
    """Area under the share that is found against the false regions a frame, from 0 to 1 of these.

    Lower thresholds let regions grow together, so neither rises throughout: at each rate of false regions the highest
    share counts that a threshold reaches with no more. The curve begins at (0, 0), is straight between points, and
    level behind the last that is not beyond 1.

    Args:
        false_rate: of each threshold, (K,).
        found: of each threshold, in [0, 1].
    """
    order = np.lexsort((found, false_rate))
    order = order[false_rate[order] <= 1.0]
    rates = np.concatenate([[0.0], false_rate[order], [1.0]])
    heights = np.maximum.accumulate(np.concatenate([[0.0], found[order]]))
    return float(np.trapezoid(np.append(heights, heights[-1]), rates))


def _regions(
    anomaly_map: npt.NDArray[np.float32], thresholds: npt.NDArray[np.float32]
) -> tuple[BoxArray, npt.NDArray[np.int64]]:
    """Boxes, in cells, of what stands out at each threshold, and the number of the threshold of each."""
    reached = int(np.searchsorted(thresholds, anomaly_map.max(), side="right"))
    if not reached:  # scipy finds nothing to look for in nothing
        return np.zeros((0, 4)), np.zeros(0, dtype=np.int64)
    named: npt.NDArray[np.int32] = ndimage.label(  # pyright: ignore
        anomaly_map >= thresholds[:reached, None, None], _WITHIN_CUT
    )[0]
    found = ndimage.find_objects(named)  # pyright: ignore
    rows = np.array(
        [(cut.start, row.start, column.start, row.stop, column.stop) for cut, row, column in found], dtype=np.int64
    ).reshape(-1, 5)
    return rows[:, 1:].astype(np.float64), rows[:, 0]


def _overlaps(boxes: BoxArray, others: BoxArray) -> npt.NDArray[np.float64]:
    """Intersection over union of every box with every other, (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    areas = [np.prod(several[:, 2:] - several[:, :2], axis=1) for several in (boxes, others)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared)
