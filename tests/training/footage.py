"""Real tiny footage to train on, and a configuration that learns from it within a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.config import Config, TrainingSettings
from pipeline.datasets.base import Clip, Dataset
from pipeline.model_settings import ModelSettings
from pipeline.models.card import ModelCard
from pipeline.training.holdout import Part, split_clips
from tests.models.tiny import tiny_settings
from tests.videos import write_video


def moving_square(frames: int, seed: int, size_px: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    """Noise, fixed for the clip, with a bright square that moves over it."""
    random = np.random.default_rng(seed)
    inputs = random.integers(60, 120, (*size_px, 3), dtype=np.uint8)
    images = []
    for number in range(frames):
        image = inputs.copy()
        left = (5 * number + 11 * seed) % (size_px[1] - 16)
        image[24:40, left : left + 16] = 220
        images.append(image)
    return images


def make_dataset(root: Path, clips: dict[str, tuple[int, ...]] | None = None) -> Dataset:
    """A data set of videos: scene to the lengths of its clips."""
    train = []
    for scene, lengths in (clips or {"gate": (7, 8, 9, 8, 7)}).items():
        for number, length in enumerate(lengths):
            path = root / f"{scene}_{number}.mp4"
            write_video(path, moving_square(length, seed=number), size_px=(64, 96), fps=10)
            train.append(Clip(f"{scene}_{number}", scene, str(path), length))
    return Dataset("stc", root, tuple(train), ())


def as_parts(*frames: range) -> list[Part]:
    """Parts of clips: of each, in order, these frames."""
    return [Part(clip, of_clip) for clip, of_clip in enumerate(frames) if of_clip]


def scores_of(card: ModelCard, scene: str, kind: str = "own") -> list[tuple[float, ...]]:
    """A scene's normal scores of one kind, part by part."""
    return [
        scores
        for scores, of_kind in zip(card.normal_scores[scene], card.normal_kinds[scene], strict=True)
        if of_kind == kind
    ]


def heldout_of(dataset: Dataset, fraction: float = 0.1, fps: float = 10.0) -> list[tuple[Clip, range]]:
    """What a training on a data set holds out: clips, and frames of each."""
    lengths = [clip.frame_count or 0 for clip in dataset.train]
    split = split_clips([clip.scene for clip in dataset.train], lengths, [fps] * len(lengths), fraction)
    return [(dataset.train[clip], frames) for clip, frames in split.heldout]


def make_config(*, model: dict | None = None, **training) -> Config:
    """A tiny model, four steps per epoch; keyword arguments override training settings."""
    settings = {
        "epochs": 2,
        "batch_frames": 8,
        "positions_per_frame": 10,
        "learning_rate": 1e-3,
        "checkpoint_every_s": 1e6,
        **training,
    }
    chosen: ModelSettings = tiny_settings(**(model or {}))
    return Config.model_validate({"runtime": {"device": "cpu"}}).model_copy(
        update={"model": chosen, "training": TrainingSettings.model_validate(settings)}
    )
