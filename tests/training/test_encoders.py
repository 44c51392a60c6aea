"""Every config under ``configs/encoders`` from footage to scores: random weights, and as thin as it can be."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.config import Config
from pipeline.config_file import parse_config, with_method
from pipeline.errors import ConfigError
from pipeline.inference.engine import Engine
from pipeline.methods import CHOICES
from pipeline.models.fetching import find_model
from pipeline.training.train import NullProgress, train
from pipeline.types import Frame, FrameBatch, FrameHeader
from pipeline.video.source import open_source
from tests.training.footage import heldout_of, make_dataset, scores_of

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "encoders").glob("*.yaml"))
SECTIONS = {
    "flow": {"blocks": 1, "condition_dims": 16},
    "score": {"levels": "finest"},
    "padim": {"channels": 20},
    "spade": {"image_neighbours": 2},
    "differnet": {"blocks": 1, "hidden_dims": 16, "scales": [1.0, 0.5]},
}
TRAINING = {"epochs": 1, "batch_frames": 4, "positions_per_frame": 8}
# Arguments that leave blocks, stages and strides as they are.
THIN = {
    "vit_small_patch14_dinov2": {"embed_dim": 64, "num_heads": 2},
    "vit_small_patch16_dinov3": {"embed_dim": 64, "num_heads": 2},
    "convnext_tiny": {"dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "wide_resnet50_2": {"channels": [8, 16, 24, 32], "layers": [1, 1, 1, 1]},
    "mobilenetv4_conv_small": {},
}
VIT = {"name": "test_vit", "weights": "random", "blocks": [1, 4]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("footage"), {"gate": (3, 3)})


def scored(config: Config, dataset, out) -> tuple[list[float], list[float], dict[str, float]]:
    """Train and load again: scores of held-out frames as the training and as the engine sees them, and the losses."""
    losses: dict[str, float] = {}
    progress = NullProgress()
    progress.step = lambda epoch, step, total_steps, found: losses.update(found)
    train(config, dataset, out, progress)
    card = find_model(out, config).card
    engine, scores = Engine.load(out), []
    for clip, (number,) in heldout_of(dataset):
        with open_source(clip.url, card.model.image_size_px, gap_s=card.model.motion.gap_s) as source:
            one = list(source)[number]
        frame = Frame(FrameHeader("cam", 0, 2, 2, Fraction(1, 10), 0.0), one.image, one.previous)
        scores.append(engine.predict(FrameBatch.of([frame]), ["gate"])[0].anomaly_score)
    return [score for of_part in scores_of(card, "gate") for score in of_part], scores, losses


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_encoders_config_goes_from_footage_to_scores(path, dataset, tmp_path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert settings["model"]["encoder"]["weights"] == "pretrained"
    name, size_px = settings["model"]["encoder"]["name"], settings["model"]["image_size_px"]
    smallest = 56 if size_px[0] % 14 == 0 else 64
    settings["model"]["encoder"] |= {"weights": "random", "arguments": THIN[name]}
    settings["model"]["flow"] |= {**SECTIONS["flow"], "permutation": "hard", "hidden_ratio": 0.1}
    settings["model"] |= {"image_size_px": [smallest, smallest]}
    settings["training"] |= TRAINING
    settings["runtime"]["device"] = "cpu"
    config = parse_config(settings)
    expected, found, losses = scored(config, dataset, tmp_path / "m")
    assert len(found) == len(expected) == 1
    assert np.isfinite(found).all()
    assert tuple(losses) == config.model.encoder.level_names


@pytest.mark.parametrize("method", CHOICES)
def test_every_method_takes_levels_of_one_stride(method, dataset, tmp_path):
    model = {"image_size_px": [64, 96], "encoder": VIT, **SECTIONS}
    config = with_method(parse_config({"model": model, "training": TRAINING, "runtime": {"device": "cpu"}}), method)
    expected, found, losses = scored(config, dataset, tmp_path / "m")
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert set(losses) <= {"block 1", "block 4"}


def test_an_image_size_that_the_encoder_does_not_take_is_said_before_anything_is_extracted(dataset, tmp_path):
    model = {"image_size_px": [60, 96], "encoder": VIT}
    config = parse_config({"model": model, "runtime": {"device": "cpu"}})
    with pytest.raises(ConfigError, match=r"coarsest stride 16, such as \[64, 96\], got \[60, 96\]"):
        train(config, dataset, tmp_path / "m")
    assert not (tmp_path / "m").exists()
