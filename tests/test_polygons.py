import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.polygons import GRID, area, cell_means, contains, covered, polygon_error

TURNS = st.floats(0.0, 1.0, width=32)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([(0, 0), (1, 1)], "at least 3 points, got 2"),
        ([(0, 0), (1.01, 0), (0, 1)], r"inside the image .*, got \[1.01, 0\]"),
        ([(0, 0), (0, 0), (1, 1)], r"every point of a polygon once, got \[0, 0\] twice"),
        ([(0, 0), (1, 1), (1, 0), (0, 1)], "do not cross or touch"),  # a bow tie
        ([(0, 0), (1, 0), (0.5, 0), (0.5, 1)], "do not cross or touch"),  # goes back over its own side
        ([(0, 0), (1, 0), (1, 1), (0.5, 0), (0, 1)], "do not cross or touch"),  # a corner on a side
        ([(0, 0), (0.5, 0.5), (1, 1)], "do not cross or touch"),  # no area at all
        ([(0, 0), (0.02, 0), (0, 0.02)], "at least 0.05 % of the image, got one of 0.02 %"),
    ],
)
def test_what_is_no_polygon_of_the_image_is_answered_in_words(points, said):
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(polygon_error(points))


@given(st.lists(TURNS, min_size=3, max_size=12, unique=True), st.floats(0.2, 0.5))
def test_a_star_around_a_point_is_sound_and_covers_its_area(turns, radius):
    angles = sorted({round(turn, 2) * 2 * math.pi for turn in turns})
    lengths = [radius * (0.5 + 0.5 * (number % 2)) for number in range(len(angles))]
    points = [(0.5 + r * math.cos(a), 0.5 + r * math.sin(a)) for a, r in zip(angles, lengths, strict=True)]
    gaps = [b - a for a, b in zip(angles, [*angles[1:], angles[0] + 2 * math.pi], strict=True)]
    if len(points) < 3 or max(gaps) >= math.pi - 1e-3 or area(points) < 0.001:
        return
    assert polygon_error(points) is None
    grid = covered(points)
    assert grid.mean() == pytest.approx(area(points), abs=4 * len(points) / GRID)
    row, column = 37, 201
    assert contains(points, (column + 0.5) / GRID, (row + 0.5) / GRID) == grid[row, column]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_a_cells_mean_is_that_of_its_points(height, width, seed):
    grid = np.random.default_rng(seed).integers(0, 4, (GRID, GRID)).astype(np.float64)
    means = cell_means(grid, height, width)
    row, column = seed % height, seed % width
    rows = slice(row * GRID // height, math.ceil((row + 1) * GRID / height))
    columns = slice(column * GRID // width, math.ceil((column + 1) * GRID / width))
    assert means.shape == (height, width)
    assert means[row, column] == grid[rows, columns].mean()
