"""Speeds of made textures that move, stand still, or change their light, against what was done to them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch.nn.functional import avg_pool2d

from pipeline.models.motion import CELL_PX, speed_maps
from pipeline.models.pairs import Pairs
from pipeline.video.pairs import luma_of

SIZE_PX = (64, 96)
GAP_S = 0.1


def texture(size_px, *, moved_px=(0.0, 0.0), seed=0, blur_px=4.0):
    """Values from 0 to 1, smooth, from a larger ground that moved by (down, right)."""
    random = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(random.normal(size=(size_px[0] + 32, size_px[1] + 32)), blur_px)
    ground = (ground - ground.min()) / (ground.max() - ground.min())
    return ndimage.shift(ground, moved_px, order=3, mode="nearest")[16:-16, 16:-16]


def image_of(values):
    """A grey image, uint8 (H, W, 3)."""
    grey = np.clip(np.round(255.0 * values), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)


def speeds(images, before, gaps_s):
    """Speeds of frames, each beside the one before it."""
    lumas = np.stack([luma_of(image) for image in before])
    return speed_maps(torch.from_numpy(np.stack(images)), Pairs.of(lumas, np.array(gaps_s, np.float32))).numpy()


def speed(image, before, gap_s=GAP_S):
    return speeds([image], [before], [gap_s])[0]


@given(seed=st.integers(0, 2**32 - 1), size_px=st.tuples(st.integers(8, 40), st.integers(8, 40)))
@settings(max_examples=40)
def test_a_still_camera_shows_no_motion_at_all(seed, size_px):
    random = np.random.default_rng(seed)
    image = random.integers(0, random.integers(1, 257), (*size_px, 3), dtype=np.uint8)
    found = speed(image, image, float(random.uniform(0.02, 0.5)))
    assert found.shape == (size_px[0] // CELL_PX, size_px[1] // CELL_PX)
    assert (found == 0.0).all()


@pytest.mark.parametrize("size_px", [(64, 96), (90, 61), (56, 98)])
@pytest.mark.parametrize("moved_px", [(0.0, 2.0), (2.0, 0.0), (-1.5, 1.5), (0.0, -0.5), (-3.0, 2.0)])
def test_what_moves_has_its_speed_in_heights_of_the_image_per_second(size_px, moved_px):
    image, before = image_of(texture(size_px, moved_px=moved_px)), image_of(texture(size_px))
    expected = np.hypot(*moved_px) / size_px[0] / GAP_S
    assert np.median(speed(image, before)) == pytest.approx(expected, rel=0.2)


@given(gap_s=st.floats(0.01, 0.25))
@settings(max_examples=10)
def test_half_the_time_is_twice_the_speed(gap_s):
    image, before = image_of(texture(SIZE_PX, moved_px=(1.0, 2.0))), image_of(texture(SIZE_PX))
    np.testing.assert_allclose(speed(image, before, gap_s), 2.0 * speed(image, before, 2.0 * gap_s), rtol=1e-6)


def test_only_where_something_moves_there_is_speed():
    """A still ground, and a patch of another texture that moves over it."""
    ground, moving = texture(SIZE_PX), texture(SIZE_PX, seed=1)
    now, before = ground.copy(), ground.copy()
    now[16:48, 34:66], before[16:48, 32:64] = moving[16:48, 32:64], moving[16:48, 32:64]
    found = speed(image_of(now), image_of(before))
    assert (found[:, [0, 1, -1, -2]] == 0.0).all()
    assert found[3:5, 5:7].mean() == pytest.approx(2 / 64 / GAP_S, rel=0.2)


LIGHTS = {
    "a fifth more": lambda values: 1.2 * values,
    "a fifth less": lambda values: 0.8 * values,
    "half": lambda values: 0.5 * values,
    "half more": lambda values: 1.5 * values,
    "brighter throughout": lambda values: values + 0.2,
    "another tone curve": lambda values: values**0.8,
    "a steeper tone curve": lambda values: values**1.5,
    "less contrast": lambda values: 0.8 * values + 0.2,
}


@pytest.mark.parametrize("light", LIGHTS)
def test_light_that_changes_is_no_motion(light):
    """Less than 0.06 heights per second, and a tenth of what it is to who takes brightness for constant."""
    values = 0.6 * texture(SIZE_PX, blur_px=2.5) + 0.05
    image, before = image_of(LIGHTS[light](values)), image_of(values)
    found = speed(image, before)
    assert found.max() < 0.06
    assert found.mean() < 0.1 * of_constant_brightness(image, before).mean()


def of_constant_brightness(image, before):
    """Speeds by Lucas and Kanade's own equation, in windows of 16 x 16 pixels every 8."""
    now, then = (luma_of(one) / 255.0 for one in (image, before))
    now, then = (avg_pool2d(torch.from_numpy(one)[None, None], 2)[0, 0].numpy() for one in (now, then))
    down, right = np.gradient((now + then) / 2.0)
    products = np.stack([right * right, right * down, down * down, right * (now - then), down * (now - then)])
    xx, xy, yy, xt, yt = avg_pool2d(torch.from_numpy(products)[None], 8, stride=4)[0].numpy()
    determinant = xx * yy - xy * xy + 1e-9
    return np.hypot((xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant) * 2.0 / len(image) / GAP_S


def test_motion_is_seen_while_the_light_changes():
    image = image_of(0.5 * texture(SIZE_PX, moved_px=(0.0, 2.0)) + 0.1)
    before = image_of(texture(SIZE_PX))
    assert np.median(speed(image, before)) == pytest.approx(2 / 64 / GAP_S, rel=0.25)


def test_a_frame_without_a_pair_shows_no_motion():
    image = image_of(texture(SIZE_PX))
    found = speeds(
        [image, image], [np.zeros_like(image), image_of(texture(SIZE_PX, moved_px=(0.0, 1.0)))], [0.0, GAP_S]
    )
    assert (found[0] == 0.0).all()
    assert (found[1] > 0.0).any()


@given(order=st.permutations(range(5)), count=st.integers(1, 5))
@settings(max_examples=20)
def test_a_frame_shows_the_same_alone_and_among_others_to_the_last_bit(order, count):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5, 40, 28, 3), dtype=np.uint8)
    before = random.integers(0, 256, (5, 40, 28, 3), dtype=np.uint8)
    gaps_s = np.array([0.1, 0.04, 0.0, 0.12, 0.5])
    alone = [speed(*of_frame) for of_frame in zip(images, before, gaps_s, strict=True)]
    chosen = order[:count]
    found = speeds(images[chosen], before[chosen], gaps_s[chosen])
    assert all(np.array_equal(one, alone[number]) for one, number in zip(found, chosen, strict=True))


@pytest.mark.parametrize("size_px", [(8, 8), (8, 41), (20, 36), (56, 70)])
def test_any_size_has_a_finite_speed_in_every_whole_cell(size_px):
    random = np.random.default_rng(1)
    image, before = random.integers(0, 2, (2, *size_px, 3), dtype=np.uint8) * 255
    found = speed(image, before)
    assert found.shape == (size_px[0] // CELL_PX, size_px[1] // CELL_PX)
    assert np.isfinite(found).all()
    assert (found > 0.0).all()
