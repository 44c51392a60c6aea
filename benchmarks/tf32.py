"""What TF32 does to accuracy: one model on test clips, its convolutions as a CPU computes them and as a GPU does.

Usage: python -m benchmarks.tf32 MODEL DATA
Needs no GPU: a GPU's convolutions round what they multiply to TF32 (ten bits after the point) and sum in float32, which
is done here by hand. Prints a table and, last, one JSON line; writes the same into benchmarks/results/.
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
from pipeline.datasets.detect import open_dataset
from pipeline.evaluation.metrics import frame_auroc, frame_auroc_macro
from pipeline.inference.engine import Engine
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
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    clips = open_dataset(arguments.data, need="test").test
    labels = [clip.frame_labels() for clip in clips]
    engine = Engine.load(arguments.model)
    assert isinstance(engine.encode, nn.Module)
    result: dict[str, Any] = {"benchmark": "tf32", **describe(), "model": engine.card.short_fingerprint}
    scored: list[npt.NDArray[np.float64]] = []
    for name, found in zip(("float32", "tf32"), _both(engine, [clip.url for clip in clips]), strict=True):
        pairs = [(label, scores) for label, scores in zip(labels, found, strict=True) if label is not None]
        scored.append(np.concatenate(found))
        auroc = frame_auroc(np.concatenate([label for label, _ in pairs]), np.concatenate([one for _, one in pairs]))
        result[name] = {"frame_auroc": auroc, "frame_auroc_macro": frame_auroc_macro(pairs).value}
        print(f"{name:>8}  {result[name]}")
    change = np.abs(scored[1] - scored[0])
    result |= {
        "frames": len(change),
        "score_change_max": float(change.max()),
        "score_change_median": float(np.median(change)),
        "score_std": float(scored[0].std()),
    }
    store(result)


def _both(engine: Engine, urls: list[str]) -> Iterator[list[npt.NDArray[np.float64]]]:
    yield [scores_of(engine, url) for url in urls]
    assert isinstance(engine.encode, nn.Module)
    round_convolutions(engine.encode)
    yield [scores_of(engine, url) for url in urls]


if __name__ == "__main__":
    main()
