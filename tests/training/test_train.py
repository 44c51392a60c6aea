import itertools
import logging
import math
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.config_file import load_config
from pipeline.datasets.base import Dataset
from pipeline.errors import CheckpointError, DatasetError, RunError
from pipeline.inference.engine import Engine
from pipeline.models.card import WEIGHTS_FILE, read_card
from pipeline.training.measured_parts import LIGHTS
from pipeline.training.state import training_folder
from pipeline.training.train import NullProgress, train
from pipeline.training.trainer import relative_rate
from pipeline.types import Frame, FrameBatch, FrameHeader
from pipeline.video.source import open_source
from tests.models.tiny import SIZE_PX
from tests.training.footage import make_config, make_dataset, scores_of


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("footage"))


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A training that nobody interrupted: folder, card, and what its progress was told."""
    out = tmp_path_factory.mktemp("models") / "whole"
    told = Told()
    return out, train(make_config(), dataset, out, told), told


class Told(NullProgress):
    """Progress that remembers, and can stop a training after a step."""

    def __init__(self, stop_after=None, how="raise"):
        self.steps, self.losses, self.held = [], [], []
        self.stop_after, self.how = stop_after, how

    def step(self, epoch, step, total_steps, losses):
        self.steps.append((epoch, step, total_steps))
        self.losses.append(dict(losses))
        if step == self.stop_after and self.how == "raise":
            raise KeyboardInterrupt
        if step == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    def heldout(self, done, total):
        self.held.append((done, total))


def weights(folder):
    return (folder / WEIGHTS_FILE).read_bytes()


def test_a_training_gives_a_complete_checkpoint_and_leaves_nothing_else(trained):
    out, card, told = trained
    assert card == read_card(out)
    assert card.provenance.completed
    assert (card.provenance.epochs, card.provenance.steps) == (2, 8)  # 32 frames to learn, 8 in a step
    assert card.scenes == ("gate",)
    assert told.steps == [(step // 4, step + 1, 8) for step in range(8)]
    assert set(told.losses[-1]) == {"stride 8", "stride 16", "stride 32"}
    assert card.provenance.holdout_frames == 9
    assert told.held[-1] == (9 * (1 + LIGHTS) + 30,) * 2  # in their own light and in others; and what was learned from
    assert not training_folder(out).exists()
    assert [path.name for path in out.parent.iterdir()] == ["whole"]


def test_the_card_holds_a_view_of_every_scene(tmp_path, caplog):
    clips = {"gate": (130, 130), "yard": (8, 9)}
    with caplog.at_level(logging.INFO):
        card = train(make_config(epochs=1), make_dataset(tmp_path / "footage", clips), tmp_path / "model")
    assert set(card.views) == {"gate", "yard"}
    assert read_card(tmp_path / "model").views == card.views
    assert card.views["yard"].telling is False  # less than two seconds
    assert "scene yard: too little" in caplog.text


def test_the_resolved_encoder_settings_are_in_the_card(trained):
    _, card, _ = trained
    assert card.model.encoder.mean is not None
    assert card.model.encoder.std is not None


def test_normal_scores_are_those_of_the_engine_on_the_held_out_clip(trained, dataset):
    out, card, _ = trained
    (scores,) = scores_of(card, "gate")
    (clip,) = [clip for clip in dataset.train if clip.name == "gate_2"]  # the middle one of five
    with open_source(clip.url, SIZE_PX, gap_s=card.model.motion.gap_s) as source:
        frames = [
            Frame(FrameHeader("a", 0, i, one.pts, one.time_base, 0.0), one.image, one.previous)
            for i, one in enumerate(source)
        ]
    predictions = Engine.load(out).predict(FrameBatch.of(frames), ["gate"] * len(frames))
    assert [prediction.anomaly_score for prediction in predictions] == pytest.approx(scores, rel=1e-4, abs=1e-4)
    assert card.normal_fps == 10.0


def test_constants_describe_the_held_out_frames(trained):
    _, card, _ = trained
    assert [level.stride for level in card.levels] == [8, 16, 32]
    assert [level.channels for level in card.levels] == [32, 48, 64]
    assert all(math.isfinite(level.mean) and level.std > 0 for level in card.levels)


def test_the_same_seed_gives_the_same_model_to_the_last_bit(trained, dataset, tmp_path):
    out, card, _ = trained
    torch.manual_seed(123)  # what others did to the random state is of no concern
    again = train(make_config(), dataset, tmp_path / "m")
    assert weights(tmp_path / "m") == weights(out)
    assert again.fingerprint == card.fingerprint


def test_a_training_with_variants_that_was_interrupted_ends_as_an_uninterrupted_one(dataset, tmp_path):
    config = make_config(epochs=1, augmentation={"variants": 2, "strength": 0.5})
    whole = train(config, dataset, tmp_path / "whole")
    train(config, dataset, tmp_path / "cut", Told(2))
    assert train(config, dataset, tmp_path / "cut").fingerprint == whole.fingerprint
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_another_seed_gives_another_model(trained, dataset, tmp_path):
    train(make_config(seed=1), dataset, tmp_path / "m")
    assert weights(tmp_path / "m") != weights(trained[0])


@pytest.mark.parametrize("how", ["raise", "signal"])
@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_an_interrupted_and_resumed_training_ends_as_an_uninterrupted_one(trained, dataset, tmp_path, stop_after, how):
    out = tmp_path / "m"
    card = train(make_config(), dataset, out, Told(stop_after, how))
    assert not card.provenance.completed
    assert (card.provenance.steps, card.provenance.epochs) == (stop_after, stop_after // 4)
    assert Engine.load(out).card.fingerprint == card.fingerprint  # usable as it is
    assert card.normal_scores["gate"]

    told = Told()
    finished = train(make_config(), dataset, out, told)
    assert [step for _, step, _ in told.steps] == list(range(stop_after + 1, 9))
    assert finished.provenance.completed
    assert weights(out) == weights(trained[0])
    assert finished.fingerprint == trained[1].fingerprint
    assert finished.provenance.losses == trained[1].provenance.losses
    assert not training_folder(out).exists()


def test_a_second_ctrl_c_ends_a_training_at_once_without_keeping_what_may_be_half_a_step(trained, dataset, tmp_path):
    class Impatient(NullProgress):
        def step(self, epoch, step, total_steps, losses):
            if step == 3:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(make_config(), dataset, tmp_path / "m", Impatient())
    assert not (tmp_path / "m").exists()
    told = Told()
    train(make_config(), dataset, tmp_path / "m", told)
    assert told.steps[0][1] == 1
    assert weights(tmp_path / "m") == weights(trained[0])


def test_a_training_with_an_embedding_resumes_to_the_last_bit(tmp_path):
    footage = make_dataset(tmp_path / "footage", {"gate": (7, 8), "yard": (9,)})
    config = make_config(model={"camera_embedding": 3, "permutation": "hard"})
    train(config, footage, tmp_path / "whole")
    train(config, footage, tmp_path / "cut", Told(3))
    card = train(config, footage, tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert card.scenes == ("gate", "yard")
    assert card.normal_kinds["yard"] == ("own", *["light"] * LIGHTS, "learned", "learned")


def test_a_killed_training_goes_on_from_its_last_saved_state(trained, dataset, tmp_path):
    class Killed(Told):
        def step(self, epoch, step, total_steps, losses):
            super().step(epoch, step, total_steps, losses)
            if step == 6:
                raise SystemExit  # nothing is written any more

    config = make_config(checkpoint_every_s=1e-6)
    with pytest.raises(SystemExit):
        train(config, dataset, tmp_path / "m", Killed())
    assert not (tmp_path / "m").exists()
    told = Told()
    train(make_config(), dataset, tmp_path / "m", told)
    assert told.steps[0][1] == 6  # step 6 was done, but no state had been saved after it
    assert weights(tmp_path / "m") == weights(trained[0])


def test_a_training_goes_on_where_its_state_cannot_be_saved_and_the_log_says_so(trained, dataset, tmp_path, caplog):
    class Obstructed(Told):
        def step(self, epoch, step, total_steps, losses):
            (training_folder(tmp_path / "m") / "state.safetensors").mkdir(exist_ok=True)

    config = make_config(checkpoint_every_s=1e-6)
    assert train(config, dataset, tmp_path / "m", Obstructed()).provenance.completed
    assert weights(tmp_path / "m") == weights(trained[0])
    told = [record for record in caplog.records if "cannot be gone on from" in record.message]
    assert len(told) > 1
    assert "state.safetensors" in told[0].message


def test_a_state_of_other_settings_is_not_resumed_and_the_log_says_so(dataset, tmp_path, caplog):
    train(make_config(), dataset, tmp_path / "m", Told(3))
    told = Told()
    with caplog.at_level(logging.WARNING):
        train(make_config(learning_rate=5e-4), dataset, tmp_path / "m", told)
    assert told.steps[0][1] == 1
    assert "training starts anew" in caplog.text


def test_a_damaged_state_is_not_resumed_and_the_log_says_so(trained, dataset, tmp_path, caplog):
    train(make_config(), dataset, tmp_path / "m", Told(3))
    state = training_folder(tmp_path / "m") / "state.safetensors"
    state.write_bytes(state.read_bytes()[:500])
    with caplog.at_level(logging.WARNING):
        train(make_config(), dataset, tmp_path / "m")
    assert "cannot be read" in caplog.text
    assert weights(tmp_path / "m") == weights(trained[0])


def test_changed_footage_is_extracted_and_learned_anew(dataset, tmp_path):
    own = make_dataset(tmp_path / "footage")
    train(make_config(), own, tmp_path / "m", Told(3))
    os.utime(own.train[0].url, (1, 1))
    told = Told()
    train(make_config(), own, tmp_path / "m", told)
    assert told.steps[0][1] == 1


def test_an_interrupt_before_the_first_step_is_passed_on_and_keeps_the_features(dataset, tmp_path):
    class Early(NullProgress):
        def features(self, done, total):
            if done > 10:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(make_config(), dataset, tmp_path / "m", Early())
    assert list(training_folder(tmp_path / "m").rglob("clip-00000-stride8.f16"))
    assert not (tmp_path / "m").exists()


def test_ctrl_c_works_as_before_once_the_training_is_done(dataset, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    train(make_config(epochs=1), dataset, tmp_path / "m", Told(2, "signal"))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_training_runs_on_another_thread_too(trained, dataset, tmp_path):
    thread = threading.Thread(target=train, args=(make_config(), dataset, tmp_path / "m"))
    thread.start()
    thread.join()
    assert weights(tmp_path / "m") == weights(trained[0])


def test_a_complete_model_is_not_trained_over(trained, dataset):
    with pytest.raises(CheckpointError, match="got a complete model"):
        train(make_config(), dataset, trained[0])


def test_a_data_set_without_training_clips_is_named(tmp_path):
    with pytest.raises(DatasetError, match="expected training clips, got none"):
        train(make_config(), Dataset("stc", tmp_path, (), ()), tmp_path / "m")


def test_a_training_that_diverges_says_so(dataset, tmp_path):
    with pytest.raises(RunError, match=r"diverged .* training\.learning_rate lower"):
        train(make_config(learning_rate=1e30), dataset, tmp_path / "m")


def test_the_loss_falls(dataset, tmp_path):
    told = Told()
    train(make_config(epochs=10, learning_rate=5e-3, positions_per_frame=None), dataset, tmp_path / "m", told)
    for level in ("stride 8", "stride 16", "stride 32"):
        assert told.losses[-1][level] < told.losses[0][level]


def test_the_encoder_in_the_checkpoint_is_the_one_that_was_configured(trained):
    from pipeline.models.encoder import build_encoder
    from pipeline.models.float16 import round_weights
    from tests.models.tiny import ENCODER

    stored = load_file(trained[0] / WEIGHTS_FILE)
    configured = build_encoder(ENCODER)
    round_weights(configured)
    for name, tensor in configured.backbone.state_dict().items():
        assert torch.equal(stored[f"encoder.{name}"].to(tensor.dtype), tensor)


def test_the_rate_rises_linearly_and_falls_to_nothing_as_a_cosine():
    rates = [relative_rate(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("name", ["ped2", "stc"])
def test_the_configurations_that_come_with_the_project_can_be_read(name):
    config = load_config(Path(__file__).parents[2] / "configs" / f"{name}.yaml")
    assert config.model.encoder.strides == (8, 16, 32)
    assert (config.model.flow.camera_embedding > 0) is (name == "stc")
