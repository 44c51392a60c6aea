import hashlib
import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import RuntimeSettings
from pipeline.errors import CheckpointError
from pipeline.inference import engine as engine_module
from pipeline.inference.engine import Engine
from pipeline.model_settings import ModelSettings
from pipeline.models.card import WEIGHTS_FILE
from pipeline.models.read_out import Reading
from pipeline.runtime.messages import CameraRole
from pipeline.types import FrameBatch, FrameHeader, PreviousLuma, stack_previous
from pipeline.zone_settings import ScheduleSettings, ZoneSettings
from pipeline.zoning import Zoning
from tests.models.tiny import SIZE_PX, tiny_checkpoint

FRAMES = 11
SCENES = ["gate", "yard", "unknown"]


def batch(numbers) -> FrameBatch:
    """Frames by number, each always the same, those with odd numbers paired; read-only as Ray returns them."""
    headers = tuple(FrameHeader(f"cam{number % 3}", 0, number, number, Fraction(1, 25), 0.0) for number in numbers)
    images = [np.random.default_rng(number).integers(0, 256, (*SIZE_PX, 3), dtype=np.uint8) for number in numbers]
    stacked = np.stack(images) if images else np.empty((0, *SIZE_PX, 3), np.uint8)
    previous = [PreviousLuma(image[..., 1], 0.08) if n % 2 else None for n, image in zip(numbers, images, strict=True)]
    arrays = (stacked, *stack_previous(previous, stacked))
    for array in arrays:
        array.setflags(write=False)
    return FrameBatch(headers, *arrays)


def scenes_of(numbers):
    return [SCENES[number % 3] for number in numbers]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine") / "m"
    tiny_checkpoint(folder, sees_motion=True, camera_embedding=4)
    return Engine.load(folder)


@pytest.fixture(scope="module")
def alone(engine):
    """Every frame scored in a batch of its own."""
    return [engine.predict(batch([number]), scenes_of([number]))[0] for number in range(FRAMES)]


@given(order=st.permutations(range(FRAMES)), size=st.sampled_from([1, 3, 8]))
@settings(max_examples=15)
def test_a_frames_score_is_the_same_in_any_order_and_any_batch_size(engine, alone, order, size):
    for start in range(0, FRAMES, size):
        numbers = order[start : start + size]
        for prediction, number in zip(engine.predict(batch(numbers), scenes_of(numbers)), numbers, strict=True):
            assert prediction.header.index == number
            assert prediction.paired == bool(number % 2)
            assert prediction.anomaly_score == pytest.approx(alone[number].anomaly_score, rel=1e-4)
            np.testing.assert_allclose(
                prediction.anomaly_map.astype(float), alone[number].anomaly_map.astype(float), rtol=2e-3, atol=2e-3
            )


def test_maps_are_float16_at_the_finest_levels_size(alone):
    assert alone[0].anomaly_map.dtype == np.float16
    assert alone[0].anomaly_map.shape == (SIZE_PX[0] // 8, SIZE_PX[1] // 8)
    assert all(np.isfinite(prediction.anomaly_map).all() for prediction in alone)


def test_a_surprise_beyond_float16_is_its_largest_value_in_the_map(engine, monkeypatch):
    def far_off(maps, *_):
        means = maps.shown.flatten(1).mean(1)
        return Reading(maps.shown * 0.0 + 1e6, means, means, means, maps.shown)

    monkeypatch.setattr(engine, "read_out", far_off)
    (prediction,) = engine.predict(batch([0]), scenes_of([0]))
    assert (prediction.anomaly_map == np.finfo(np.float16).max).all()


def test_maps_are_left_out_when_they_are_not_wanted(engine, alone):
    predictions = engine.predict(batch([1, 2]), scenes_of([1, 2]), maps=False)
    assert [prediction.anomaly_map for prediction in predictions] == [None, None]
    assert predictions[0].anomaly_score == pytest.approx(alone[1].anomaly_score, rel=1e-4)


def test_the_same_batch_gives_exactly_the_same_scores_again(engine):
    first, second = (engine.predict(batch(range(5)), scenes_of(range(5))) for _ in range(2))
    assert [p.anomaly_score for p in first] == [p.anomaly_score for p in second]


def test_a_wide_batch_is_done_in_parts(engine, alone, monkeypatch):
    monkeypatch.setattr(engine_module, "_MAX_PIXELS", 2 * SIZE_PX[0] * SIZE_PX[1])
    sizes = []
    real = engine.score
    monkeypatch.setattr(engine, "score", lambda images, *others: sizes.append(len(images)) or real(images, *others))
    predictions = engine.predict(batch(range(5)), scenes_of(range(5)))
    assert sizes == [2, 2, 1]
    expected = [prediction.anomaly_score for prediction in alone[:5]]
    assert [prediction.anomaly_score for prediction in predictions] == pytest.approx(expected, rel=1e-4)


def test_an_empty_batch_gives_no_predictions(engine):
    assert engine.predict(batch([]), []) == []


def test_read_only_images_are_taken_without_a_warning_and_left_alone(engine):
    given_batch = batch([0])
    before = given_batch.images.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.predict(given_batch, ["gate"])
    assert np.array_equal(given_batch.images, before)


def test_the_scene_matters_to_a_model_with_a_camera_embedding(engine):
    scores = [engine.predict(batch([0]), [scene])[0].anomaly_score for scene in ("gate", "yard", "unknown", "other")]
    assert len({round(score, 5) for score in scores[:3]}) == 3
    assert scores[2] == scores[3]  # scenes that were not trained on share the mean embedding


@pytest.mark.parametrize("fault", ["size", "dtype", "scenes", "headers", "luma", "gaps"])
def test_a_batch_that_does_not_fit_the_model_is_refused(engine, fault):
    good = batch([0, 1])
    images, scenes, headers = good.images, ["gate", "gate"], good.headers
    luma, gaps_s = good.previous_luma, good.gaps_s
    if fault == "size":
        images = images[:, :32]
    elif fault == "dtype":
        images = images.astype(np.float32)
    elif fault == "scenes":
        scenes = ["gate"]
    elif fault == "luma":
        luma = luma[:, :32]
    elif fault == "gaps":
        gaps_s = gaps_s.astype(float)
    else:
        headers = headers[:1]
    with pytest.raises(ValueError, match="batch: expected uint8 images of shape"):
        engine.predict(FrameBatch(headers, images, luma, gaps_s), scenes)


def test_a_start_reads_all_weights_once_to_check_them(tmp_path, monkeypatch):
    tiny_checkpoint(tmp_path / "m")
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, *kind: hashed.append(file.name) or real(file, *kind))
    Engine.ready(tmp_path / "m", RuntimeSettings(precision="float32", compile=False))
    assert [Path(name) for name in hashed] == [tmp_path / "m" / WEIGHTS_FILE]


def test_an_engine_of_another_encoder_is_refused(tmp_path):
    tiny_checkpoint(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"model\.encoder\.name"):
        Engine.load(tmp_path / "m", expected=ModelSettings.model_validate({"encoder": {"name": "resnet18"}}))


def test_a_frame_is_read_under_the_zones_that_hold_when_it_was_captured(engine):
    left, right = ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), ((0.5, 0), (1, 0), (1, 1), (0.5, 1))
    night = (ScheduleSettings(hours="22:00-06:00"),)
    zones = [ZoneSettings(name="yard", watch=left, active=night), ZoneSettings(name="tree", ignore=right, active=night)]
    at_night = CameraRole("gate", True, 2.0, Zoning.of(zones, "UTC"))
    always = CameraRole("gate", True, 2.0, Zoning.of([zones[0].model_copy(update={"active": None})], "UTC"))
    noon, midnight = 43_200.0, 86_400.0
    one = batch([1] * 4)
    headers = [replace(one.headers[0], captured_at_s=at_s) for at_s in (noon, noon, midnight, noon)]
    roles = [CameraRole("gate", True, 2.0), at_night, at_night, always]
    bare, by_day, by_night, ever = engine.predict_as(replace(one, headers=tuple(headers)), roles)
    assert by_day.anomaly_score == bare.anomaly_score
    assert np.array_equal(by_day.anomaly_map, bare.anomaly_map)
    assert by_night.anomaly_score == ever.anomaly_score < bare.anomaly_score
    columns = bare.anomaly_map.shape[1] // 2
    assert np.ptp(by_night.anomaly_map[:, columns:]) == 0.0 < np.ptp(by_night.anomaly_map[:, :columns])
    assert np.array_equal(by_night.anomaly_map[:, :columns], bare.anomaly_map[:, :columns])
