"""Anomalous regions of labelled pixels, and their tracks: the same object in the frames after. Free of torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

BoxArray = npt.NDArray[np.float64]
"""Boxes, shape (N, 4): first row, first column, and the first row and column behind them."""

_TOUCHING = np.ones((3, 3), dtype=bool)  # 8-connectivity


class TrackLinker:
    """Follows the anomalous regions of one clip from frame to frame.

    Two regions of neighbouring frames are one object where they share pixels. Pairs are taken by how many they share,
    the most first, and a region has one before it and one after it at most: where an object's mask falls apart, the
    part that shares most goes on and the others begin tracks of their own. A frame without the region ends its track.

    Attributes:
        regions: of each track so far, how many.
    """

    def __init__(self) -> None:
        self.regions: list[int] = []
        self._named: npt.NDArray[np.int32] | None = None  # the last frame's regions
        self._tracks = np.zeros(0, dtype=np.int64)  # and the track of each

    def link(self, mask: npt.NDArray[np.bool_]) -> tuple[BoxArray, npt.NDArray[np.int64]]:
        """Take in the next frame.

        Args:
            mask: bool (H, W), True where it is anomalous.

        Returns:
            The box of each region in pixels, and the number of its track, int64 (N,).
        """
        named = np.empty(mask.shape, dtype=np.int32)
        count = int(ndimage.label(mask, _TOUCHING, output=named))  # pyright: ignore
        tracks = np.full(count, -1, dtype=np.int64)
        if self._named is not None and count:
            for before, after in _by_overlap(self._named, named, count):
                if tracks[after] < 0 and self._tracks[before] not in tracks:
                    tracks[after] = self._tracks[before]
        for region in np.flatnonzero(tracks < 0):
            tracks[region] = len(self.regions)
            self.regions.append(0)
        for track in tracks:
            self.regions[track] += 1
        self._named, self._tracks = named, tracks
        return boxes_of(named), tracks


def boxes_of(named: npt.NDArray[np.int32]) -> BoxArray:
    """The box of each named region (1 to N) of a frame."""
    found = ndimage.find_objects(named)  # pyright: ignore
    return np.array(
        [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in found], dtype=np.float64
    ).reshape(-1, 4)


def _by_overlap(before: npt.NDArray[np.int32], after: npt.NDArray[np.int32], count: int) -> list[tuple[int, int]]:
    """Pairs of regions (numbers from 0) that share pixels, those that share most first."""
    shared = (before > 0) & (after > 0)
    pairs, pixels = np.unique((before[shared].astype(np.int64) - 1) * count + after[shared] - 1, return_counts=True)
    order = np.lexsort((pairs, -pixels))
    return [divmod(int(pair), count) for pair in pairs[order]]
