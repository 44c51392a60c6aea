import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.camera_settings import HealthSettings
from pipeline.training.scene_references import SceneSampler, measure_reference
from pipeline.video.tamper import (
    MEMORY_S,
    SceneMatcher,
    TamperMonitor,
    agreement,
    decode_edges,
    describe_scene,
    encode_edges,
    gray_image,
)
from tests.shared import shared_path
from tests.video.tampering import HARMFUL, HARMLESS, cut, load_cameras, turns, watch

QUICK = HealthSettings(frozen_s=1.0, dark_s=1.0, moved_s=2.0)
NAMES = ("person", "cars", "highway", "ped2")
FEW = 24  # frames that are changed, and shown to and fro
LONG_S = 15.0
SIZE = (64, 96, 3)


@pytest.fixture(scope="module")
def cameras():
    shared_path("data/cameras")
    return load_cameras(shared_path("data/ped2").parent)


@pytest.fixture(scope="module")
def views(cameras):
    return {name: camera.reference() for name, camera in cameras.items()}


# Real footage


@pytest.mark.parametrize("name", NAMES)
def test_no_condition_ever_holds_on_a_cameras_own_later_footage(cameras, views, name):
    camera = cameras[name]
    assert views[name].telling
    for clip in camera.watch:
        assert watch(QUICK, views[name], clip, camera.fps, LONG_S) == {}


@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.parametrize("name", NAMES)
def test_light_noise_compression_and_shaking_are_harmless(cameras, views, name, change):
    camera = cameras[name]
    images = HARMLESS[change](camera.watch[0][:FEW])
    assert watch(QUICK, views[name], images, camera.fps, LONG_S) == {}


@pytest.mark.parametrize("change", HARMFUL)
@pytest.mark.parametrize("name", NAMES)
def test_a_tampered_camera_is_noticed_for_what_it_is(cameras, views, name, change):
    camera = cameras[name]
    expected, alter = HARMFUL[change]
    images = alter(camera.watch[0][:FEW])
    assert set(watch(QUICK, views[name], images, camera.fps, LONG_S)) == {expected}


@pytest.mark.parametrize("other", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_another_cameras_footage_is_noticed(cameras, views, name, other):
    found = watch(QUICK, views[name], cameras[other].watch[0][:FEW], cameras[other].fps, LONG_S)
    assert set(found) == (set() if other == name else {"moved"})


@pytest.mark.parametrize("share", [0.15, 0.2])
@pytest.mark.parametrize("turn", turns(0.2))
@pytest.mark.parametrize("name", NAMES)
def test_a_camera_that_is_turned_is_noticed_unless_its_view_is_too_alike_and_says_so(cameras, name, turn, share):
    camera = cameras[name]
    before, after = turns(share)[turn]
    reference = camera.reference(before)
    # The floor that a person walks on and the wall behind look the same a little to the right.
    assert reference.telling == ((name, turn) != ("person", "turned left"))
    few = camera.watch[0][:FEW]
    assert watch(QUICK, reference, cut(few, before), camera.fps, LONG_S) == {}
    assert set(watch(QUICK, reference, cut(few, after), camera.fps, LONG_S)) == (
        {"moved"} if reference.telling else set()
    )


def test_a_camera_that_is_turned_back_is_in_order_again(cameras, views):
    camera = cameras["ped2"]
    looking = TamperMonitor(QUICK, views["ped2"])
    states = []
    elsewhere, own = cameras["highway"].watch[0], np.concatenate(camera.watch[:2])
    for number, image in enumerate([*elsewhere[:20], *elsewhere[:20], *own]):
        states.append("moved" in looking.update(image, number / 5))
    begin = states.index(True)
    end = begin + states[begin:].index(False)
    assert MEMORY_S + 2.0 <= begin / 5 <= 8.0
    assert 8.0 < end / 5 < 8.0 + 4 * MEMORY_S
    assert not any(states[end:])


def test_a_scene_seen_in_two_lights_is_known_in_both(cameras):
    camera = cameras["ped2"]
    # As if lamps elsewhere lit another half of the place at night.
    ramp = np.linspace(0.0, 1.0, camera.train[0].shape[2])[None, None, :, None] ** 3

    def by_night(images):
        return (images * ramp * 0.6).astype(np.uint8)

    def gray_images(images):
        recorder = SceneSampler(camera.fps)
        for image in images:
            recorder.add(image)
        return recorder.gray_images()

    day, night = camera.train[:4], tuple(by_night(clip) for clip in camera.train[4:8])
    reference = measure_reference([gray_images(clip) for clip in (*day, *night)])
    assert reference.telling
    for images in (camera.watch[0], by_night(camera.watch[0])):
        assert watch(QUICK, reference, images, camera.fps, LONG_S) == {}
    assert set(watch(QUICK, reference, by_night(camera.watch[0][:, :, ::-1]), camera.fps, LONG_S)) == {"moved"}


def test_a_camera_that_was_dark_in_training_is_not_called_dark_until_it_is_darker(cameras):
    camera = cameras["ped2"]

    def night(images):
        return (images * 0.1).astype(np.uint8)

    dark = dataclasses.replace(camera, train=tuple(night(clip) for clip in camera.train[:4]))
    few = night(camera.watch[0][:FEW])
    assert "dark" in watch(QUICK, None, few, camera.fps, LONG_S)
    assert "dark" not in watch(QUICK, dark.reference(), few, camera.fps, LONG_S)
    assert "dark" in watch(QUICK, dark.reference(), few // 4, camera.fps, LONG_S)


def test_a_bare_wall_is_too_poor_a_view_to_tell():
    random = np.random.default_rng(0)
    recorder = SceneSampler(2.0)
    for _ in range(60):
        recorder.add(np.clip(random.normal(150, 2, SIZE), 0, 255).astype(np.uint8))
    reference = measure_reference([recorder.gray_images()])
    assert not reference.telling
    assert not TamperMonitor(QUICK, reference).watches_moved
    black = np.zeros((40, *SIZE), np.uint8)
    assert set(watch(QUICK, reference, black, 2.0)) == {"dark"}


def test_a_glimpse_is_too_little_footage_to_tell():
    reference = measure_reference([_recorded(_scenery(0), frames=3)])
    assert not reference.telling
    assert measure_reference([_recorded(_scenery(0), frames=30)]).telling


# Time


def _scenery(seed):
    """Boxes: a scene that anybody could tell from another."""
    random = np.random.default_rng(seed)
    image = np.full(SIZE, 90, np.uint8)
    for _ in range(14):
        top, left = random.integers(0, SIZE[0] - 8), random.integers(0, SIZE[1] - 8)
        image[top : top + random.integers(6, 24), left : left + random.integers(6, 24)] = random.integers(30, 240)
    return image


def _recorded(image, frames):
    random = np.random.default_rng(1)
    recorder = SceneSampler(1.0)
    for _ in range(frames):
        recorder.add(np.clip(image + random.normal(0, 2, SIZE), 0, 255).astype(np.uint8))
    return recorder.gray_images()


OWN, OTHER = _scenery(0), _scenery(7)
VIEW = measure_reference([_recorded(OWN, 30)])
# What a camera may show; an own frame that is "new" differs from the one before it in one value.
SHOWN = {"own": OWN, "other": OTHER, "black": np.zeros(SIZE, np.uint8), "gray": np.full(SIZE, 130, np.uint8)}
steps = st.tuples(st.sampled_from(sorted(SHOWN)), st.booleans(), st.floats(0.01, 4.0))
limits = st.one_of(st.none(), st.floats(0.1, 20.0))


@given(steps=st.lists(steps, min_size=1, max_size=60), frozen_s=limits, dark_s=limits, moved_s=limits)
def test_a_condition_never_holds_before_its_time_and_ends_when_disproved(steps, frozen_s, dark_s, moved_s):
    looking = TamperMonitor(HealthSettings(frozen_s=frozen_s, dark_s=dark_s, moved_s=moved_s), VIEW)
    now, last = 100.0, None
    same_since = dark_since = began_at = now + steps[0][2]
    for number, (name, new, passed_s) in enumerate(steps):
        now += passed_s
        image = SHOWN[name].copy()
        if new:
            image[0, 0, 0] ^= 1 + number % 2
        if last is None or not np.array_equal(image, last):
            same_since = now
        if name != "black":
            dark_since = now
        holds, last = looking.update(image, now), image
        for condition, since, limit in (("frozen", same_since, frozen_s), ("dark", dark_since, dark_s)):
            if condition in holds:
                assert limit is not None
                assert now - since >= limit - 1e-9
        if "moved" in holds:
            assert moved_s is not None
            assert now - began_at >= MEMORY_S + moved_s - 1e-9
            assert any(label != "own" for label, *_ in steps[:number])
    # Shown its own scene for long, every camera is in order again.
    for number in range(40):
        image = OWN.copy()
        image[0, 0, 0] ^= 1 + number % 2
        holds = looking.update(image, now + 1.0 + number)
    assert holds == frozenset()


@given(frames_per_s=st.floats(0.5, 30.0), moved_s=st.floats(1.0, 10.0))
def test_a_moved_camera_is_noticed_after_its_time_at_any_frame_rate(frames_per_s, moved_s):
    found = watch(HealthSettings(frozen_s=None, moved_s=moved_s), VIEW, OTHER[None], frames_per_s, 30.0)
    period_s = 1.0 / frames_per_s
    # Judged once a second, at a frame.
    assert MEMORY_S + moved_s <= found["moved"] + 1e-6
    assert found["moved"] <= MEMORY_S + moved_s + 2 * (1.0 + period_s)


@given(frames_per_s=st.floats(0.5, 30.0), after_s=st.floats(0.5, 10.0))
def test_frozen_and_dark_are_noticed_after_their_time_at_any_frame_rate(frames_per_s, after_s):
    settings = HealthSettings(frozen_s=after_s, dark_s=after_s, moved_s=None)
    for name, condition in (("own", "frozen"), ("black", "dark")):
        found = watch(settings, None, SHOWN[name][None], frames_per_s, 15.0)
        assert set(found) == {condition}
        assert after_s <= found[condition] + 1e-6
        assert found[condition] <= after_s + 2.01 / frames_per_s


def test_none_turns_every_check_off():
    off = HealthSettings(frozen_s=None, dark_s=None, moved_s=None)
    for image in SHOWN.values():
        assert watch(off, VIEW, image[None], 5.0, 30.0) == {}
    assert not TamperMonitor(off, VIEW).watches_moved
    assert TamperMonitor(QUICK, VIEW).watches_moved


def test_without_a_view_a_moved_camera_cannot_be_noticed():
    assert not TamperMonitor(QUICK, None).watches_moved
    assert "moved" not in watch(QUICK, None, OTHER[None], 5.0, 30.0)


def test_the_first_frame_that_differs_ends_frozen_even_in_one_value():
    looking = TamperMonitor(QUICK, None)
    for number in range(10):
        holds = looking.update(OWN.copy(), number / 4)
    assert holds == {"frozen"}
    different = OWN.copy()
    different[-1, -1, -1] ^= 1
    assert looking.update(different, 3.0) == frozenset()


def test_a_picture_that_repeats_in_the_dark_is_dark_and_not_frozen():
    assert set(watch(QUICK, None, SHOWN["black"][None], 5.0, 10.0)) == {"dark"}


def test_a_clock_in_a_black_picture_does_not_light_it():
    image = SHOWN["black"].copy()
    image[2:6, 4:40] = 255
    assert "dark" in watch(HealthSettings(dark_s=1.0), None, image[None], 5.0, 10.0)


def test_a_reset_keeps_what_holds_and_forgets_what_was_about_to():
    looking = TamperMonitor(HealthSettings(frozen_s=1.0, dark_s=5.0, moved_s=1.0), VIEW)
    for number in range(41):
        holds = looking.update(OTHER, number / 4)
    assert holds == {"frozen", "moved"}
    looking.reset()
    # Equal or not to the last frame of the session before: that says nothing of this one.
    assert looking.update(OTHER, 60.0) == {"frozen", "moved"}
    assert looking.update(OWN, 60.2) == {"moved"}
    for number in range(30):
        holds = looking.update(SHOWN["own" if number % 2 else "other"], 61.0 + number / 100)
    assert holds == {"moved"}  # too early to disprove it
    looking.reset()
    for at_s in range(4):
        assert "dark" not in looking.update(SHOWN["black"], 100.0 + at_s)
    looking.reset()
    assert "dark" not in looking.update(SHOWN["black"], 106.0)


def test_darkness_neither_proves_nor_disproves_a_move():
    looking = TamperMonitor(QUICK, VIEW)
    now = 0.0
    for name, seconds, expected in (("other", 10, True), ("black", 30, True), ("own", 20, False), ("black", 30, False)):
        for _ in range(4 * seconds):
            now += 0.25
            holds = looking.update(SHOWN[name], now)
        assert ("moved" in holds) is expected


def test_an_image_of_another_size_than_the_views_is_an_error():
    looking = TamperMonitor(QUICK, VIEW)
    with pytest.raises(ValueError, match="expected an image of the reference's"):
        for number in range(20):
            looking.update(np.tile(OWN, (1, 2, 1)), float(number))


# Measures


@given(
    st.tuples(st.integers(8, 200), st.integers(8, 300)).flatmap(
        lambda size: hnp.arrays(np.uint8, (*size, 3), elements=st.integers(0, 255), fill=st.integers(0, 255))
    )
)
def test_a_shrunk_image_is_the_mean_of_its_blocks(image):
    small = gray_image(image)
    side = max(1, image.shape[0] // 64)
    rows, columns = image.shape[0] // side, image.shape[1] // side
    blocks = image[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    np.testing.assert_allclose(small, blocks.mean(axis=(1, 3, 4)), rtol=1e-5)
    assert small.dtype == np.float32


def test_a_large_white_image_does_not_overflow():
    assert gray_image(np.full((2160, 3840, 3), 255, np.uint8)).min() == 255.0


edges = hnp.arrays(np.float32, (6, 9), elements=st.floats(-8, 8, width=16))


@given(first=edges, second=edges, gain=st.floats(0.125, 8), offset=st.floats(-4, 4))
def test_agreement_is_bounded_is_one_with_itself_and_does_not_depend_on_contrast(first, second, gain, offset):
    found = agreement(first, second)
    assert -1.0 - 1e-3 <= found <= 1.0 + 1e-3
    if first.std() > 0.1 and second.std() > 0.1:
        # Cells of no weight have no say, so that little may be left to compare.
        assert agreement(first, first) in (0.0, pytest.approx(1.0, abs=1e-3))
        weighted = np.abs(first) / np.abs(first).sum()
        if (weighted * (second - (weighted * second).sum()) ** 2).sum() > 0.1:
            changed = (gain * second + offset).astype(np.float32)
            assert agreement(first, changed) == pytest.approx(found, abs=2e-3)


@given(edges)
def test_edges_come_back_from_text_to_within_a_step(values):
    back = decode_edges(encode_edges(values), (6, 9))
    largest = np.abs(values).max()
    np.testing.assert_allclose(back * (largest / 127.0), values, atol=0.51 * largest / 127.0 + 1e-9)


def test_edges_of_another_grid_are_an_error():
    with pytest.raises(ValueError, match=r"expected the edges of \(6, 9\) cells, got 20 values"):
        decode_edges(encode_edges(np.zeros((4, 5), np.float32)), (6, 9))
    with pytest.raises(ValueError, match="cells"):
        SceneMatcher(dataclasses.replace(VIEW, grid=(2, 2)))


def test_sharpness_does_not_depend_on_light_or_contrast():
    gray = gray_image(OWN)
    assert describe_scene(gray * 0.2 + 40).sharpness == pytest.approx(describe_scene(gray).sharpness, rel=1e-3)
    assert describe_scene(np.full((64, 96), 7.0, np.float32)).sharpness == 0.0


def test_a_view_is_small_and_holds_finite_numbers():
    assert sum(map(len, VIEW.edges)) < 8000
    assert all(map(math.isfinite, (VIEW.own_agreement, VIEW.turned_agreement, VIEW.sharpness, VIEW.light)))
