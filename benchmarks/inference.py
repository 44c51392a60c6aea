"""How fast the rewritten flows are: beside the encoder, beside FrEIA as published code calls it, beside the hardware.

Usage: python -m benchmarks.inference [--encoder NAME]... [--size H W] [--batch B] [--device cpu|cuda] [--rounds N]
                                       [--as-it-stands]
       python -m benchmarks.inference --without-motion MODEL [--batch B] [--device cpu|cuda] [--rounds N]

For every encoder (random weights: speed does not depend on them) one process measures, interleaved, round by round:

  encoder           the encoder alone, at its best setting here (not compiled with --as-it-stands)
  detector          uint8 frames in, anomaly maps and scores out: encoder, flows, map, score
  flows             features in, anomaly maps and scores out
  FrEIA, whole      the trained flows as they are, float32, all feature vectors of the batch in one call
  FrEIA, 256 / 64   the same as published code does it: a loop over calls with 256 or 64 feature vectors, the position
                    encoding built anew for every batch
  one / mixed       flows with a camera embedding, on a batch of one camera and on a batch of as many cameras as frames
  product           one large matrix product in the detector's precision: the machine's ceiling

and reports medians over the rounds. ``--without-motion`` asks of a trained model instead what its motion costs: two
detectors of the same checkpoint, one of which reads appearance alone, predict the same frames, pairs and all,
by turns. Ratios are medians over rounds, each of which does both, so that what else the machine does meets both alike;
that of processor time with ``--threads 1`` holds on a busy machine, too: several threads wait for each other on it.

Ends with one JSON line, kept in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, store
from benchmarks.rounds import rounds_of
from benchmarks.without_motion import measure_motion
from pipeline.errors import CflowError

ROOT = Path(__file__).resolve().parent.parent
ENCODERS = ("mobilenetv2_100", "mobilenetv3_large_100", "resnet18", "wide_resnet50_2")
# The paper's table of complexity: MB of encoder and flows, MobileNetV3-L, ResNet-18 and WideResNet-50 at three levels.
PAPER_MB = {"mobilenetv3_large_100": 25, "resnet18": 96, "wide_resnet50_2": 947}
PRODUCT_SIDE = {"cpu": 1536, "cuda": 8192}


def main() -> None:
    """Measure every encoder in a process of its own, print a table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", action="append", help=f"default: {' '.join(ENCODERS)}")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--as-it-stands", action="store_true", help="compile nothing")
    parser.add_argument("--permutation", choices=("soft", "hard"), default="soft")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--without-motion", type=Path, metavar="MODEL", help="a trained model, with motion and without")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in the child process: measure this encoder
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments)))
        return
    if arguments.without_motion:
        try:
            store(measure_motion(arguments))
        except CflowError as error:
            sys.exit(f"error: {error}")
        return
    found = {}
    for name in arguments.encoder or ENCODERS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.inference", *sys.argv[1:], "--one", name],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        if done.returncode:
            sys.exit(f"{name}: measuring failed with exit code {done.returncode}")
        found[name] = json.loads(done.stdout.splitlines()[-1])
        show(name, found[name])
    first = next(iter(found.values()))
    keys = ("flows_vs_loop256", "flows_vs_loop64", "encoder_fraction", "ceiling_fraction")
    store(
        {
            "benchmark": f"inference-{arguments.device}" + ("-as-it-stands" if arguments.as_it_stands else ""),
            **describe(),
            "device": first["device"],
            "image_size_px": list(arguments.size),
            "batch": arguments.batch,
            "permutation": arguments.permutation,
            "rounds": arguments.rounds,
            **{key: first[key] for key in keys},
            "encoders": found,
        }
    )


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one encoder with flows on it."""
    import torch

    from pipeline.config import RuntimeSettings
    from pipeline.inference.engine import Engine
    from pipeline.inference.tuning import choose_tuning
    from pipeline.model_settings import EncoderSettings, FlowSettings, ModelSettings
    from pipeline.models.card import LevelConstants
    from pipeline.models.cflow import CFlow
    from pipeline.models.encoder import build_encoder

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    settings = ModelSettings(
        image_size_px=tuple(arguments.size),
        encoder=EncoderSettings(name=name, weights="random"),
        flow=FlowSettings(permutation=arguments.permutation),
    )
    encoder = build_encoder(settings.encoder)
    model = settings.model_copy(update={"encoder": encoder.settings})
    flows = CFlow(model, encoder.channels, ["scene"]).eval().requires_grad_(False)
    constants = [
        LevelConstants(stride=stride, channels=channels, mean=-1.4, std=0.2)
        for stride, channels in zip(encoder.strides, encoder.channels, strict=True)
    ]
    compiled = False if arguments.as_it_stands else None
    tuning = choose_tuning(RuntimeSettings(precision=arguments.precision, compile=compiled), device)
    with tempfile.TemporaryDirectory() as written:
        folder, several_folder = Path(written) / "model", Path(written) / "several"
        write_model(folder, model, encoder, flows, constants, ["scene"])
        size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        engine = Engine.load(folder, device=arguments.device, tuning=tuning)
        cameras = [f"camera{number}" for number in range(arguments.batch)]
        embedded = model.model_copy(update={"flow": model.flow.model_copy(update={"camera_embedding": 16})})
        several_flows = CFlow(embedded, encoder.channels, cameras).eval().requires_grad_(False)
        write_model(several_folder, embedded, encoder, several_flows, constants, cameras)
        several = Engine.load(several_folder, device=arguments.device, tuning=tuning)
        gflop = flows_gflop(Engine.load(folder).anomaly_model)
    images = torch.randint(0, 256, (arguments.batch, *arguments.size, 3), dtype=torch.uint8, device=device)
    rows = torch.zeros(arguments.batch, dtype=torch.int64, device=device)

    with torch.inference_mode():
        features = [level.clone() for level in engine.encode(images)]
        before_mb = peak_mb(device)
        ways: dict[str, Callable[[], object]] = {
            "encoder": lambda: engine.encode(images),
            "detector": lambda: scores(engine, images, engine.encode, rows),
            "flows": lambda: scores(engine, images, lambda _: features, rows),
        }
        for way in ways.values():
            for _ in range(2):
                way()
        detector_mb = peak_mb(device)
        flows.to(device)
        side = PRODUCT_SIDE[arguments.device]
        left, right = (torch.randn(side, side, device=device).to(tuning.precision) for _ in range(2))
        ways |= {
            "freia_whole": lambda: [flows.log_likelihood_map(k, part, rows) for k, part in enumerate(features)],
            "freia_256": lambda: published(flows, features, 256),
            "freia_64": lambda: published(flows, features, 64),
            "product": lambda: left @ right,
        }
        mixed = torch.arange(arguments.batch, device=device)
        ways |= {
            "one": lambda: scores(several, images, lambda _: features, rows),
            "mixed": lambda: scores(several, images, lambda _: features, mixed),
        }
        seconds = interleaved(ways, arguments.rounds, device)
    milliseconds = {key: 1e3 * value / arguments.batch for key, value in seconds.items()}
    ceiling = 2.0 * side**3 / seconds["product"] / 1e9
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads",
        "tuning": str(tuning),
        "ms_per_frame": {key: round(value, 3) for key, value in milliseconds.items() if key != "product"},
        "frames_per_s": {key: round(1e3 / value, 1) for key, value in milliseconds.items() if key != "product"},
        "flows_vs_loop256": round(seconds["freia_256"] / seconds["flows"], 2),
        "flows_vs_loop64": round(seconds["freia_64"] / seconds["flows"], 2),
        "flows_vs_whole": round(seconds["freia_whole"] / seconds["flows"], 2),
        "detector_vs_loop256": round((seconds["encoder"] + seconds["freia_256"]) / seconds["detector"], 2),
        "mixed_vs_one": round(seconds["mixed"] / seconds["one"], 3),
        "encoder_fraction": round(seconds["encoder"] / seconds["detector"], 3),
        "flows_gflop_per_frame": round(gflop, 3),
        "ceiling_gflop_per_s": round(ceiling, 1),
        "ceiling_fraction": round(gflop / milliseconds["flows"] * 1e3 / ceiling, 3),
        "peak_memory_mb": {"loaded": round(before_mb), "running": round(detector_mb)},
        "model_mb": round(size_mb, 1),
        "paper_mb": PAPER_MB.get(name),
    }


def scores(engine: Any, images: Any, encode: Any, rows: Any) -> object:
    """Scores of images, whose maps go nowhere."""
    from pipeline.models.score import frame_scores

    return frame_scores(
        engine.anomaly_model.anomaly_maps(images, encode, rows).scored, engine.card.model.score.top_fraction
    )


def published(flows: Any, features: list[Any], vectors_per_call: int) -> list[Any]:
    """Log-likelihoods as published implementations compute them: call by call, tables built for every batch."""
    import torch

    from pipeline.models.condition import position_encoding

    found = []
    for level, part in enumerate(features):
        count, dims, height, width = part.shape
        table = position_encoding(flows.settings.flow.condition_dims, height, width).to(part.device)
        conditions = table.repeat(count, 1)
        vectors = part.permute(0, 2, 3, 1).reshape(-1, dims)
        flow, of_level = flows.flow(level), []
        for start in range(0, len(vectors), vectors_per_call):
            chosen = torch.arange(start, min(start + vectors_per_call, len(vectors)), device=part.device)
            of_level.append(flow.log_likelihood(vectors[chosen], conditions[chosen]))
        found.append(torch.cat(of_level).view(count, height, width))
    return found


def interleaved(ways: dict[str, Callable[[], object]], rounds: int, device: Any) -> dict[str, float]:
    """Median wall seconds of every way, each done once per round, so that noise meets all alike."""
    taken = rounds_of(ways, rounds, device)
    return {name: statistics.median(wall_s for wall_s, _ in values) for name, values in taken.items()}


def flows_gflop(anomaly_model: Any) -> float:
    """Floating-point operations (1e9) of one frame's matrix products in the rewritten flows."""
    total = 0
    for level in anomaly_model.levels:
        block = level.blocks[0]
        weights = level.whitening.numel()
        for block in level.blocks:
            weights += block.first.numel() + block.second.numel() + (0 if block.mix is None else block.mix.numel())
        total += 2 * weights * len(block.rows) * len(block.columns)
    return total / 1e9


def write_model(folder: Path, model: Any, encoder: Any, flows: Any, constants: Any, scenes: list[str]) -> None:
    """Write a model as ``train`` does."""
    from pipeline.config import TrainingSettings
    from pipeline.models.card import ModelCard, Provenance
    from pipeline.models.checkpoint import library_versions, save_checkpoint
    from pipeline.models.float16 import round_weights

    round_weights(encoder)
    for level in range(len(encoder.channels)):
        flows.flow(level).round_weights()
    provenance = Provenance(
        dataset="none",
        training=TrainingSettings(),
        completed=True,
        epochs=0,
        steps=0,
        train_frames=0,
        holdout_frames=0,
        losses={},
        trained_at_s=0.0,
        versions=library_versions(),
    )
    card = ModelCard(
        model=model,
        scenes=tuple(scenes),
        levels=tuple(constants),
        normal_scores=dict.fromkeys(scenes, ((0.0,),)),
        normal_fps=1.0,
        provenance=provenance,
    )
    save_checkpoint(folder, card, encoder, flows)


def peak_mb(device: Any) -> float:
    """Most memory the process (on a GPU: torch) has held so far, in MB."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def show(name: str, found: dict[str, Any]) -> None:
    """Print one encoder's numbers."""
    print(f"\n{name}: {found['tuning']}, {found['device']}")
    for way, milliseconds in found["ms_per_frame"].items():
        print(f"  {way:<12} {milliseconds:9.2f} ms/frame {found['frames_per_s'][way]:9.1f} frames/s")
    print(
        f"  flows {found['flows_vs_loop256']} x the loop of 256, {found['flows_vs_loop64']} x the loop of 64, "
        f"{found['flows_vs_whole']} x FrEIA on the whole batch"
    )
    print(f"  a batch of many cameras takes {found['mixed_vs_one']} x the time of a batch of one")
    print(
        f"  encoder and flows at {found['encoder_fraction']:.0%} of the encoder's rate; flows at "
        f"{found['ceiling_fraction']:.0%} of {found['ceiling_gflop_per_s']:.0f} GFLOP/s"
    )
    memory = found["peak_memory_mb"]
    paper = f"the paper's {found['paper_mb']}" if found["paper_mb"] else "the paper has none"
    print(f"  memory {memory['loaded']} MB loaded, {memory['running']} running; model {found['model_mb']} MB ({paper})")


if __name__ == "__main__":
    main()
