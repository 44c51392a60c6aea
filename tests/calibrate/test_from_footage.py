"""More normal footage through a trained model: real videos, a tiny encoder."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from pipeline.calibrate.from_footage import add_clip
from pipeline.errors import VideoError
from pipeline.inference.engine import Engine
from pipeline.models.normal_store import NormalStore
from pipeline.training.train import train
from tests.training.footage import make_config, make_dataset
from tests.training.test_methods import frames, without_pairs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model's folder and the data set that it was trained on."""
    folder = tmp_path_factory.mktemp("model")
    dataset = make_dataset(folder, {"gate": (12, 10)})
    train(make_config(epochs=1), dataset, folder / "m")
    return folder / "m", dataset


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("more"), {"gate": (25,)}).train[0]


def test_footage_scores_as_the_engine_scores_it_with_and_without_pairs(model, clip):
    folder, _ = model
    engine = Engine.load(folder)
    before = NormalStore.read(folder, engine.card.fingerprint)
    done = []
    store = add_clip(before, engine, clip, done.append)
    (added,) = store.added
    assert (added.scene, added.camera_id, added.zones, added.stretch.kind) == ("gate", None, "", "own")
    assert added.stretch.fps == pytest.approx(10.0)
    assert done[-1] == 25
    batch = frames(clip)
    for kept, seen in ((added.stretch.scores, batch), (added.stretch.unpaired, without_pairs(batch))):
        predicted = [one.anomaly_score for one in engine.predict(seen, ["gate"] * len(seen))]
        assert kept == pytest.approx(predicted, rel=1e-4, abs=1e-4)
    (maps,) = [one for one in store.maps("gate") if len(one.maps) == 25]
    count = max(1, round(engine.card.model.score.top_fraction * maps.maps[0].size))
    highest = np.sort(maps.maps.reshape(25, -1).astype(float), axis=1)[:, -count:].mean(axis=1)
    assert highest == pytest.approx(added.stretch.scores, rel=2e-3, abs=2e-3)


def test_footage_that_the_model_has_seen_does_not_count_again_whatever_it_is_called(model, clip, tmp_path):
    folder, dataset = model
    engine = Engine.load(folder)
    store = NormalStore.read(folder, engine.card.fingerprint)
    learned = replace(dataset.train[0], url=shutil.copy(dataset.train[0].url, tmp_path / "other.mp4"))
    with pytest.raises(VideoError, match=r"other\.mp4: the model has seen this footage before"):
        add_clip(store, engine, learned, lambda done: None)
    once = add_clip(store, engine, clip, lambda done: None)
    with pytest.raises(VideoError, match="has seen this footage before"):
        add_clip(once, engine, clip, lambda done: None)


def test_footage_of_a_scene_that_the_model_does_not_know_is_refused(model, clip):
    engine = Engine.load(model[0])
    with pytest.raises(VideoError, match="expected one of the model's scenes, gate, got scene 'yard'"):
        add_clip(NormalStore(), engine, replace(clip, scene="yard"), lambda done: None)
