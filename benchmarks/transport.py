"""What the way from a camera's buffer through Ray to the Redis entry costs, beside decoding and the model.

    .venv/bin/python -m benchmarks.transport --cameras 5 --fps 10

Real RTSP cameras (Debian's gst-rtsp-server, see .ci/run), camera processes, detector actor, scorer, Redis and Parquet;
only the model is a stand-in that predicts at once. Ends with one JSON line.

What is measured:

- **Overhead latency**: from a frame's leaving the decoder, resized (``captured_at_s``), to its entry's arrival at a
  consumer of the Redis stream (``XREAD``, in a process of its own). The look at the scene's health is in it.
- **Load**: ``cameras x fps`` frames/s. Half load is half of cores / (transport + decoding + model CPU time per frame),
  all of which the result holds; on two cores with MobileNetV2 at 256 x 256 that was 30 frames/s (``--fps 6``).
- **CPU time**: of all processes of the run (command, camera, detector, scorer, Redis, Ray's own) but
  decoding (the readers' threads without the look at the scene's health, which is measured beside). Its share is stated
  twice: of all CPU seconds that a frame costs (with decoding as measured here, and encoder and flows as measured here,
  alone, at batch 8), and of the machine's capacity at this load.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from actors.cluster import ray_cluster
from actors.plans import stream_plan
from actors.run import run
from benchmarks.cpu_time import DECODING
from benchmarks.footage import encode
from benchmarks.machine import describe, store
from benchmarks.window import StandIn, Window, frames_dropped
from pipeline.config import Config, RuntimeSettings
from pipeline.config_file import parse_config
from pipeline.datasets.base import Clip, Dataset
from pipeline.models.card import read_card
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.training.train import train
from pipeline.types import Frame, FrameBatch, FrameHeader, PreviousLuma
from tests.rtsp import RtspServer

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("to the detector's hands", "to the scorer's verdict", "to the reader of Redis")
MODEL_BATCH = 8
_STRIDE = 8  # of the finest level, whose resolution maps have


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        rows: of the observer, those within the window.
        seconds: CPU seconds within the window, by role.
        lasted_s: the window.
        dropped: frames that were not scored, which are none unless the machine is busy with other things.
    """

    rows: npt.NDArray[np.float64]
    seconds: Counter[str]
    lasted_s: float
    dropped: int


def measure(config: Config, model: Path, redis_url: str, but: frozenset[int], options: argparse.Namespace) -> Measured:
    """Start a run, warm up, measure for a while, end it."""
    plan = replace(
        stream_plan(config, read_card(model), model, redis_url),
        load_stand_in=StandIn((config.model.image_size_px[0] // _STRIDE, config.model.image_size_px[1] // _STRIDE)),
    )
    stop, window = threading.Event(), Window(options.warm_up, options.seconds, [c.id for c in config.cameras])
    out = config.output.folder.with_suffix(".npy")
    command = [sys.executable, "-m", "benchmarks.observer", redis_url, str(out), *window.cameras]
    observer = subprocess.Popen(command, cwd=ROOT)
    script = threading.Thread(target=window.watch, args=(but | {observer.pid}, stop), daemon=True)
    script.start()
    final = run(plan, address=None, stop=stop, on_status=window.see)
    observer.send_signal(signal.SIGTERM)
    observer.wait(30.0)
    rows = np.load(out)
    rows = rows[(rows[:, 0] >= window.from_s) & (rows[:, 0] < window.to_s)]
    return Measured(rows, window.seconds, window.to_s - window.from_s, (frames_dropped(final) - window.dropped).total())


def model_cpu_ms(folder: Path, size_px: tuple[int, int]) -> float:
    """CPU milliseconds of encoder and flows per frame, alone, at batch 8, on all cores."""
    import torch

    from pipeline.inference.engine import Engine

    torch.set_num_threads(os.cpu_count() or 1)
    engine = Engine.ready(folder, RuntimeSettings(batch_frames=MODEL_BATCH))
    images = np.random.default_rng(0).integers(0, 255, (MODEL_BATCH, *size_px, 3), np.uint8)
    frames = [Frame(_header(i), image, PreviousLuma(image[..., 1], 0.1)) for i, image in enumerate(images)]
    batch = FrameBatch.of(frames)
    spent_ms = []
    for _ in range(12):
        before = time.process_time()
        engine.predict(batch, ["scene"] * MODEL_BATCH, maps=True)
        spent_ms.append(1000.0 * (time.process_time() - before) / MODEL_BATCH)
    return statistics.median(spent_ms[2:])


def watch_cpu_ms(size_px: tuple[int, int], model: Path) -> float:
    """CPU milliseconds of the look at the scene's health per frame."""
    from pipeline.camera_settings import HealthSettings
    from pipeline.video.tamper import TamperMonitor

    watch = TamperMonitor(HealthSettings(), read_card(model).views.get("scene"))
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 255, (*size_px, 3), np.uint8) for _ in range(8)]
    before = time.thread_time()
    for i in range(200):
        watch.update(images[i % 8], i / 10)
    return 1000.0 * (time.thread_time() - before) / 200


def _header(index: int) -> FrameHeader:
    return FrameHeader("cam0", 0, index, index, Fraction(1, 10), 0.0)


def _config(folder: Path, urls: dict[str, str], redis_url: str, options: argparse.Namespace) -> Config:
    cameras = [{"id": name, "url": url, "scene": "scene"} for name, url in urls.items()]
    return parse_config(
        {
            "model": {"image_size_px": [256, 256], "encoder": {"name": "mobilenetv2_100", "weights": "random"}},
            "training": {"epochs": 1, "batch_frames": 8, "positions_per_frame": 32, "frame_step": 20},
            "cameras": cameras,
            "runtime": {
                "device": "cpu",
                **({} if options.batch_wait is None else {"batch_wait_s": options.batch_wait}),
            },
            "redis": {"url": redis_url},
            "output": {"folder": str(folder), "maps": options.maps},
        }
    )


def transport(folder: Path, options: argparse.Namespace, err: Console) -> dict[str, Any]:
    """Several runs; what they showed."""
    video = encode(folder / "a.mp4", fps=options.fps)
    ids = [f"cam{number}" for number in range(options.cameras)]
    runs = []
    with EmbeddedRedis(folder / "redis") as redis_url, RtspServer(dict.fromkeys(ids, video)) as rtsp:
        urls = {name: rtsp.url(name) for name in ids}
        model = options.model or folder / "model"
        if options.model is None:
            err.print("training a model whose numbers mean nothing")
            dataset = Dataset("stc", folder, (Clip("01_001", "scene", str(video), None),), ())
            train(_config(folder, urls, redis_url, options), dataset, model)
        with ray_cluster():
            for number in range(options.runs):
                config = _config(folder / f"run{number}", urls, redis_url, options)
                runs.append(measure(config, model, redis_url, frozenset({rtsp.pid}), options))
                err.print(f"run {number + 1}: {_summary(runs[-1])}")
    size_px = read_card(model).model.image_size_px
    model_ms = options.model_cpu_ms or model_cpu_ms(model, size_px)
    return summarise(runs, model_ms, watch_cpu_ms(size_px, model), options)


def summarise(
    runs: Sequence[Measured], model_ms: float, watch_ms: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Medians over runs of everything that is stated."""
    per_frame: dict[str, float] = {}
    for role in sorted({role for measured in runs for role in measured.seconds}):
        per_frame[role] = statistics.median(1000.0 * r.seconds[role] / len(r.rows) for r in runs)
    decode_ms = per_frame.pop(DECODING) - watch_ms
    per_frame["camera: scene watch"] = watch_ms
    overhead_ms = [_overhead_ms(r) + watch_ms for r in runs]
    transport_ms = statistics.median(overhead_ms)
    rates = [len(r.rows) / r.lasted_s for r in runs]
    return {
        "benchmark": "transport",
        **describe(),
        "cameras": options.cameras,
        "camera_fps": options.fps,
        "frames_per_s": round(statistics.median(rates), 1),
        "runs": len(runs),
        "dropped": sum(r.dropped for r in runs),
        "latency_p50_ms": _over_runs(runs, lambda rows: _quantile_ms(rows[:, 3] - rows[:, 0], 0.50)),
        "latency_p99_ms": _over_runs(runs, lambda rows: _quantile_ms(rows[:, 3] - rows[:, 0], 0.99)),
        "stages_ms": {
            name: {
                f"p{round(100 * q)}": _over_runs(
                    runs, lambda rows, i=i, q=q: _quantile_ms(rows[:, i + 1] - rows[:, i], q)
                )
                for q in (0.50, 0.99)
            }
            for i, name in enumerate(STAGES)
        },
        "cpu_ms_per_frame": {role: round(ms, 3) for role, ms in per_frame.items()},
        "transport_cpu_ms": round(transport_ms, 3),
        "decode_cpu_ms": round(decode_ms, 3),
        "model_cpu_ms": round(model_ms, 3),
        "share_of_cpu_time": round(transport_ms / (transport_ms + decode_ms + model_ms), 4),
        "share_of_capacity": round(transport_ms * statistics.median(rates) / 1000.0 / (os.cpu_count() or 1), 4),
    }


def _overhead_ms(measured: Measured) -> float:
    """CPU milliseconds per frame of everything but the readers' threads; the stand-in's own are next to none."""
    return 1000.0 * sum(s for role, s in measured.seconds.items() if role != DECODING) / len(measured.rows)


def _over_runs(runs: Sequence[Measured], value: Callable[[npt.NDArray[np.float64]], float]) -> float:
    return round(statistics.median(value(measured.rows) for measured in runs), 2)


def _quantile_ms(seconds: npt.NDArray[np.float64], q: float) -> float:
    return 1000.0 * float(np.quantile(seconds, q))


def _summary(measured: Measured) -> str:
    latency = measured.rows[:, 3] - measured.rows[:, 0]
    return (
        f"{len(measured.rows) / measured.lasted_s:.1f} frames/s, latency p50 {_quantile_ms(latency, 0.5):.1f}, "
        f"p99 {_quantile_ms(latency, 0.99):.1f} ms, CPU {_overhead_ms(measured):.2f} ms per frame, "
        f"{measured.dropped} dropped"
    )


def tables(result: dict[str, Any]) -> list[Table]:
    """What is printed."""
    latency = Table(title=f"overhead latency at {result['frames_per_s']} frames/s, milliseconds", title_justify="left")
    for heading in ("", "p50", "p99"):
        latency.add_column(heading, justify="right" if heading else "left")
    for name, of in result["stages_ms"].items():
        latency.add_row(name, f"{of['p50']:.1f}", f"{of['p99']:.1f}")
    latency.add_row("in all", f"{result['latency_p50_ms']:.1f}", f"{result['latency_p99_ms']:.1f}", style="bold")
    cpu = Table(title="CPU time, milliseconds per frame", title_justify="left")
    for heading in ("", "ms"):
        cpu.add_column(heading, justify="right" if heading else "left")
    for name, ms in sorted(result["cpu_ms_per_frame"].items(), key=lambda item: -item[1]):
        cpu.add_row(name, f"{ms:.2f}")
    cpu.add_row("transport in all", f"{result['transport_cpu_ms']:.2f}", style="bold")
    cpu.add_row("decode and resize", f"{result['decode_cpu_ms']:.2f}")
    cpu.add_row(f"encoder and flows, batch {MODEL_BATCH}", f"{result['model_cpu_ms']:.2f}")
    cpu.add_row("transport's share of a frame's CPU time", f"{100 * result['share_of_cpu_time']:.1f} %", style="bold")
    cpu.add_row("transport's share of the machine's capacity", f"{100 * result['share_of_capacity']:.1f} %")
    return [latency, cpu]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="What everything around decoding and the model costs.")
    parser.add_argument("--cameras", type=int, default=5)
    parser.add_argument("--fps", type=int, default=10, help="frames/s of one camera; all of them are scored")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="measured in each run")
    parser.add_argument("--warm-up", type=float, default=8.0, help="seconds before, in each run")
    parser.add_argument("--model", type=Path, help="a trained model; without it one is trained on a few frames")
    parser.add_argument("--model-cpu-ms", type=float, help="of encoder and flows per frame, instead of measuring it")
    parser.add_argument("--maps", action="store_true", help="keep anomaly maps in Parquet")
    parser.add_argument("--batch-wait", type=float, help="runtime.batch_wait_s; default: the config's")
    options = parser.parse_args()
    err = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="transport-") as name:
        result = transport(Path(name), options, err)
    for table in tables(result):
        err.print(table)
    store(result)


if __name__ == "__main__":
    main()
