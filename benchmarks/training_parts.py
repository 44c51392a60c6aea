"""What the parts of a training cost on one core here, and what follows for a large data set on GPUs that were not here.

    python -m benchmarks.training_parts [--config configs/stc.yaml] [--frames 274515]

Measured, on one thread: reading a frame (of 768 x 432), computing its features, writing them, a frame of an optimiser
step, the flows on a held-out frame; the operations of each (torch's own count, which holds on any device), the
gradients' bytes, and what two workers on this machine take to add them up. Encoder and flows have random weights: speed
does not depend on them.

Planned: hours of ``train --workers`` on GPUs of one machine, by the formulas of ``plan`` and by what is ASSUMED of a
GPU (``--gpu-encoder-tflops``, ``--gpu-flow-tflops``, ``--gpu-link-gbs``), beside each of which one core like this one
decodes; nothing of it was measured on a GPU. Ends with one JSON line, kept in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed import (
    HashStore,  # pyright: ignore[reportPrivateImportUsage]
    ProcessGroupGloo,
)
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import footage
from benchmarks.machine import describe, store
from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.datasets.base import Clip
from pipeline.model_settings import EncoderSettings
from pipeline.models.cflow import CFlow
from pipeline.models.encoder import build_encoder
from pipeline.training.features import ClipFeatures, encode, pyramid_spec
from pipeline.training.flow_trainer import FlowTrainer
from pipeline.training.holdout import Part
from pipeline.training.measure import measure_levels
from pipeline.training.measured_parts import LIGHTS
from pipeline.training.workers import Workers
from pipeline.video.source import open_source

GPUS = (1, 4, 8)
_SECONDS = 20  # of the clip
_FRAMES = 16  # whose features are made up for steps


def main() -> None:
    """Measure, plan, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/stc.yaml"))
    parser.add_argument("--frames", type=int, default=274_515, help="of the training footage; default: ShanghaiTech's")
    parser.add_argument("--gpu-encoder-tflops", type=float, default=24.0)
    parser.add_argument("--gpu-flow-tflops", type=float, default=10.0)
    parser.add_argument("--gpu-link-gbs", type=float, default=10.0, help="GB/s at which gradients are added up")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(arguments.config, only=("model", "training", "runtime"))
    parts = measured(config)
    assumed = {
        "encoder_tflops": arguments.gpu_encoder_tflops,
        "flow_tflops": arguments.gpu_flow_tflops,
        "link_gbs": arguments.gpu_link_gbs,
    }
    plans = {
        f"frame_step {step}": {
            count: plan(parts, assumed, _every(config, step), arguments.frames, count) for count in GPUS
        }
        for step in (config.training.frame_step, 1)
    }
    for name, value in parts.items():
        print(f"{name:>28}: {value:,.4g}")
    for frames, by_count in plans.items():
        for count, hours in by_count.items():
            told = ", ".join(f"{name} {value:.2f} h" for name, value in hours.items())
            print(f"{frames}, {count} GPUs (not measured): {told}")
    store(
        {
            "benchmark": "training-parts",
            **describe(),
            "config": arguments.config.name,
            "frames": arguments.frames,
            "measured": parts,
            "assumed": assumed,
            "planned_hours": plans,
        }
    )


def _every(config: Config, frame_step: int) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"frame_step": frame_step})})


def measured(config: Config) -> dict[str, float]:
    """Seconds, operations and bytes of every part, by name; per frame where the name does not say otherwise."""
    settings = EncoderSettings(**{**config.model.encoder.model_dump(), "weights": "random"})
    encoder = build_encoder(settings).requires_grad_(False)
    model = config.model.model_copy(update={"encoder": encoder.settings})
    spec = pyramid_spec(model, encoder.for_inference())
    images = np.random.default_rng(0).integers(0, 255, (4, *model.image_size_px, 3), dtype=np.uint8)
    parts = _reading(model.image_size_px, model.motion.gap_s)
    parts["encode_s"] = _seconds(lambda: encode(encoder.for_inference(), images)) / len(images)
    parts["encode_flop"] = _operations(lambda: encode(encoder, images)) / len(images)
    parts["feature_bytes"] = spec.bytes_per_frame
    clip = _made_up(spec.shapes)
    parts["write_s"] = _writing(clip)
    flows = CFlow(model, encoder.channels, (clip.clip.scene,))
    training = config.training.model_copy(update={"batch_frames": _FRAMES})
    trainer = FlowTrainer(flows, [clip], [Part(0, range(_FRAMES))], training)
    parts["fit_s"] = _seconds(trainer.advance) / _FRAMES
    parts["fit_flop"] = _operations(trainer.advance) / _FRAMES
    parts["gradient_bytes"] = 4.0 * sum(p.numel() for p in flows.parameters() if p.requires_grad)
    parts["add_up_s_per_step"] = _adding_up(int(parts["gradient_bytes"] / 4))
    flows.requires_grad_(False)
    parts["measure_s"] = _seconds(lambda: measure_levels(flows, [clip], [Part(0, range(_FRAMES))])) / _FRAMES
    parts["measure_flop"] = _operations(lambda: measure_levels(flows, [clip], [Part(0, range(_FRAMES))])) / _FRAMES
    return parts


def plan(
    parts: dict[str, float], assumed: dict[str, float], config: Config, frames: int, workers: int
) -> dict[str, float]:
    """Hours of each stage with as many workers as GPUs, all on one disk, so that every step is shared out evenly.

    With F frames, of which every k-th is used, v variants, a part h held out, W workers, and per frame r seconds of
    reading, w of writing, e operations of the encoder, f of a step, m of the flows alone::

        features  F / W  (r + (1 + v) (e / encoder + w) / k)
        steps     S (B / W  f / flows + 2 (W - 1) / W  gradients / link),  S = epochs ceil(F (1 - h) / k / B)
        held out  (1 + lights) h F / W  (r + (e / encoder + m / flows) / k)

    Args:
        parts: as ``measured`` gives them.
        assumed: ``encoder_tflops`` and ``flow_tflops`` (sustained), ``link_gbs``.
        config: ``training`` is read.
        frames: F.
        workers: W.
    """
    training = config.training
    step, variants, held = training.frame_step, training.augmentation.variants, training.holdout_fraction
    encoder_s = parts["encode_flop"] / assumed["encoder_tflops"] / 1e12
    fit_s, flows_s = (parts[name] / assumed["flow_tflops"] / 1e12 for name in ("fit_flop", "measure_flop"))
    features = frames / workers * (parts["read_s"] + (1 + variants) * (encoder_s + parts["write_s"]) / step)
    steps = max(training.least_steps, training.epochs * -(-frames * (1 - held) / step // training.batch_frames))
    link_s = 2 * (workers - 1) / workers * parts["gradient_bytes"] / assumed["link_gbs"] / 1e9
    fit = steps * (training.batch_frames / workers * fit_s + link_s)
    heldout = (1 + LIGHTS) * held * frames / workers * (parts["read_s"] + (encoder_s + flows_s) / step)
    stages = {"features": features / 3600, "steps": fit / 3600, "held out": heldout / 3600}
    return {**stages, "in all": sum(stages.values())}


def _reading(size_px: tuple[int, int], gap_s: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        video = footage.encode(Path(folder, "clip.mp4"), fps=24, seconds=_SECONDS)
        started, count = time.process_time(), 0  # the decoder has threads of its own
        with open_source(str(video), size_px, gap_s=gap_s) as source:
            for _ in source:
                count += 1
        return {"read_s": (time.process_time() - started) / count}


def _made_up(shapes: tuple[tuple[int, int], ...]) -> ClipFeatures:
    random = np.random.default_rng(0)
    levels = tuple(random.normal(size=(_FRAMES, *shape)).astype(np.float16) for shape in shapes)
    nothing = np.zeros(_FRAMES, np.float32)
    return ClipFeatures(
        Clip("made-up", "scene", "made-up.mp4", _FRAMES),
        24.0,
        levels,
        (levels,),
        np.zeros((1, 1, 1), np.float32),
        nothing,
        np.zeros((_FRAMES, 1, 1), np.float16),
    )


def _writing(clip: ClipFeatures) -> float:
    with tempfile.NamedTemporaryFile() as file:

        def write() -> None:
            file.seek(0)
            for level in clip.levels:
                file.write(level.data)
            file.flush()

        return _seconds(write) / _FRAMES


def _adding_up(values: int) -> float:
    """Seconds that two workers here take to add up as many float32 values."""
    shared, taken = HashStore(), [0.0, 0.0]

    def work(rank: int) -> None:
        group: Any = ProcessGroupGloo(shared, rank, 2, timedelta(minutes=5))  # what a group has of one backend
        workers = Workers(group)
        gradients = torch.ones(values)
        taken[rank] = _seconds(lambda: workers.add(gradients), rounds=3)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(taken)


def _seconds(work: Callable[[], Any], rounds: int = 3) -> float:
    """The shortest of some rounds, after one that warms up: other work on the machine only ever adds."""
    work()
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def _operations(work: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
