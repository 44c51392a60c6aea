"""What a batch costs a detector, stage by stage: frames to the device, encoder, flows, read-out, predictions back.

Usage: python -m benchmarks.stages MODEL [--device cpu|cuda] [--batch B]... [--as-it-stands] [--rounds N]

All on noise, whose frames have pairs; medians over rounds in which the stages take turns. ``predict`` is all of them,
as a detector calls it; ``speeds`` are part of ``read_out``. Wall time and processor time: a host that waits for a GPU
counts as busy, since it waits awake. Ends with one JSON line, kept in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, store
from benchmarks.rounds import rounds_of
from benchmarks.without_motion import pairs_of_noise
from pipeline.errors import CflowError


def main() -> None:
    """Measure one model at every size of batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, action="append", help="default: 1 16 32 64")
    parser.add_argument("--as-it-stands", action="store_true", help="compile nothing")
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    try:
        store(measure(arguments))
    except CflowError as error:
        sys.exit(f"error: {error}")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure a checkpoint."""
    import torch

    from pipeline.config import RuntimeSettings
    from pipeline.inference.engine import Engine

    sizes = arguments.batch or [1, 16, 32, 64]
    runtime = RuntimeSettings(compile=False if arguments.as_it_stands else None, batch_frames=max(sizes))
    engine = Engine.ready(arguments.model, runtime, device=arguments.device)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for count in sizes:
        found[str(count)] = stages_of(engine, count, arguments.rounds)
        print(f"batches of {count}: ms {found[str(count)]}", flush=True)
    return {
        "benchmark": f"stages-{arguments.device}",
        **describe(),
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} threads",
        "tuning": str(engine.tuning),
        "encoder": engine.card.model.encoder.name,
        "image_size_px": list(engine.image_size_px),
        "rounds": arguments.rounds,
        "ms_per_batch": found,
    }


def stages_of(engine: Any, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds that each stage takes of a batch, on the wall and of the processor.

    Args:
        engine: of a model.
        count: frames in the batch.
        rounds: that are counted.
    """
    import torch

    from pipeline.models.float16 import as_float16
    from pipeline.models.motion import speed_maps

    batch, scenes, part = pairs_of_noise(count, engine.image_size_px), [engine.card.scenes[0]] * count, slice(0, count)
    with torch.inference_mode():
        images, pairs = engine._upload(batch, part)
        features = engine.encode(images)
        rows = engine.anomaly_model.scene_rows(scenes).to(engine.device)
        maps = engine.anomaly_model.anomaly_maps(images, lambda _: features, rows)
        reading = engine.read_out(maps, images, pairs, scenes)
        ways: dict[str, Callable[[], object]] = {
            "predict": lambda: engine.predict(batch, scenes),
            "upload": lambda: engine._upload(batch, part),
            "encoder": lambda: engine.encode(images),
            "flows": lambda: engine.anomaly_model.anomaly_maps(images, lambda _: features, rows),
            "read_out": lambda: engine.read_out(maps, images, pairs, scenes),
            "speeds": lambda: speed_maps(images, pairs),
            "download": lambda: (reading.scores.tolist(), reading.common_surprise.tolist(), as_float16(reading.shown)),
        }
        taken = rounds_of(ways, rounds, engine.device)
    return {
        name: {
            "wall": round(1e3 * statistics.median(wall_s for wall_s, _ in values), 3),
            "processor": round(1e3 * statistics.median(cpu_s for _, cpu_s in values), 3),
        }
        for name, values in taken.items()
    }


if __name__ == "__main__":
    main()
