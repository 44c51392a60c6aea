"""Where in the image something stands out, and whether two places are the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

from pipeline.alerts import Region

_SAME = 0.25  # of what two boxes cover together; beyond that the same thing was never seen to jitter in trials


def anomalous_region(anomaly_map: npt.NDArray[np.float16]) -> Region | None:
    """Box around the spot that stands out most.

    The spot is the connected component (diagonals count) that holds the map's maximum, of all positions at or above the
    middle between the map's median and its maximum.

    Args:
        anomaly_map: shape (h, w).

    Returns:
        The box, or None where the map is flat or not finite: nothing stands out.
    """
    values = anomaly_map.astype(np.float32)
    median, maximum = float(np.median(values)), float(values.max())
    if not np.isfinite(values).all() or maximum <= median:
        return None
    return strongest_spot(values, median + (maximum - median) / 2)


def strongest_spot(values: npt.NDArray[np.float32], level: float) -> Region:
    """Box around the connected component (diagonals count) of cells at or above a level that holds the maximum.

    Args:
        values: a map, shape (h, w), finite.
        level: at most the map's maximum.
    """
    labels: npt.NDArray[np.int32] = ndimage.label(values >= level, np.ones((3, 3)))[0]  # pyright: ignore
    spot = labels == labels[np.unravel_index(int(values.argmax()), values.shape)]
    height, width = values.shape
    rows, columns = np.flatnonzero(spot.any(axis=1)), np.flatnonzero(spot.any(axis=0))
    return Region(
        left=float(columns[0] / width),
        top=float(rows[0] / height),
        right=float((columns[-1] + 1) / width),
        bottom=float((rows[-1] + 1) / height),
    )


def cells_of(region: Region, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a map of that shape that a region touches."""
    height, width = shape
    rows = slice(int(region.top * height), int(np.ceil(region.bottom * height)))
    return rows, slice(int(region.left * width), int(np.ceil(region.right * width)))


def area(region: Region) -> float:
    """Share of the image that a region covers."""
    return (region.right - region.left) * (region.bottom - region.top)


def widened(region: Region, shape: tuple[int, ...]) -> Region:
    """A region, a cell of a map of that shape wider on every side: for what flickers at its edge."""
    height, width = shape
    return Region(
        max(0.0, region.left - 1 / width),
        max(0.0, region.top - 1 / height),
        min(1.0, region.right + 1 / width),
        min(1.0, region.bottom + 1 / height),
    )


def union(first: Region | None, second: Region | None) -> Region | None:
    """The smallest box that holds both; None is nothing."""
    if first is None or second is None:
        return first or second
    return Region(
        min(first.left, second.left),
        min(first.top, second.top),
        max(first.right, second.right),
        max(first.bottom, second.bottom),
    )


def overlap(first: Region, second: Region) -> float:
    """Share of the image that two regions have in common."""
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    return max(0.0, width) * max(0.0, height)


def touch(first: Region | None, second: Region | None) -> bool:
    """Whether two regions have anything in common; where one is not known, nobody can say that they have not."""
    return first is None or second is None or overlap(first, second) > 0.0


def is_same_place(first: Region, second: Region) -> bool:
    """Whether two boxes may be of one thing that did not move: a quarter of what they cover is common to both."""
    common = overlap(first, second)
    return common > 0.0 and common >= _SAME * (area(first) + area(second) - common)
