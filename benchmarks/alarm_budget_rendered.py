"""Whether a budget of false alarms is kept by a real model: one rendered camera, trained on, calibrated and watched.

Usage: python -m benchmarks.alarm_budget_rendered --seed N

A camera of the demo's kind (N says which place, and which people) is rendered at 2 frames per second, 64 x 96. A tiny
model with random encoder weights learns from 40 minutes of it. Twelve further hours of nothing unusual go through the
model and are calibrated on, then twelve more are watched, smoothed and tracked frame by frame; and one hour with things
that do not belong. Prints rows and, last, one JSON line; writes the same into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.alarm_budget import BUDGETS, openings
from benchmarks.machine import describe, store
from pipeline.camera_settings import AlertSettings
from pipeline.config_file import parse_config
from pipeline.datasets.base import Dataset
from pipeline.datasets.synthetic import Camera, SyntheticSpec, render
from pipeline.evaluation.alarms import merged_stretches
from pipeline.inference.engine import Engine
from pipeline.normal_footage import NormalStretch
from pipeline.scoring.calibration import Calibration
from pipeline.training.train import train
from pipeline.types import FrameBatch, FrameHeader

FPS = 2
CALIBRATED_H, WATCHED_H, UNUSUAL_H = 12.0, 12.0, 1.0
_CLIP_S = 300  # then other people come
_BATCH = 32
_CONFIG = {
    "model": {
        "image_size_px": [64, 96],
        "encoder": {"name": "mobilenetv3_small_050", "weights": "random", "strides": [8, 16]},
        "flow": {"blocks": 2, "condition_dims": 16},
        "motion": {"enabled": False},
    },
    "training": {"epochs": 2, "positions_per_frame": 48, "learning_rate": 1e-3},
}


def seen(
    engine: Engine, camera: Camera, first_clip: int, hours: float, *, unusual: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Scores of some hours of a camera, and which frames show something that does not belong."""

    def frames() -> Iterator[tuple[npt.NDArray[np.uint8], bool]]:
        for clip in range(round(hours * 3600 / _CLIP_S)):
            for image, mask in camera.frames(first_clip + clip, _CLIP_S * FPS, anomalies=unusual):
                yield image, bool(mask.any())

    scores: list[float] = []
    labels: list[bool] = []
    every = frames()
    while some := list(islice(every, _BATCH)):
        images = np.stack([image for image, _ in some])
        headers = tuple(FrameHeader("camera", 0, n, n, Fraction(1, FPS), 0.0) for n in range(len(some)))
        batch = FrameBatch(headers, images, np.zeros(images.shape[:3], np.uint8), np.zeros(len(some), np.float32))
        found = engine.predict(batch, [camera.name] * len(some), maps=False)
        scores += [prediction.anomaly_score for prediction in found]
        labels += [is_unusual for _, is_unusual in some]
    return np.array(scores), np.array(labels)


def measure(seed: int, folder: Path) -> list[dict[str, Any]]:
    """One camera's promises by budget, and what came of them."""
    spec = SyntheticSpec(
        cameras=seed % 3 + 1, size_px=(64, 96), fps=FPS, train_clips=4, train_frames=1200, test_clips=1, seed=seed
    )
    camera = Camera(seed % 3, spec)
    dataset = render(folder / "data", spec)
    own = tuple(clip for clip in dataset.train if clip.scene == camera.name)
    train(parse_config(_CONFIG), Dataset(dataset.name, dataset.root, own, ()), folder / "model")
    engine = Engine.load(folder / "model")
    normal, _ = seen(engine, camera, 1000, CALIBRATED_H)
    watched, _ = seen(engine, camera, 2000, WATCHED_H)
    unusual, labels = seen(engine, camera, 3000, UNUSUAL_H, unusual=True)
    times_s = np.arange(len(labels)) / FPS
    things = merged_stretches(labels, times_s)
    rows: list[dict[str, Any]] = []
    for hours in (CALIBRATED_H, CALIBRATED_H / 2):
        for budget in BUDGETS:
            settings = AlertSettings(budget=budget, cooldown_s=0.0)
            calibration = Calibration.of([NormalStretch("own", FPS, normal[: round(hours * 3600 * FPS)])], settings)
            thresholds = calibration.thresholds
            assert thresholds.interval_per_hour is not None
            low, high = thresholds.interval_per_hour
            opened = len(openings(calibration, settings, watched, FPS))
            at_s = np.array(openings(calibration, settings, unusual, FPS))
            hits = [((at_s >= times_s[first]) & (at_s <= times_s[last])).any() for first, last in things]
            rows.append(
                {
                    "camera": camera.name,
                    "seed": seed,
                    "hours": hours,
                    "budget": budget,
                    "threshold": round(thresholds.opening, 3),
                    "grouping": round(thresholds.rates.grouping if thresholds.rates else 1.0, 2),
                    "expected_per_hour": round(thresholds.expected_per_hour or 0.0, 4),
                    "interval_per_hour": [round(low, 4), round(high, 4)],
                    "provisional": thresholds.provisional,
                    "opened": opened,
                    "opened_per_hour": round(opened / WATCHED_H, 4),
                    "inside": low <= opened / WATCHED_H <= high,
                    "things": len(things),
                    "found": round(float(np.mean(hits)), 3),
                }
            )
    return rows


def main() -> None:
    """Render, train, watch, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.seed, Path(folder))
    for row in rows:
        print(row)
    store(
        {
            "benchmark": f"alarm-budget-rendered-seed-{arguments.seed}",
            **describe(),
            "fps": FPS,
            "seconds": round(time.perf_counter() - started_at, 1),
            "rows": rows,
        }
    )


if __name__ == "__main__":
    main()
