"""What a frame costs, and how long it takes, as cameras grow.

    python -m benchmarks.scale files --cameras 1 4 16 64 --batch 64
    python -m benchmarks.scale live --cameras 5 50 200 --fps 5 --per-process 50

Everything is real but the model, which predicts at once, and the cameras, which are one tiny clip each: read as fast as
possible (``files``), or played as live cameras (``live``, ``loop: true``).

- **CPU time** is what is compared: milliseconds of CPU (user and system) per frame scored, by process, within a window
  of the run. Readers' threads (decode, resize, the look at the scene's health) are told apart from the rest.
- **Latency** goes from a frame's leaving the decoder to its score, as Parquet has both.
- **Frames/s** are those of the machine as it was: on one that others use, too, they say little, and CPU time much.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.cluster import ray_cluster
from actors.plans import stream_plan
from actors.run import run
from benchmarks.cpu_time import DECODING
from benchmarks.machine import describe, store
from benchmarks.window import StandIn, Window, frames_dropped, scored_rows, untrained_model
from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.models.card import read_card
from pipeline.sinks.embedded_redis import EmbeddedRedis
from tests.videos import write_video

_STRIDE = 8  # of the finest level, whose resolution maps have
_FILE_FPS = 25


@dataclass(frozen=True)
class Load:
    """One run.

    Attributes:
        cameras: how many.
        fps: frames per second of each, all of them scored; None reads them as files, as fast as possible.
        side_px: of the frames that the model gets, which are square.
        batch_frames: as in the config.
        per_process: ``runtime.cameras_per_process``.
        detectors: how many.
        scorers: how many.
        batch_wait_s: ``runtime.batch_wait_s``; None takes the config's own.
    """

    cameras: int
    fps: int | None
    side_px: int
    batch_frames: int
    per_process: int
    detectors: int
    scorers: int = 1
    batch_wait_s: float | None = None


def config_of(load: Load, folder: Path, video: Path, redis_url: str) -> Config:
    """The configuration of a run."""
    source = {"url": str(video), "scene": "scene", "loop": load.fps is not None}
    runtime = {
        "device": "cpu",
        "batch_frames": load.batch_frames,
        "cameras_per_process": load.per_process,
        "detectors": load.detectors,
        "scorers": load.scorers,
        "spare_detectors": 0,
    }
    if load.batch_wait_s is not None:
        runtime["batch_wait_s"] = load.batch_wait_s
    return parse_config(
        {
            "model": {"image_size_px": [load.side_px, load.side_px]},
            "cameras": [{"id": f"cam{number}", **source} for number in range(load.cameras)],
            "runtime": runtime,
            "redis": {"url": redis_url, "scores_maxlen": 1000},
            "output": {"folder": str(folder)},
        }
    )


def measure(load: Load, folder: Path, video: Path, *, warm_up_s: float, lasting_s: float) -> dict[str, Any]:
    """Run once; what it showed.

    Args:
        load: what is run.
        folder: for everything that is written.
        video: what every camera shows.
        warm_up_s: from the first score of every camera to the window.
        lasting_s: of the window.
    """
    model = untrained_model(folder / "model", (load.side_px, load.side_px))
    with EmbeddedRedis(folder / "redis") as redis_url:
        config = config_of(load, folder / "run", video, redis_url)
        plan = replace(
            stream_plan(config, read_card(model), model, redis_url),
            load_stand_in=StandIn((load.side_px // _STRIDE, load.side_px // _STRIDE)),
        )
        stop, window = threading.Event(), Window(warm_up_s, lasting_s, [camera.id for camera in config.cameras])
        threading.Thread(target=window.watch, args=(frozenset(), stop), daemon=True).start()
        final = run(plan, address=None, stop=stop, on_status=window.see)
    rows = scored_rows(config.output.folder)
    rows = rows[(rows[:, 1] >= window.from_s) & (rows[:, 1] < window.to_s)]
    if not len(rows):
        raise SystemExit(f"{load}: nothing was scored within the window: the machine is too slow for this")
    return summarise(load, rows, window, (frames_dropped(final) - window.dropped).total())


def summarise(load: Load, rows: npt.NDArray[np.float64], window: Window, dropped: int) -> dict[str, Any]:
    """What is told of a run.

    Args:
        load: what was run.
        rows: shape (frames, 2), of the window: Unix times of capture and of scoring.
        window: with the CPU time spent in it.
        dropped: frames that were not scored.
    """
    per_frame = {role: 1000.0 * seconds / len(rows) for role, seconds in window.seconds.items()}
    decoding = per_frame.pop(DECODING, 0.0)
    latency_ms = 1000.0 * (rows[:, 1] - rows[:, 0])
    return {
        **asdict(load),
        "frames_per_s": round(len(rows) / (window.to_s - window.from_s), 1),
        "frames_per_call": round(len(rows) / len(np.unique(rows[:, 1])), 2),
        "cpu_ms": round(sum(per_frame.values()), 4),
        "cpu_ms_of": {role: round(ms, 4) for role, ms in sorted(per_frame.items(), key=lambda item: -item[1])},
        "readers_cpu_ms": round(decoding, 4),
        "latency_p50_ms": None if load.fps is None else round(float(np.quantile(latency_ms, 0.50)), 1),
        "latency_p99_ms": None if load.fps is None else round(float(np.quantile(latency_ms, 0.99)), 1),
        "dropped": dropped,
        "threads": window.threads,
    }


def measure_all(loads: Sequence[Load], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every load in turn, as often as was asked for; of several runs the one with the median CPU time is told."""
    found: list[dict[str, Any]] = []
    for load in loads:
        runs: list[dict[str, Any]] = []
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory(prefix="scale-") as name, ray_cluster():
                folder = Path(name)
                video = write_video(
                    folder / "clip.mp4",
                    max(2000, options.frames // load.cameras) if load.fps is None else 60 * load.fps,
                    fps=load.fps or _FILE_FPS,
                    gop=_FILE_FPS,
                )
                runs.append(measure(load, folder, video, warm_up_s=options.warm_up, lasting_s=options.seconds))
        middle = statistics.median_low([each["cpu_ms"] for each in runs])
        found.append(next(each for each in runs if each["cpu_ms"] == middle))
        print(_line(found[-1]), flush=True)
    return found


def _line(result: dict[str, Any]) -> str:
    costs = ", ".join(f"{role} {ms:.3f}" for role, ms in list(result["cpu_ms_of"].items())[:6])
    latency = "" if result["latency_p50_ms"] is None else (
        f", latency p50 {result['latency_p50_ms']:.0f} p99 {result['latency_p99_ms']:.0f} ms"
    )  # fmt: skip
    return (
        f"{result['cameras']:>5} cameras: {result['frames_per_s']:.0f} frames/s, {result['frames_per_call']:.1f} per "
        f"call, {result['cpu_ms']:.2f} ms each ({costs}), readers {result['readers_cpu_ms']:.2f}{latency}, "
        f"{result['dropped']} dropped, threads {result['threads']}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["files", "live"])
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 4, 16, 64, 256, 1000])
    parser.add_argument("--fps", type=int, default=5, help="of a live camera")
    parser.add_argument("--side", type=int, default=64, help="of the model's square input, pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batch-wait", type=float, help="runtime.batch_wait_s; default: the config's")
    parser.add_argument("--per-process", type=int, default=8)
    parser.add_argument("--detectors", type=int, default=1)
    parser.add_argument("--scorers", type=int, default=1)
    parser.add_argument(
        "--frames", type=int, default=100_000, help="of all files together; no file is shorter than 2000"
    )
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before the window")
    parser.add_argument("--seconds", type=float, default=15.0, help="of the window")
    parser.add_argument("--store", metavar="NAME", help="keep the results as scale-NAME-...")
    options = parser.parse_args()
    described = describe()
    fps = options.fps if options.mode == "live" else None
    loads = [
        Load(
            cameras, fps, options.side, options.batch, options.per_process,
            options.detectors, options.scorers, options.batch_wait,
        )
        for cameras in options.cameras
    ]  # fmt: skip
    found = measure_all(loads, options)
    if options.store:
        store({"benchmark": f"scale-{options.store}", **described, "runs": found})


if __name__ == "__main__":
    main()
