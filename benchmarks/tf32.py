"""What a GPU's arithmetic does to accuracy: one model on test clips, as a CPU computes it and as a GPU does.

Usage: python -m benchmarks.tf32 MODEL DATA [--device cpu|cuda]
Needs no GPU: its convolutions round what they multiply to TF32 (ten bits after the point) and sum in float32, which is
done here by hand. With ``--device cuda`` a GPU does it instead: once as the model stands, once as a detector there runs
it (``runtime.precision: auto``, compiled). Prints a table and, last, one JSON line; writes the same into
benchmarks/results/.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.machine import describe, store
from pipeline.config import RuntimeSettings
from pipeline.datasets.detect import open_dataset
from pipeline.evaluation.metrics import frame_auroc, frame_auroc_macro
from pipeline.inference.engine import Engine
from pipeline.models.card import read_card
from pipeline.types import Frame, FrameBatch, FrameHeader
from pipeline.video.source import open_source

_BATCH = 16
_DROPPED_BITS = 13  # of float32's 23 after the point


def as_tf32(values: Tensor) -> Tensor:
    """Float32 values rounded to the nearest that TF32 holds, ties to even."""
    bits = values.contiguous().view(torch.int32)
    half = (1 << (_DROPPED_BITS - 1)) - 1 + ((bits >> _DROPPED_BITS) & 1)
    return ((bits + half) & ~((1 << _DROPPED_BITS) - 1)).view(torch.float32)


def round_convolutions(encoder: nn.Module) -> None:
    """Let all convolutions multiply TF32 values from now on."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.copy_(as_tf32(module.weight.data))
            module.register_forward_pre_hook(lambda _, inputs: (as_tf32(inputs[0]),))


def scores_of(engine: Engine, url: str) -> npt.NDArray[np.float64]:
    """The anomaly score of every frame of a clip."""
    scores: list[float] = []
    with open_source(url, engine.image_size_px, gap_s=engine.card.model.motion.gap_s) as source:
        frames = [
            Frame(FrameHeader("clip", 0, index, one.pts, one.time_base, 0.0), one.image, one.previous)
            for index, one in enumerate(source)
        ]
    for start in range(0, len(frames), _BATCH):
        batch = FrameBatch.of(frames[start : start + _BATCH])
        scores += [one.anomaly_score for one in engine.predict(batch, [""] * len(batch), maps=False)]
    return np.array(scores)


def main() -> None:
    """Measure all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    clips = open_dataset(arguments.data, need="test").test
    labels = [clip.frame_labels() for clip in clips]
    exact: npt.NDArray[np.float64] | None = None
    ways: dict[str, dict[str, Any]] = {}
    for name, engine in (_on_gpu if arguments.device == "cuda" else _by_hand)(arguments.model):
        found = [scores_of(engine, clip.url) for clip in clips]
        scores = np.concatenate(found)
        exact = scores if exact is None else exact
        pairs = [(label, of_clip) for label, of_clip in zip(labels, found, strict=True) if label is not None]
        change = np.abs(scores - exact)
        ways[name] = {
            "tuning": str(engine.tuning),
            "frame_auroc": frame_auroc(*(np.concatenate(part) for part in zip(*pairs, strict=True))),
            "frame_auroc_macro": frame_auroc_macro(pairs).value,
            "score_change_max": float(change.max()),
            "score_change_median": float(np.median(change)),
        }
        print(f"{name:>12}  {ways[name]}", flush=True)
    assert exact is not None
    store(
        {
            "benchmark": "tf32" if arguments.device == "cpu" else "tf32-cuda",
            **describe(),
            "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "by hand",
            "model": read_card(arguments.model).short_fingerprint,
            "clips": [clip.name for clip in clips],
            "frames": len(exact),
            "score_std": float(exact.std()),
            **ways,
        }
    )


def _by_hand(model: Path) -> Iterator[tuple[str, Engine]]:
    engine = Engine.load(model)
    assert isinstance(engine.encode, nn.Module)
    yield "float32", engine
    round_convolutions(engine.encode)
    yield "tf32", engine


def _on_gpu(model: Path) -> Iterator[tuple[str, Engine]]:
    yield "float32", Engine.load(model)
    yield "gpu", Engine.load(model, device="cuda")
    yield "gpu_detector", Engine.ready(model, RuntimeSettings(batch_frames=_BATCH), device="cuda")


if __name__ == "__main__":
    main()
