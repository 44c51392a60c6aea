"""Little footage that serves twice: every frame is measured by a model that has not seen it, and all are learned."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import DatasetError
from pipeline.inference.engine import Engine
from pipeline.methods import METHODS
from pipeline.models.card import WEIGHTS_FILE, read_card
from pipeline.models.normal_store import NormalStore
from pipeline.training.cross_fit import LITTLE_S, is_wanted
from pipeline.training.holdout import FOLDS, Part, cross_splits, split_clips
from pipeline.training.state import fit_key, training_folder
from pipeline.training.train import train
from pipeline.training.workers import ALONE
from tests.training.footage import make_config, make_dataset, scores_of
from tests.training.groups import in_group
from tests.training.test_condition_strength import FPS, make_clip
from tests.training.test_methods import config_of, frames, without_pairs
from tests.training.test_train import Told

LENGTHS = {"gate": (20, 10), "yard": (24,)}
FRAMES = 54


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("footage"), LENGTHS)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A training that nobody interrupted: its folder, and what its progress was told."""
    out, told = tmp_path_factory.mktemp("models") / "whole", Told()
    train(make_config(cross_fit=True), dataset, out, told)
    return out, told


@pytest.mark.parametrize("method", METHODS)
def test_every_frame_is_learned_and_measured_by_a_model_that_has_not_seen_it(dataset, tmp_path, method):
    card = train(config_of(method, cross_fit=True), dataset, tmp_path / "m")
    made = card.provenance
    assert (made.folds, made.train_frames, made.holdout_frames) == (FOLDS, FRAMES, FRAMES)
    for scene, lengths in LENGTHS.items():
        assert sum(map(len, scores_of(card, scene))) == sum(lengths)
        assert 0 < sum(map(len, scores_of(card, scene, "light"))) < sum(lengths)
        assert scores_of(card, scene, "learned") == []
    (yard,) = [clip for clip in dataset.train if clip.scene == "yard"]
    batch = without_pairs(frames(yard))  # motion is not fitted
    again = [one.anomaly_score for one in Engine.load(tmp_path / "m").predict(batch, ["yard"] * len(batch))]
    unseen = np.concatenate(scores_of(card.model_copy(update={"normal_scores": card.unpaired_scores}), "yard"))
    assert np.isfinite(unseen).all()
    assert not np.allclose(unseen, again, atol=1e-3)
    if method == "spade":  # which knows by heart what it learned
        assert np.median(unseen) > max(again)


def test_the_maps_of_all_that_was_measured_lie_beside_the_model(whole):
    out, _ = whole
    card = read_card(out)
    store = NormalStore.read(out, card.fingerprint)
    for scene, lengths in LENGTHS.items():
        kept = [one for one in store.maps(scene) if one.kind == "own"]
        assert sum(len(one.maps) for one in kept) == sum(lengths)
        top = max(1, round(card.model.score.top_fraction * kept[0].maps[0].size))
        read = [np.sort(one.maps.reshape(len(one.maps), -1).astype(float))[:, -top:].mean(axis=1) for one in kept]
        assert np.concatenate(read) == pytest.approx(np.concatenate(scores_of(card, scene)), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("stop_after", [12, 24])
def test_an_interrupted_one_leaves_a_usable_model_and_ends_as_if_nothing_had_been(whole, dataset, tmp_path, stop_after):
    """In the second of the three fits on parts, and after the last step of the third."""
    folder, told = whole
    assert told.steps[-1][1] == told.steps[-1][2] == len(told.steps)
    cut = train(make_config(cross_fit=True), dataset, tmp_path / "m", Told(stop_after))
    assert not cut.provenance.completed
    assert Engine.load(tmp_path / "m").card == cut
    card = train(make_config(cross_fit=True), dataset, tmp_path / "m")
    assert (tmp_path / "m" / WEIGHTS_FILE).read_bytes() == (folder / WEIGHTS_FILE).read_bytes()
    assert card.fingerprint == read_card(folder).fingerprint
    assert not training_folder(tmp_path / "m").exists()


def test_a_scene_with_little_footage_has_it_cross_fitted_unless_it_is_said_otherwise():
    def wanted(*seconds, **settings):
        clips = [make_clip(round(FPS * lasts), scene=f"s{number}") for number, lasts in enumerate(seconds)]
        return is_wanted(make_config(**settings).training, clips, ALONE)

    assert wanted(LITTLE_S - 1, 700)
    assert not wanted(LITTLE_S)
    assert not wanted(LITTLE_S - 1, 5)  # too short to tell anything
    assert not is_wanted(make_config().training, [replace(make_clip(5), fps=0.1)], ALONE)  # too few frames for parts
    assert wanted(LITTLE_S, cross_fit=True)
    assert not wanted(LITTLE_S - 1, cross_fit=False)
    with pytest.raises(DatasetError, match="scene s1: expected 6 frames or more to cross-fit, got 4"):
        wanted(60, 2, cross_fit=True)


def test_nobody_goes_on_from_a_model_that_has_learned_what_is_to_be_unseen():
    """Whether footage is cross-fitted may change with the number of workers, and nothing else does."""
    config = make_config()
    split, *folds = split_clips(["gate"], [240], [10.0], 0.1), *cross_splits(["gate"], [240], [10.0])
    learned = [split.train, (Part(0, range(240)),), *(fold.train for fold in folds)]
    assert len({fit_key("features", config.model, config.training, "cpu", one) for one in learned}) == len(learned)


def test_several_workers_do_not_cross_fit_and_say_so(caplog):
    clips = [make_clip(round(FPS * 60))]
    for count in (2, 1):  # one that is left of several neither
        assert not any(in_group(count, lambda workers: is_wanted(make_config().training, clips, workers)))
    assert "several workers do not" in caplog.text
