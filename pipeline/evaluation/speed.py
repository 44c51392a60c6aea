"""How fast detectors are, and how much memory they take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from torch import Tensor

from pipeline.config import RuntimeSettings
from pipeline.inference.engine import Engine
from pipeline.models.card import WEIGHTS_FILE
from pipeline.models.score import frame_scores
from pipeline.types import FrameBatch

_LEAST_ROUNDS = 3
_MOST_ROUNDS = 15
_MEMORY_BATCHES = 3


@dataclass(frozen=True)
class Speed:
    """Median speed of one model.

    Attributes:
        frames_per_s: from uint8 frames in memory to predictions with maps.
        post_frames_per_s: from features to maps and scores: the method without its encoder.
        rounds: batches measured of each.
    """

    frames_per_s: float
    post_frames_per_s: float
    rounds: int


def measure_speed(
    models: Mapping[str, Path],
    batch: FrameBatch,
    scenes: Sequence[str],
    runtime: RuntimeSettings,
    *,
    device: str,
    threads: int,
    seconds: float,
) -> dict[str, Speed]:
    """Measure models in turn, batch by batch, so that whatever else the machine does meets them all alike.

    Args:
        models: folders by name.
        batch: B frames.
        scenes: of each frame.
        runtime: how a model is run: precision, and whether it is compiled.
        device: torch device.
        threads: CPU threads.
        seconds: no further round is begun after that long, once there were three.
    """
    torch.set_num_threads(threads)
    engines = {name: Engine.ready(folder, runtime, device=device) for name, folder in models.items()}
    features = {name: _features(engine, batch.images, scenes) for name, engine in engines.items()}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in engines}
    ends_at = time.monotonic() + seconds
    rounds = 0
    while rounds < _LEAST_ROUNDS or (rounds < _MOST_ROUNDS and time.monotonic() < ends_at):
        for name, engine in engines.items():
            if rounds == 0:
                engine.predict(batch, scenes)  # the first pass of a model allocates, and may compile
            whole, post = times[name]
            whole.append(_whole_s(engine, batch, scenes))
            post.append(_post_s(engine, batch.images, scenes, features[name]))
        rounds += 1
    return {
        name: Speed(len(batch) / statistics.median(whole), len(batch) / statistics.median(post), rounds)
        for name, (whole, post) in times.items()
    }


def measure_memory(
    folder: Path,
    batch: FrameBatch,
    scenes: Sequence[str],
    runtime: RuntimeSettings,
    *,
    device: str,
    threads: int,
) -> tuple[float, float | None]:
    """Load a model and score a few batches; only a process that did nothing else before tells the truth.

    Returns:
        Most memory that this process ever held, and most that it had allocated on the GPU (None without one); in 10^6
        bytes.
    """
    torch.set_num_threads(threads)
    engine = Engine.ready(folder, runtime, device=device)
    for _ in range(_MEMORY_BATCHES):
        engine.predict(batch, scenes)
    gpu = torch.cuda.max_memory_allocated() / 1e6 if engine.device.type == "cuda" else None
    return peak_memory_mb(), gpu


def encoder_mb(folder: Path) -> float:
    """The encoder's part of a checkpoint, as it is stored, in 10^6 bytes."""
    with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("encoder.")]  # noqa: SIM118 (it is no mapping)
        tensors = [file.get_tensor(name) for name in names]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6


def peak_memory_mb() -> float:
    """Most memory that this process ever held at a time, in 10^6 bytes; pages of mapped files that it read count."""
    try:
        # What getrusage says survives exec: a child would report its parent's peak.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    import resource
    import sys

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used * 1024 / 1e6


def _whole_s(engine: Engine, batch: FrameBatch, scenes: Sequence[str]) -> float:
    _synchronise(engine)
    started_at = time.perf_counter()
    engine.predict(batch, scenes)
    _synchronise(engine)
    return time.perf_counter() - started_at


@torch.inference_mode()
def _features(engine: Engine, images: npt.NDArray[np.uint8], scenes: Sequence[str]) -> list[Sequence[Tensor]]:
    """What the encoder answers a method, call by call."""
    answers: list[Sequence[Tensor]] = []

    def recording(asked: Tensor) -> Sequence[Tensor]:
        answers.append(engine.encode(asked))
        return answers[-1]

    rows = engine.anomaly_model.scene_rows(scenes).to(engine.device)
    engine.anomaly_model.anomaly_maps(torch.from_numpy(images.copy()).to(engine.device), recording, rows)
    return answers


@torch.inference_mode()
def _post_s(
    engine: Engine, images: npt.NDArray[np.uint8], scenes: Sequence[str], features: Sequence[Sequence[Tensor]]
) -> float:
    given = torch.from_numpy(images.copy()).to(engine.device)
    rows = engine.anomaly_model.scene_rows(scenes).to(engine.device)
    answers: Iterator[Sequence[Tensor]] = iter(features)
    _synchronise(engine)
    started_at = time.perf_counter()
    maps = engine.anomaly_model.anomaly_maps(given, lambda _: next(answers), rows)
    frame_scores(maps.scored, engine.card.model.score.top_fraction)
    maps.shown.cpu()
    _synchronise(engine)
    return time.perf_counter() - started_at


def _synchronise(engine: Engine) -> None:
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)
