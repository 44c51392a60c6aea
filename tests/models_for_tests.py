"""A tiny model, trained once per session on a tiny synthetic data set, for tests of what comes after training."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.datasets.base import Dataset

TINY = {
    "model": {
        "image_size_px": [64, 96],
        "encoder": {"name": "mobilenetv3_small_050", "weights": "random", "strides": [8, 16]},
        "flow": {"blocks": 2, "condition_dims": 16},
    },
    "training": {"epochs": 1, "batch_frames": 8, "positions_per_frame": 24, "learning_rate": 1e-3},
    "runtime": {"batch_frames": 4, "batch_wait_s": 0.01, "threads": 1, "precision": "float32", "compile": False},
    "output": {"maps": True},
}


@dataclass(frozen=True)
class TrainedModel:
    """What a test needs to stream or replay."""

    config: Config
    dataset: Dataset
    folder: Path


def tiny_config(**changes) -> Config:
    """The tiny model's config with top-level keys replaced."""
    return parse_config({**TINY, **changes})
