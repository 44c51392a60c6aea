import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training import scene_references
from pipeline.training.scene_references import SceneSampler, measure_reference, measure_references, thinned_pieces
from pipeline.video.tamper import MEMORY_S, Background, SceneMatcher, describe_scene, gray_image


def scenery(seed, size=(64, 96)):
    random = np.random.default_rng(seed)
    image = np.full((*size, 3), 90, np.uint8)
    for _ in range(14):
        top, left = random.integers(0, size[0] - 8), random.integers(0, size[1] - 8)
        image[top : top + random.integers(6, 24), left : left + random.integers(6, 24)] = random.integers(30, 240)
    return image


def noisy(image, seed):
    random = np.random.default_rng(seed)
    return np.clip(image + random.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def recorded(images, fps=1.0):
    recorder = SceneSampler(fps)
    for image in images:
        recorder.add(image)
    return recorder.gray_images()


def pictures_of(seed, count=4):
    return recorded(noisy(scenery(seed), number) for number in range(round(count * MEMORY_S) + 1))


@given(fps=st.floats(0.01, 30.0), frames=st.integers(1, 80))
def test_pictures_are_kept_every_few_seconds_and_at_least_one(fps, frames):
    kept = recorded([np.full((8, 8, 3), number, np.uint8) for number in range(frames)], fps)
    length_s = (frames - 1) / fps
    assert 1 <= len(kept) <= min(length_s / MEMORY_S + 1.5, frames)
    # The last picture shows the end.
    background = Background()
    for number in range(frames):
        background.add(np.full((8, 8), number, np.float32), number / fps)
    assert background.gray is not None
    assert abs(kept[-1].mean() - background.gray.mean()) <= (MEMORY_S / 2) * fps + 1e-3


def test_a_long_recording_is_thinned_instead_of_filling_the_memory(monkeypatch):
    monkeypatch.setattr(scene_references, "_MOST_PICTURES", 10)
    kept = recorded([np.full((8, 8, 3), number % 250, np.uint8) for number in range(1000)], fps=0.2)
    assert 5 <= len(kept) <= 11


def test_many_clips_are_thinned_too(monkeypatch):
    monkeypatch.setattr(scene_references, "_MOST_PICTURES", 10)
    short = [pictures_of(0, count=1)[:1] for _ in range(37)]
    assert measure_reference(short).telling
    assert len(thinned_pieces(short)) <= 10
    assert sum(map(len, thinned_pieces([pictures_of(0, count=40)]))) <= 10


def test_every_scene_has_its_own_view():
    found = measure_references(["yard", "gate", "yard"], [pictures_of(1), pictures_of(2), pictures_of(1)])
    assert list(found) == ["gate", "yard"]
    for scene, seed in (("yard", 1), ("gate", 2)):
        assert found[scene].telling
        for other in (1, 2):
            agreement = SceneMatcher(found[scene]).agreement(describe_scene(gray_image(scenery(other))).edges)
            assert (agreement > 0.9) is (other == seed)


def test_a_scene_of_several_lights_has_edges_for_each_but_no_more_than_a_few():
    reference = measure_reference([pictures_of(seed) for seed in (1, 1, 2, 2)])
    assert len(reference.edges) == 2
    assert reference.own_agreement > 0.9
    assert len(measure_reference([pictures_of(seed) for seed in range(7)]).edges) <= 4


def test_the_same_footage_gives_the_same_view():
    assert measure_reference([pictures_of(3), pictures_of(4)]) == measure_reference([pictures_of(3), pictures_of(4)])


def test_a_scene_that_looks_the_same_when_turned_is_not_telling():
    fence = np.full((64, 96, 3), 60, np.uint8)
    fence[:, ::7] = 200  # a sixth of the width is two pales
    reference = measure_reference([recorded(noisy(fence, number) for number in range(30))])
    assert reference.turned_agreement > 0.7
    assert not reference.telling


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_scene_without_anything_in_it_is_measured_without_trouble(shade):
    with np.errstate(all="raise"):
        reference = measure_reference([recorded([np.full((64, 96, 3), shade, np.uint8)] * 30)])
    assert (reference.telling, reference.light, reference.own_agreement) == (False, shade, 0.0)
