"""Every method from the same footage, into the same kind of checkpoint, through the same engine."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors.torch import load_file, save_file

from pipeline.config import Config, TrainingSettings
from pipeline.config_file import with_method
from pipeline.datasets.base import Clip, Dataset
from pipeline.errors import CheckpointError, ConfigError, ModelSizeError
from pipeline.inference.engine import Engine
from pipeline.methods import CHOICES
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE, check_matches, read_card, write_card
from pipeline.training.measured_parts import LIGHTS
from pipeline.training.state import training_folder
from pipeline.training.train import NullProgress, train
from pipeline.types import Frame, FrameBatch, FrameHeader
from pipeline.video.source import open_source
from tests.fuzz.targets import check_forged_card, forgeries
from tests.models.forging import fingerprint_of, read_values, write_values
from tests.models.tiny import SIZE_PX
from tests.training.footage import heldout_of, make_config, moving_square, scores_of
from tests.videos import write_video

SECTIONS = {
    "padim": {"channels": 20},
    "spade": {"image_neighbours": 3},
    "differnet": {"blocks": 2, "hidden_dims": 16, "scales": [1.0, 0.5]},
}
STRIDES = ("stride 8", "stride 16", "stride 32")


def config_of(method: str, **training) -> Config:
    config = make_config(**training)
    model = config.model.model_dump() | SECTIONS
    return with_method(config.model_copy(update={"model": type(config.model).model_validate(model)}), method)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two scenes that differ: every clip has a ground of its own."""
    root = tmp_path_factory.mktemp("footage")
    clips = []
    for scene, seed, lengths in (("gate", 0, (7, 8, 9)), ("yard", 50, (9, 7))):
        inputs = moving_square(1, seed)[0].astype(int)
        for number, length in enumerate(lengths):
            images = [inputs + image.astype(int) // 8 for image in moving_square(length, seed + number)]
            path = root / f"{scene}_{number}.mp4"
            write_video(path, [image.clip(0, 255).astype(np.uint8) for image in images], size_px=SIZE_PX, fps=10)
            clips.append(Clip(path.stem, scene, str(path), length))
    return Dataset("stc", root, tuple(clips), ())


@pytest.fixture(scope="module")
def models(dataset, tmp_path_factory):
    """A model of every method: folder and card."""
    folder = tmp_path_factory.mktemp("models")
    return {method: (folder / method, train(config_of(method), dataset, folder / method)) for method in CHOICES}


@pytest.fixture(params=CHOICES)
def made(request, models):
    return request.param, *models[request.param]


def frames(clip, chosen=slice(None)):
    """Frames of a clip as the engine takes them."""
    with open_source(clip.url, SIZE_PX, gap_s=0.1) as source:
        decoded = list(source)[chosen]
    return FrameBatch.of(
        [
            Frame(FrameHeader("cam", 0, index, index, Fraction(1, 10), 0.0), one.image, one.previous)
            for index, one in enumerate(decoded)
        ]
    )


def without_pairs(batch):
    return FrameBatch.of([replace(frame, previous=None) for frame in batch.frames()])


def test_the_engine_scores_held_out_frames_as_training_did(made, dataset):
    method, out, card = made
    engine = Engine.load(out)
    for clip, heldout in heldout_of(dataset):
        batch, scene = frames(clip, slice(heldout.start, heldout.stop)), clip.scene
        for kept, seen in ((card.normal_scores, batch), (card.unpaired_scores, without_pairs(batch))):
            predictions = engine.predict(seen, [scene] * len(seen))
            expected = pytest.approx(kept[scene][0], rel=1e-4, abs=1e-4)
            assert [p.anomaly_score for p in predictions] == expected, method
            assert predictions[0].common_surprise == pytest.approx(card.normal_common[scene][0][0], rel=1e-4, abs=1e-4)
        assert all(p.anomaly_map.shape == (8, 12) and np.isfinite(p.anomaly_map).all() for p in predictions)


def test_the_checkpoint_says_what_it_is(made):
    method, out, card = made
    assert card == read_card(out)
    assert card.model.method == ("cflow" if method.endswith("conditional") else method)
    # Too little was held out to tell, so the condition is not relied on.
    assert card.provenance.condition_strengths == (dict.fromkeys(STRIDES, 0.0) if method == "cflow" else {})
    assert card.scenes == ("gate", "yard")
    assert card.normal_kinds == {
        "gate": ("own", *["light"] * LIGHTS, *["learned"] * 4),  # the middle of the second of three clips is held out
        "yard": ("own", *["light"] * LIGHTS, "learned", "learned"),
    }
    assert card.provenance.completed
    assert not training_folder(out).exists()


def test_a_frame_scores_alike_alone_and_beside_frames_of_other_scenes(made, dataset):
    _, out, _ = made
    engine, batch = Engine.load(out), frames(dataset.train[0], slice(1, None))
    scenes = ["gate", "yard", "moon"] * 2
    together = [p.anomaly_score for p in engine.predict(batch, scenes)]
    alone = [
        engine.predict(FrameBatch.of([frame]), [scene])[0].anomaly_score
        for frame, scene in zip(batch.frames(), scenes, strict=True)
    ]
    assert together == pytest.approx(alone, rel=1e-3, abs=1e-4)  # 0 is what is usual


@pytest.mark.parametrize("method", SECTIONS)
def test_a_baseline_knows_its_scene(models, dataset, method):
    out, _ = models[method]
    # Without pairs: how fast things usually move in a scene that nobody knows is another matter.
    engine, batch = Engine.load(out), without_pairs(frames(dataset.train[0], slice(6, None)))
    own, other, unknown = (engine.predict(batch, [scene])[0].anomaly_score for scene in ("gate", "yard", "moon"))
    assert own < other
    assert unknown == pytest.approx(own)


@pytest.mark.parametrize("method", ["cflow", *SECTIONS])
def test_a_method_learns_from_variants_and_measures_frames_as_they_are(models, dataset, tmp_path, method):
    card = train(config_of(method, augmentation={"variants": 2}), dataset, tmp_path / "m")
    out, without = models[method]
    assert card.fingerprint != without.fingerprint
    sizes = [(folder / WEIGHTS_FILE).stat().st_size for folder in (tmp_path / "m", out)]
    assert sizes[0] == pytest.approx(sizes[1], abs=64)  # nor does SPADE's gallery grow
    clip, heldout = heldout_of(dataset)[0]
    batch = frames(clip, slice(heldout.start, heldout.stop))
    predictions = Engine.load(tmp_path / "m").predict(batch, ["gate"] * len(batch))
    (expected,) = scores_of(card, "gate")
    assert [p.anomaly_score for p in predictions] == pytest.approx(list(expected), rel=1e-4, abs=1e-4)


def test_the_same_seed_gives_the_same_model(made, dataset, tmp_path):
    method, out, card = made
    again = train(config_of(method), dataset, tmp_path / "m")
    assert again.fingerprint == card.fingerprint
    assert (tmp_path / "m" / WEIGHTS_FILE).read_bytes() == (out / WEIGHTS_FILE).read_bytes()


def test_an_interrupted_differnet_goes_on_to_the_same_model(dataset, tmp_path):
    class Stopped(NullProgress):
        def step(self, epoch, step, total_steps, losses):
            if step == 3:
                raise KeyboardInterrupt

    config = config_of("differnet")
    whole = train(config, dataset, tmp_path / "whole")
    cut = train(config, dataset, tmp_path / "cut", Stopped())
    assert not cut.provenance.completed
    assert train(config, dataset, tmp_path / "cut").fingerprint == whole.fingerprint


def test_an_interrupted_padim_keeps_its_features(dataset, tmp_path):
    class Stopped(NullProgress):
        def step(self, epoch, step, total_steps, losses):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config_of("padim"), dataset, tmp_path / "m", Stopped())
    assert list(training_folder(tmp_path / "m").rglob("clip-00000-stride8.f16"))
    assert not (tmp_path / "m").exists()


def test_features_are_extracted_once_for_methods_that_share_them(dataset, tmp_path):
    shared = tmp_path / "shared"
    train(config_of("padim"), dataset, tmp_path / "padim", features=shared)
    files = {path: path.stat().st_mtime_ns for path in shared.rglob("*.f16")}
    assert files
    card = train(config_of("spade"), dataset, tmp_path / "spade", features=shared)
    assert {path: path.stat().st_mtime_ns for path in shared.rglob("*.f16")} == files
    assert train(config_of("spade"), dataset, tmp_path / "alone").fingerprint == card.fingerprint


def test_a_gallery_over_its_limit_ends_the_training_in_one_line(dataset, tmp_path):
    config = config_of("spade")
    spade = config.model.spade.model_copy(update={"gallery_gib": 1e-6})
    config = config.model_copy(update={"model": config.model.model_copy(update={"spade": spade})})
    with pytest.raises(ModelSizeError, match="gallery_gib"):
        train(config, dataset, tmp_path / "m")


def test_a_method_that_is_none_is_named():
    with pytest.raises(ConfigError, match=r"expected one of cflow, padim, .* got 'patchcore'"):
        with_method(Config(), "patchcore")


def test_a_method_that_nobody_knows_is_not_fitted_as_another(dataset, tmp_path):
    config = config_of("differnet")
    unknown = config.model_copy(update={"model": config.model.model_copy(update={"method": "patchcore"})})
    with pytest.raises(ConfigError, match=r"model\.method: expected one of cflow, .* got 'patchcore'"):
        train(unknown, dataset, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_card_of_a_method_that_nobody_knows_is_refused_in_one_line(made, tmp_path):
    _, out, card = made
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / WEIGHTS_FILE).symlink_to(out / WEIGHTS_FILE)
    write_card(card.model_copy(update={"model": card.model.model_copy(update={"method": "patchcore"})}), folder)
    with pytest.raises(CheckpointError, match=r"model\.method: .*expected one of cflow, padim") as caught:
        Engine.load(folder, expected=card.model)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_method_does_not_match_a_config_that_names_one(made):
    method, out, card = made
    stated = type(card.model).model_validate({"method": "spade" if method != "spade" else "padim"})
    with pytest.raises(CheckpointError, match=r"model\.method: expected"):
        check_matches(stated, card, out)


def test_sections_of_other_methods_are_not_compared(made):
    method, out, card = made
    sections = {"padim": {"channels": 3}, "spade": {"pixel_neighbours": 9}}
    sections.pop(method, None)
    check_matches(type(card.model).model_validate(sections), card, out)
    if method == "padim":
        with pytest.raises(CheckpointError, match=r"model\.padim\.channels: expected 3 .* 20"):
            check_matches(type(card.model).model_validate({"padim": {"channels": 3}}), card, out)


@pytest.mark.parametrize("method", SECTIONS)
def test_a_missing_tensor_is_refused_in_one_line(models, method):
    out, _ = models[method]
    folder = out.with_name(f"{method}-damaged")
    folder.mkdir()
    tensors = load_file(out / WEIGHTS_FILE)
    del tensors[next(name for name in sorted(tensors) if name.startswith("models."))]
    save_file(tensors, folder / WEIGHTS_FILE)
    write_card(read_card(out), folder)
    with pytest.raises(
        CheckpointError, match=f"{WEIGHTS_FILE}: expected the tensors that {CARD_FILE} describes"
    ) as caught:
        Engine.load(folder)
    assert "\n" not in str(caught.value)


def test_a_card_from_before_there_were_methods_loads_and_keeps_its_fingerprint(dataset, tmp_path):
    out = tmp_path / "m"
    train(config_of("cflow", epochs=1), dataset, out)
    values = read_values(out)
    for section in ("method", "padim", "spade", "differnet"):
        del values["model"][section]
    del values["model"]["flow"]["condition"]
    older = fingerprint_of(out, values)
    write_values(out, {**values, "fingerprint": older})
    read = read_card(out)
    assert read.fingerprint == older
    assert (read.model.method, read.model.flow.condition) == ("cflow", "position")
    assert Engine.load(out).card == read


def test_an_old_training_state_of_another_method_is_not_taken_up(dataset, tmp_path):
    class Stopped(NullProgress):
        def step(self, epoch, step, total_steps, losses):
            if step == 2:
                raise KeyboardInterrupt

    train(config_of("cflow"), dataset, tmp_path / "m", Stopped())
    card = train(config_of("differnet"), dataset, tmp_path / "m")
    assert card.model.method == "differnet"
    assert card.provenance.completed
    assert card.provenance.training == TrainingSettings.model_validate(config_of("differnet").training.model_dump())
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("method", SECTIONS)
@settings(max_examples=40)
@given(forge=forgeries)
def test_a_card_that_says_anything_is_refused_in_one_line_or_true(models, method, forge):
    out, _ = models[method]
    check_forged_card(out, out.with_name(f"{method}-forged"), forge, Engine.load)
