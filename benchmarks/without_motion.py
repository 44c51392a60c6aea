"""What a model's motion costs: the detector of a checkpoint beside one of the same that reads appearance alone.

``python -m benchmarks.inference --without-motion MODEL`` runs it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from benchmarks.machine import describe
from benchmarks.rounds import rounds_of
from pipeline.errors import CheckpointError


def measure_motion(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one checkpoint with its motion and without."""
    import torch

    from pipeline.config import RuntimeSettings
    from pipeline.inference.engine import Engine
    from pipeline.models.motion import speed_maps
    from pipeline.models.pairs import Pairs

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    runtime = RuntimeSettings(precision=arguments.precision, batch_frames=arguments.batch)
    engine = Engine.ready(arguments.without_motion, runtime, device=arguments.device)
    card, still = engine.card, appearance_alone(engine)
    batch = pairs_of_noise(arguments.batch, card.model.image_size_px)
    scenes = [card.scenes[0]] * len(batch)
    images, pairs = torch.from_numpy(batch.images).to(engine.device), Pairs.of(batch.previous_luma, batch.gaps_s)
    pairs = pairs.to(engine.device)
    with torch.inference_mode():
        ways: dict[str, Callable[[], object]] = {
            "with_motion": lambda: engine.predict(batch, scenes),
            "without_motion": lambda: still.predict(batch, scenes),
            "speeds": lambda: speed_maps(images, pairs),
        }
        for way in ways.values():
            way()
        taken = rounds_of(ways, arguments.rounds, engine.device)
    turns = range(arguments.rounds)
    return {
        "benchmark": f"motion-cost-{arguments.device}",
        **describe(),
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} threads",
        "tuning": str(engine.tuning),
        "model": card.short_fingerprint,
        "encoder": card.model.encoder.name,
        "image_size_px": list(card.model.image_size_px),
        "batch": arguments.batch,
        "rounds": arguments.rounds,
        "wall_time": compared(
            [{name: values[number][0] for name, values in taken.items()} for number in turns], len(batch)
        ),
        "processor_time": compared(
            [{name: values[number][1] for name, values in taken.items()} for number in turns], len(batch)
        ),
    }


def compared(rounds: list[dict[str, float]], frames: int) -> dict[str, Any]:
    """Medians of what each way took in every round, and of the ratio with motion to without."""
    ratios = [taken["with_motion"] / taken["without_motion"] for taken in rounds]
    return {
        "ms_per_frame": {
            name: round(1e3 * statistics.median(taken[name] for taken in rounds) / frames, 3) for name in rounds[0]
        },
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(value, 3) for value in statistics.quantiles(ratios, n=4)],
    }


def appearance_alone(engine: Any) -> Any:
    """The same detector without its motion.

    Raises:
        CheckpointError: it has none.
    """
    from pipeline.inference.engine import Engine
    from pipeline.models.read_out import ReadOut

    constants = engine.card.read_out
    if constants is None or constants.motion is None:
        raise CheckpointError(f"model {engine.card.short_fingerprint}: expected a model with motion, got one without")
    card = engine.card.model_copy(update={"read_out": constants.model_copy(update={"motion": None})})
    return Engine(card, engine.encode, engine.anomaly_model, ReadOut(card, None), str(engine.device), engine.tuning)


def pairs_of_noise(count: int, size_px: tuple[int, int]) -> Any:
    """A batch of frames of noise, each with a pair a tenth of a second earlier."""
    import numpy as np

    from pipeline.types import FrameBatch, FrameHeader

    random = np.random.default_rng(0)
    headers = tuple(FrameHeader("camera", 0, number, number, Fraction(1, 10), 0.0) for number in range(count))
    images = random.integers(0, 256, (count, *size_px, 3), np.uint8)
    return FrameBatch(headers, images, np.roll(images[..., 1], 1, axis=2), np.full(count, 0.1, np.float32))
