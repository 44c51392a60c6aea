"""The picture of a peak: the camera's own, with what stands out laid over it."""

import io

import matplotlib
import numpy as np
from PIL import Image

from pipeline.alerts import Region
from pipeline.evidence.picture import Shown, colours, draw_peak
from tests.videos import numbered_frame

CAPTION = "gate  2026-11-26 14:03:12 +01:00  score 6.43 over 6.01"


def drawn(image, **shown):
    jpeg = draw_peak(image, Shown(**{"anomaly_map": None, "region": None, "caption": CAPTION, **shown}))
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def test_what_stands_out_is_coloured_and_the_rest_stays_as_it_is():
    image = np.full((240, 320, 3), 90, np.uint8)
    spot = np.zeros((12, 16), np.float16)
    spot[3:5, 10:12] = 7.0
    picture = drawn(image, anomaly_map=spot)
    assert picture.shape[1] == 320 and picture.shape[0] > 240
    changed = np.abs(picture[:240] - 90).max(axis=2)
    assert changed[60:100, 200:240].mean() > 45
    assert changed[130:, :150].max() <= 4
    assert picture[80, 220].tolist() != [90, 90, 90]


def test_a_flat_map_one_that_is_not_finite_and_none_change_nothing():
    image = numbered_frame(300, (120, 160))
    plain = drawn(image)
    for values in (np.ones((4, 4), np.float16), np.full((4, 4), np.nan, np.float16)):
        assert (drawn(image, anomaly_map=values) == plain).all()


def test_the_box_is_drawn_around_the_region_even_in_the_corner_of_a_tiny_picture():
    picture = drawn(np.full((200, 200, 3), 128, np.uint8), region=Region(0.25, 0.5, 0.75, 1.0))
    assert picture[150, 50].mean() < 60
    assert abs(picture[150, 100].mean() - 128) < 6
    assert drawn(np.zeros((4, 4, 3), np.uint8), region=Region(0.99, 0.99, 1.0, 1.0)).shape[1] == 4


def test_the_colours_are_those_of_inferno_to_a_few_parts_in_a_hundred():
    values = np.linspace(0.0, 1.0, 101, dtype=np.float32)
    assert np.abs(colours(values) / 255.0 - matplotlib.colormaps["inferno"](values)[:, :3]).max() < 0.04
