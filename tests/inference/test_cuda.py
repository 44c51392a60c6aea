"""Models on a GPU against the same models on the CPU."""

import numpy as np
import pytest
import torch

from pipeline.config import RuntimeSettings
from pipeline.inference import packages
from pipeline.inference.engine import Engine
from pipeline.inference.tuning import Tuning, can_compile, choose_tuning
from tests.gpu import needs_gpu
from tests.inference.test_engine import batch, scenes_of

pytestmark = needs_gpu

FRAMES = 7
SETTINGS = {"batch_frames": FRAMES, "compile": True}
# How far apart scores and maps of the two devices may be: convolutions of a GPU round their inputs to TF32.
FLOAT32, BFLOAT16 = {"rtol": 1e-2, "atol": 1e-2}, {"rtol": 3e-2, "atol": 3e-2}


@pytest.fixture(scope="module")
def expected(folder):
    return predictions(Engine.load(folder), range(FRAMES))


def predictions(engine, numbers):
    return engine.predict(batch(numbers), scenes_of(numbers))


def check_same(got, expected, tolerance):
    for one, other in zip(got, expected, strict=True):
        assert one.header == other.header
        np.testing.assert_allclose(one.anomaly_score, other.anomaly_score, **tolerance)
        np.testing.assert_allclose(one.anomaly_map.astype(float), other.anomaly_map.astype(float), **tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", FLOAT32), ("bfloat16", BFLOAT16)])
def test_a_gpu_gives_the_scores_and_maps_of_the_cpu(folder, expected, precision, tolerance):
    engine = Engine.load(folder, device="cuda", tuning=Tuning(getattr(torch, precision)))
    check_same(predictions(engine, range(FRAMES)), expected, tolerance)


def test_a_score_on_a_gpu_is_the_same_whatever_else_is_in_the_batch(folder):
    engine = Engine.load(folder, device="cuda")
    together = predictions(engine, range(FRAMES))
    alone = [predictions(engine, [number])[0] for number in range(FRAMES)]
    check_same(alone, together, FLOAT32)


def test_frames_are_copied_to_the_gpu_before_their_memory_may_change(folder):
    engine = Engine.load(folder, device="cuda")
    frames = batch(range(FRAMES))
    first = engine.predict(frames, scenes_of(range(FRAMES)))
    frames.images.setflags(write=True)
    frames.images[:] = 0
    check_same(first, predictions(engine, range(FRAMES)), FLOAT32)


@pytest.mark.compiler
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", FLOAT32), ("bfloat16", BFLOAT16)])
def test_a_model_compiled_for_a_gpu_gives_the_scores_and_maps_of_the_cpu(folder, expected, precision, tolerance):
    assert can_compile(torch.device("cuda"))
    engine = Engine.ready(folder, RuntimeSettings(precision=precision, **SETTINGS), device="cuda")
    assert engine.tuning == Tuning(getattr(torch, precision), compiled=True)
    assert isinstance(engine.encode, packages.PackagedEncoder)
    check_same(predictions(engine, range(FRAMES)), expected, tolerance)
    for number in range(FRAMES):
        check_same(predictions(engine, [number]), [expected[number]], tolerance)


@pytest.mark.compiler
def test_what_was_compiled_for_a_gpu_is_found_again(folder, monkeypatch):
    Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS), device="cuda")
    monkeypatch.setattr(packages, "compile_package", None)
    Engine.ready(folder, RuntimeSettings(precision="float32", **SETTINGS), device="cuda")


def test_a_gpu_is_measured_and_bfloat16_taken_where_it_is_worth_it():
    tuning = choose_tuning(RuntimeSettings(), torch.device("cuda"))
    assert "GFLOP/s in float32" in tuning.why
    assert "GFLOP/s in bfloat16" in tuning.why
