import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts import Region
from pipeline.scoring.regions import anomalous_region, area, cells_of, is_same_place, overlap, touch, union


def test_a_region_is_the_strongest_spot_and_not_a_lesser_one():
    anomaly_map = np.zeros((10, 20), np.float16)
    anomaly_map[2:4, 5:9] = 1.0
    anomaly_map[4, 9] = 0.6  # touches it at a corner
    anomaly_map[8, 15] = 0.9
    region = anomalous_region(anomaly_map)
    assert (region.left, region.top, region.right, region.bottom) == (0.25, 0.2, 0.5, 0.5)


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
def test_a_map_in_which_nothing_stands_out_has_no_region(value):
    assert anomalous_region(np.full((4, 6), value, np.float16)) is None


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_a_region_lies_within_the_image_and_holds_the_maximum(height, width, seed):
    values = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float16)
    region = anomalous_region(values)
    if region is None:
        assert float(values.max()) <= float(np.median(values.astype(np.float32)))
        return
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert 0.0 <= region.left <= column / width < region.right <= 1.0
    assert 0.0 <= region.top <= row / height < region.bottom <= 1.0
    rows, columns = cells_of(region, values.shape)
    assert rows.start <= row < rows.stop <= height
    assert columns.start <= column < columns.stop <= width


eighths = st.integers(0, 7)
boxes = st.builds(
    lambda x, y, w, h: Region(x / 16, y / 16, (x + w) / 16, (y + h) / 16),
    eighths, eighths, st.integers(1, 9), st.integers(1, 9),
)  # fmt: skip


@given(boxes, boxes)
def test_what_two_places_have_in_common_is_as_their_cells_say(first, second):
    grids = [np.zeros((16, 16), bool) for _ in range(2)]
    for grid, box in zip(grids, (first, second), strict=True):
        grid[cells_of(box, grid.shape)] = True
        assert area(box) == grid.mean()
    common, either = (grids[0] & grids[1]).mean(), (grids[0] | grids[1]).mean()
    assert overlap(first, second) == common
    assert touch(first, second) == (common > 0)
    assert is_same_place(first, second) == (common > 0 and common >= either / 4)
    whole = np.zeros((16, 16), bool)
    whole[cells_of(union(first, second), whole.shape)] = True
    assert not ((grids[0] | grids[1]) & ~whole).any()


def test_where_one_place_is_not_known_nobody_can_say_that_they_differ():
    assert touch(None, Region(0.0, 0.0, 0.1, 0.1))
    assert union(None, None) is None
