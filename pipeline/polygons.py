"""Polygons in an image, in fractions of it: whether one is sound, and which part of the image it covers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
"""(x, y), from the image's left and from its top, each in [0, 1]."""

GRID = 256
"""Points of a row and of a column by which areas are told; more than any map has cells."""

_LEAST_AREA = 0.0005


def polygon_error(points: Sequence[Point]) -> str | None:
    """Why points are no polygon in the image, in one line; None where they are one.

    Args:
        points: the corners in order; the last is joined with the first.
    """
    if len(points) < 3:
        return f"expected a polygon of at least 3 points, got {len(points)}"
    for point in points:
        if not all(0.0 <= value <= 1.0 for value in point):
            return f"expected points inside the image (fractions of its width and height, 0 to 1), got {_text(point)}"
    edges = list(zip(points, [*points[1:], points[0]], strict=True))
    if any(start == end for start, end in edges):
        return (
            f"expected every point of a polygon once, got {_text(next(s for s, e in edges if s == e))} twice in a row"
        )
    for (first, one), (second, other) in combinations(enumerate(edges), 2):
        neighbours = second - first == 1 or (first == 0 and second == len(edges) - 1)
        if _folds(one, other) if neighbours else _meet(one, other):
            return (
                "expected a polygon whose sides do not cross or touch, got "
                f"{_text(one[0])}-{_text(one[1])} and {_text(other[0])}-{_text(other[1])}"
            )
    if (found := area(points)) < _LEAST_AREA:
        return f"expected a polygon of at least {100 * _LEAST_AREA:g} % of the image, got one of {100 * found:.2g} %"
    return None


def area(points: Sequence[Point]) -> float:
    """Part of the image that a simple polygon covers."""
    turned = zip(points, [*points[1:], points[0]], strict=True)
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in turned)) / 2.0


def contains(points: Sequence[Point], x: float, y: float) -> bool:
    """Whether a polygon holds a point."""
    return bool(_inside(points, np.array([x]), np.array([y]))[0, 0])


def covered(points: Sequence[Point]) -> npt.NDArray[np.bool_]:
    """Which points of the grid a polygon holds; shape (``GRID``, ``GRID``), rows from the top."""
    middles = (np.arange(GRID) + 0.5) / GRID
    return _inside(points, middles, middles)


def cell_means(grid: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float64]:
    """Means over the cells of a map, of values at the grid's points.

    Args:
        grid: shape (``GRID``, ``GRID``).
        height: cells of a column.
        width: cells of a row.

    Returns:
        Shape (height, width). Where cells are smaller than the grid's, several take the value of one point.
    """
    sums = np.zeros((GRID + 1, GRID + 1))
    sums[1:, 1:] = grid.cumsum(axis=0).cumsum(axis=1)
    (top, bottom), (left, right) = _ranges(height), _ranges(width)
    inside = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    return inside / np.outer(bottom - top, right - left)


def _ranges(cells: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First grid line of every cell, and the one behind its last; at least one line each."""
    bounds = np.arange(cells + 1) * GRID
    return bounds[:-1] // cells, -(-bounds[1:] // cells)


def _inside(points: Sequence[Point], xs: npt.NDArray[np.float64], ys: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """By the even-odd rule, at every pair of one y (rows) and one x (columns)."""
    inside = np.zeros((len(ys), len(xs)), np.bool_)
    for (x, y), (next_x, next_y) in zip(points, [*points[1:], points[0]], strict=True):
        rows = np.flatnonzero((y > ys) != (next_y > ys))
        if len(rows):
            crossing = x + (ys[rows] - y) / (next_y - y) * (next_x - x)
            inside[rows] ^= xs[None, :] < crossing[:, None]
    return inside


def _side(a: Point, b: Point, c: Point) -> float:
    """Above 0 where c lies on one side of the line from a to b, below on the other."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _on(a: Point, b: Point, c: Point) -> bool:
    """Whether c, on the line through a and b, lies between them."""
    return min(a[0], b[0]) <= c[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= c[1] <= max(a[1], b[1])


def _meet(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two sides without a common corner share a point."""
    (a, b), (c, d) = one, other
    sides = _side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)
    if sides[0] * sides[1] < 0.0 and sides[2] * sides[3] < 0.0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(side == 0.0 and _on(*end) for side, end in zip(sides, ends, strict=True))


def _folds(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether one of two sides with a common corner goes back over the other."""
    shared = one[1] if one[1] == other[0] else one[0]
    (a,) = (point for point in one if point != shared)
    (b,) = (point for point in other if point != shared)
    ahead = (a[0] - shared[0]) * (b[0] - shared[0]) + (a[1] - shared[1]) * (b[1] - shared[1])
    return _side(a, shared, b) == 0.0 and ahead > 0.0


def _text(point: Point) -> str:
    return f"[{point[0]:g}, {point[1]:g}]"
