import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config import PhotometricSettings
from pipeline.training.augmentation import (
    PhotometricChange,
    apply_change,
    draw_change,
    vary_batch,
    vary_pair,
)
from pipeline.video.pairs import luma_of

SIZE_PX = (50, 70)  # no multiple of the cells that shadows are computed for


def change(**values) -> PhotometricChange:
    nothing = {
        "gain": 1.0, "balance": (1.0, 1.0, 1.0), "infrared": None, "shade": None,
        "blur_px": 0.0, "noise": 0.0, "tone": 1.0, "quality": None,
    }  # fmt: skip
    return PhotometricChange(**{**nothing, **values})


def random_image(seed=0, low=0, high=256):
    """Coloured patches of 10 pixels, so that neither blur nor JPEG makes one colour of it."""
    patches = np.random.default_rng(seed).integers(low, high, (5, 7, 3), dtype=np.uint8)
    return patches.repeat(10, axis=0).repeat(10, axis=1)


def applied(image, **values):
    return apply_change(change(**values), image, np.random.default_rng(0))


def moved(image):
    return np.roll(image, 3, axis=1)


def test_a_change_of_nothing_changes_nothing():
    image = random_image()
    np.testing.assert_array_equal(applied(image), image)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), strength=st.floats(0.01, 1.0), high=st.integers(1, 256))
def test_a_variant_is_a_frame_and_depends_on_its_seed_alone(seed, strength, high):
    image = random_image(high=high)
    before = luma_of(moved(image))
    kept = image.copy(), before.copy()
    found = [vary_pair(image, before, strength, np.random.default_rng(seed)) for _ in range(2)]
    for varied, varied_luma in found:
        assert (varied.shape, varied.dtype) == (image.shape, np.uint8)
        assert varied_luma is not None
        assert (varied_luma.shape, varied_luma.dtype) == (before.shape, np.uint8)
        np.testing.assert_array_equal(varied, found[0][0])
        np.testing.assert_array_equal(varied_luma, found[0][1])
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(before, kept[1])
    alone, nothing = vary_pair(image, None, strength, np.random.default_rng(seed))
    np.testing.assert_array_equal(alone, found[0][0])  # whether there is a pair changes nothing in the frame
    assert nothing is None


def test_variants_differ_and_more_strength_goes_further():
    image = random_image()

    def distances(strength):
        return [
            np.abs(vary_pair(image, None, strength, np.random.default_rng(seed))[0].astype(int) - image).mean()
            for seed in range(40)
        ]

    weak, strong = distances(0.1), distances(1.0)
    assert min(strong) > 0
    assert len(set(strong)) == 40
    assert np.median(weak) < np.median(strong) / 4


def test_what_is_drawn_stays_within_what_the_settings_promise():
    drawn = [draw_change(SIZE_PX, 1.0, np.random.default_rng(seed)) for seed in range(300)]
    for one in drawn:
        assert 0.5**0.46 < one.gain < 2.0**0.46
        assert all(0.9 < factor < 1.1 for factor in one.balance)
        assert one.balance[1] == 1.0
        assert 0.6 <= one.tone <= 1.6
        assert 0.0 <= one.noise <= 6.0
        assert 0.0 <= one.blur_px <= 1.2
        assert one.quality is None or 30 <= one.quality <= 95
        assert one.infrared is None or sum(one.infrared) == pytest.approx(1.0)
        assert one.shade is None or (one.shade.shape == SIZE_PX and 0.0 < one.shade.min() <= one.shade.max() <= 1.0)
    for happens, share in (
        ([one.infrared is not None for one in drawn], 0.15),
        ([one.quality is not None for one in drawn], 0.5),
        ([one.noise > 0 for one in drawn], 0.5),
        ([one.blur_px > 0 for one in drawn], 0.3),
    ):
        assert np.mean(happens) == pytest.approx(share, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), high=st.integers(2, 256))
def test_what_stood_still_stands_still_in_every_variant_but_for_the_noise(seed, high):
    image, random = random_image(high=high), np.random.default_rng(seed)
    drawn = draw_change(SIZE_PX, 1.0, random)
    varied, before = vary_pair(image, luma_of(image), 1.0, np.random.default_rng(seed))
    if drawn.noise == 0.0:
        np.testing.assert_array_equal(before, luma_of(varied))
    else:
        # Of 6 grey levels a tone curve of exponent .6 makes 36 where it is black; little of them is in a luma.
        assert np.abs(before.astype(float) - luma_of(varied)).mean() < 15.0
        assert np.abs(before.astype(float).mean() - luma_of(varied).mean()) < 1.0


@pytest.mark.parametrize(
    "values", [{"gain": 0.8}, {"tone": 1.5}, {"balance": (1.09, 1.0, 0.91)}, {"gain": 1.2, "tone": 0.7}]
)
def test_what_moved_is_where_it_was_in_the_variant_of_the_frame_before(values, monkeypatch):
    """The frame before is known by its luma alone: what it becomes is near what its colours would have given."""
    image = random_image(low=40, high=200)
    monkeypatch.setattr("pipeline.training.augmentation.draw_change", lambda *_: change(**values))
    _, before = vary_pair(image, luma_of(moved(image)), 1.0, np.random.default_rng(0))
    expected = luma_of(applied(moved(image), **values))
    assert np.abs(before.astype(int) - expected).max() <= 12
    assert np.abs(before.astype(int) - expected).mean() < 1.0


def test_too_much_light_is_white_and_none_stays_black():
    image = random_image()
    image[:10], image[10:20] = 0, 200
    brighter = applied(image, gain=1.37)
    assert (brighter[:10] == 0).all()
    assert (brighter[10:20] == 255).all()
    assert (brighter >= image).all()


def test_white_balance_colours_what_has_colour_and_leaves_a_grey_camera_grey():
    grey = np.repeat(random_image()[..., :1], 3, axis=-1)
    for seed in range(30):
        varied, _ = vary_pair(grey, None, 1.0, np.random.default_rng(seed))
        assert (varied == varied[..., :1]).all()
    warm = applied(random_image(low=50, high=200), balance=(1.08, 1.0, 0.93)).astype(int)
    assert warm[..., 0].mean() > warm[..., 2].mean() + 5


def test_infrared_is_without_colour():
    night = applied(random_image(), infrared=(0.5, 0.3, 0.2))
    assert (night == night[..., :1]).all()
    expected = random_image() @ np.array([0.5, 0.3, 0.2])
    np.testing.assert_allclose(night[..., 0], expected, atol=0.51)


def test_a_shadow_darkens_a_part_and_moves_nothing():
    image = np.full((*SIZE_PX, 3), 180, np.uint8)
    shade = np.ones(SIZE_PX, np.float32)
    shade[:, :30] = 0.5
    shaded = applied(image, shade=shade)
    assert (shaded[:, :30] == 90).all()
    assert (shaded[:, 30:] == 180).all()
    # One that was drawn: deep in one place, nothing in another, without steps.
    drawn = [draw_change(SIZE_PX, 1.0, np.random.default_rng(seed)).shade for seed in range(60)]
    contrasts = [float(one.max() - one.min()) for one in drawn if one is not None]
    assert len(contrasts) > 20
    assert max(contrasts) > 0.4


def test_noise_is_as_strong_as_it_says_and_a_blur_keeps_the_mean():
    flat = np.full((200, 200, 3), 128, np.uint8)
    noisy = applied(flat, noise=5.0).astype(float) - 128.0
    assert noisy.mean() == pytest.approx(0.0, abs=0.1)
    assert noisy.std() == pytest.approx(5.0 * (0.7 + 16 / 144), rel=0.03)
    assert applied(np.full_like(flat, 8), noise=5.0).std() > 5.0  # more in the dark
    image = random_image()
    blurred = applied(image, blur_px=1.2)
    assert blurred.mean() == pytest.approx(image.mean(), abs=0.5)
    assert np.abs(np.diff(blurred.astype(int), axis=1)).max() < np.abs(np.diff(image.astype(int), axis=1)).max()


def test_compression_is_the_stronger_the_lower_the_quality():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    off = [np.abs(applied(image, quality=quality).astype(int) - image).mean() for quality in (95, 60, 30)]
    assert off == sorted(off)
    assert off[0] > 0


def test_a_batch_is_its_frames_and_without_a_pair_there_is_none():
    images = np.stack([random_image(seed) for seed in range(3)])
    before = np.stack([luma_of(moved(image)) for image in images])
    before[1] = 0
    seeds = [(7, frame) for frame in range(3)]
    varied, varied_luma = vary_batch(images, before, np.array([0.1, 0.0, 0.2], np.float32), 1.0, seeds)
    assert not varied_luma[1].any()
    for frame in (0, 2):
        image, of_before = vary_pair(images[frame], before[frame], 1.0, np.random.default_rng((7, frame)))
        np.testing.assert_array_equal(varied[frame], image)
        np.testing.assert_array_equal(varied_luma[frame], of_before)
    alone, _ = vary_batch(images[1:2], before[1:2], np.zeros(1, np.float32), 1.0, seeds[1:2])
    np.testing.assert_array_equal(alone[0], varied[1])


@pytest.mark.parametrize("value", [{"variants": -1}, {"variants": 17}, {"strength": 0.0}, {"strength": 1.5}])
def test_augmentation_that_cannot_be_is_refused(value):
    (name,) = value
    with pytest.raises(ValidationError, match=name):
        PhotometricSettings.model_validate(value)
