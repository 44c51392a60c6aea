"""How fast the shipped configs of encoders are on this machine: encoder alone, and frames to scores.

    python -m benchmarks.encoders

Random weights, batches of 4, not compiled, medians of rounds in which every config has its turn. Which of them sees
anomalies best is another question.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.inference import ROOT, interleaved, scores, write_model
from benchmarks.machine import describe, store
from pipeline.config import RuntimeSettings
from pipeline.config_file import load_config
from pipeline.inference.engine import Engine
from pipeline.inference.tuning import choose_tuning
from pipeline.models.card import LevelConstants
from pipeline.models.cflow import CFlow
from pipeline.models.encoder import build_encoder

_BATCH = 4


def main() -> None:
    """Measure, print a table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    tuning = choose_tuning(RuntimeSettings(compile=False), device)
    ways: dict[str, Callable[[], object]] = {}
    sizes_mb: dict[str, float] = {}
    for path in sorted((ROOT / "configs" / "encoders").glob("*.yaml")):
        with tempfile.TemporaryDirectory() as written:
            folder = Path(written) / "model"
            _write(path, folder)
            sizes_mb[path.stem] = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
            engine = Engine.load(folder, device=arguments.device, tuning=tuning)
        images = torch.randint(0, 256, (_BATCH, *engine.card.model.image_size_px, 3), dtype=torch.uint8, device=device)
        rows = torch.zeros(_BATCH, dtype=torch.int64, device=device)
        ways[f"{path.stem}: encoder"] = partial(engine.encode, images)
        ways[f"{path.stem}: scores"] = partial(scores, engine, images, engine.encode, rows)
    with torch.inference_mode():
        seconds = interleaved(ways, arguments.rounds, device)
    rates = {way: round(_BATCH / taken, 1) for way, taken in seconds.items()}
    for name, size_mb in sizes_mb.items():
        print(
            f"{name:<20} encoder {rates[f'{name}: encoder']:7.1f} frames/s, frames to scores "
            f"{rates[f'{name}: scores']:7.1f} frames/s, model {size_mb:.0f} MB"
        )
    store(
        {
            "benchmark": f"encoders-{arguments.device}",
            **describe(),
            "tuning": str(tuning),
            "batch": _BATCH,
            "rounds": arguments.rounds,
            "frames_per_s": rates,
            "model_mb": {name: round(size, 1) for name, size in sizes_mb.items()},
        }
    )


def _write(config: Path, folder: Path) -> None:
    """Write a model of a config, as ``train`` does, that never was trained."""
    settings = load_config(config).model
    encoder = build_encoder(settings.encoder.model_copy(update={"weights": "random"}))
    model = settings.model_copy(update={"encoder": encoder.settings})
    torch.manual_seed(0)
    flows = CFlow(model, encoder.channels, ["scene"]).eval().requires_grad_(False)
    constants = [
        LevelConstants(stride=stride, channels=channels, mean=-1.4, std=0.2)
        for stride, channels in zip(encoder.strides, encoder.channels, strict=True)
    ]
    write_model(folder, model, encoder, flows, constants, ["scene"])


if __name__ == "__main__":
    main()
