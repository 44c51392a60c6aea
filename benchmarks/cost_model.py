"""What many cameras take, predicted from what parts cost in measured runs; and how far off that is where it was run.

    python -m benchmarks.cost_model

Reads ``results/scale-*.json`` (``benchmarks/scale.py``) and fits, per process, what one frame, one megabyte of frames,
one request for frames, one call with results, one camera and one actor cost (non-negative least squares). Checked by
leaving each run out in turn and predicting it from the others; then 1,000 and 10,000 cameras are predicted. Neither
decoding nor the model is in these runs: they are taken from ``results/reader-cpu-*.json`` and ``results/stages-cuda-*``
(``--device-ms``; ``cflow-stream bench`` says it of a machine).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

from benchmarks.machine import RESULTS, describe, store
from pipeline.evaluation.benchmark import USABLE
from pipeline.runtime.batching import CompanyWait
from pipeline.runtime.slices import scorer_count

PARTS = {
    "CameraActor": ("frames", "megabytes", "requests", "cameras"),
    "DetectorActor": ("frames", "megabytes", "requests", "calls"),
    "ScorerActor": ("frames", "calls", "cameras"),
    "redis-server": ("frames", "cameras"),
    "the rest": ("cameras", "actors", "runs"),
}
"""Of which a process's CPU time is made; what is not named is Ray's own and the command's, the supervisor in it."""

_PLANE_BYTES = 4  # of a pixel: RGB, and the brightness of the frame before it
_RESULT_BYTES = 80
_STRIDE, _MAP_BYTES = 8, 2
_SCORE_ENTRY_BYTES = 480  # JSON and the command around it
_ENTRY_BYTES = 512  # of Redis's memory per score in a stream, by MEMORY USAGE of one with 20,000 of them


@dataclass(frozen=True)
class Load:
    """What a run carries.

    Attributes:
        cameras: how many.
        frames_per_s: of all together, scored.
        side_px: of the model's square input.
        batch_frames: frames in a batch at most.
        per_process: cameras in a process.
        detectors: how many.
        scorers: how many.
        live: whether they are live cameras, not files read as fast as possible.
    """

    cameras: int
    frames_per_s: float
    side_px: int
    batch_frames: int
    per_process: int
    detectors: int
    scorers: int
    live: bool = True

    @property
    def processes(self) -> int:
        """Camera processes."""
        return max(math.ceil(self.cameras / self.per_process), min(self.detectors, self.cameras))

    def parts(self) -> dict[str, float]:
        """How often per second what costs something happens."""
        requests, calls = self._messages()
        return {
            "frames": self.frames_per_s,
            "megabytes": self.frames_per_s * _PLANE_BYTES * self.side_px**2 / 1e6,
            "requests": requests,
            "calls": calls,
            "cameras": float(self.cameras),
            "actors": float(self.processes + self.detectors + self.scorers),
            "runs": 1.0,
        }

    def _messages(self) -> tuple[float, float]:
        """Requests for frames and calls with results per second, as ``CompanyWait`` makes them.

        A request waits for its first frame, and then half of what frames may wait; a batch waits the other half once
        its first frame is there. Neither holds more than a batch.
        """
        full = self.frames_per_s / self.batch_frames
        if not self.live:
            return full, full * min(self._scorers_of_a_batch, self.batch_frames)
        company = CompanyWait()
        company.add(round(self.frames_per_s / self.detectors), 0.0)
        half_s = company.wait_s(0.0) / 2
        of_process = self.frames_per_s / self.processes
        requests = max(full, self.processes / (half_s + 1.0 / of_process))
        of_detector = requests / self.detectors
        batches = max(full, self.detectors / (half_s + 1.0 / of_detector))
        return requests, batches * min(self._scorers_of_a_batch, self.frames_per_s / batches)

    @property
    def _scorers_of_a_batch(self) -> int:
        """A process reads cameras of one scorer, or of one and the next."""
        return min(self.scorers, math.ceil(self.processes / self.detectors) + 1)


@dataclass(frozen=True)
class Run:
    """A measured run.

    Attributes:
        name: of what it was.
        load: what it carried.
        cpu_s: CPU seconds per second, by process.
    """

    name: str
    load: Load
    cpu_s: dict[str, float]

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds per frame."""
        return 1000.0 * sum(self.cpu_s.values()) / self.load.frames_per_s


def read_runs(folder: Path = RESULTS) -> list[Run]:
    """All runs that ``benchmarks/scale.py`` has kept, but those of former code (``before``).

    Args:
        folder: where.
    """
    runs: list[Run] = []
    for path in sorted(folder.glob("scale-*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if "before" not in result["benchmark"]:
            runs += [_run(result["benchmark"].removeprefix("scale-"), each) for each in result["runs"]]
    return runs


def _run(name: str, measured: Mapping[str, Any]) -> Run:
    rate = measured["frames_per_s"]
    cpu_s = dict.fromkeys(PARTS, 0.0)
    for role, ms in measured["cpu_ms_of"].items():
        cpu_s[role if role in PARTS else "the rest"] += ms * rate / 1000.0
    load = Load(
        cameras=measured["cameras"],
        frames_per_s=rate,
        side_px=measured["side_px"],
        batch_frames=measured["batch_frames"],
        per_process=measured["per_process"],
        detectors=measured["detectors"],
        scorers=measured["scorers"],
        live=measured["fps"] is not None,
    )
    return Run(f"{name}, {load.cameras}", load, cpu_s)


Costs = Mapping[str, Mapping[str, float]]
"""CPU seconds of each part, by process."""


def fit(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """What each part costs, so that the runs' costs per frame come out as nearly as can be, relative to their size.

    Args:
        runs: at least one.
    """
    costs: dict[str, dict[str, float]] = {}
    for process, names in PARTS.items():
        weights = np.array([1.0 / max(run.cpu_s[process], 1e-3) for run in runs])
        happens = np.array([[run.load.parts()[name] for name in names] for run in runs])
        spent = np.array([run.cpu_s[process] for run in runs])
        found, _ = optimize.nnls(happens * weights[:, None], spent * weights)
        costs[process] = dict(zip(names, (float(value) for value in found), strict=True))
    return costs


def predict(costs: Costs, load: Load) -> dict[str, float]:
    """CPU seconds per second (cores), by process, all processes of a kind together.

    Args:
        costs: of the parts.
        load: what is to be carried.
    """
    parts = load.parts()
    return {process: sum(parts[name] * cost for name, cost in of.items()) for process, of in costs.items()}


def left_out(runs: Sequence[Run]) -> list[tuple[Run, float]]:
    """Each run, and the milliseconds per frame that the others predict for it."""
    found: list[tuple[Run, float]] = []
    for number, run in enumerate(runs):
        costs = fit([*runs[:number], *runs[number + 1 :]])
        found.append((run, 1000.0 * sum(predict(costs, run.load).values()) / run.load.frames_per_s))
    return found


def size(costs: Costs, load: Load, options: argparse.Namespace) -> dict[str, Any]:
    """What a load takes: cores, processes, device, network and Redis.

    Args:
        costs: of the parts.
        load: what is to be carried; its detectors and scorers are as many as are needed.
        options: what decoding and inference cost, and what cameras send.
    """
    # Neither a scorer nor a detector may need more than the usable part of one core.
    alone = predict(costs, replace(load, detectors=1, scorers=1))
    busy_s = load.frames_per_s * options.device_ms / 1000.0
    # The process that takes frames in also gives a GPU its orders, one after the other: as long as the GPU is at work.
    detectors = max(1, math.ceil((busy_s + alone["DetectorActor"]) / USABLE))
    scorers = max(scorer_count(load.cameras, None), math.ceil(alone["ScorerActor"] / USABLE))
    load = replace(load, detectors=detectors, scorers=scorers)
    cores = predict(costs, load)
    map_bytes = _MAP_BYTES * (load.side_px // _STRIDE) ** 2
    return {
        "cameras": load.cameras,
        "frames_per_s": round(load.frames_per_s),
        "camera_processes": load.processes,
        "detectors": detectors,
        "scorers": scorers,
        "cores": {
            "decoding": round(load.cameras * options.stream_fps * options.decode_ms / 1000.0, 1),
            **{process: round(value, 2) for process, value in cores.items()},
        },
        "device_busy": round(busy_s, 2),
        "gbit_s": {
            "cameras to decoders": round(load.cameras * options.mbit_s / 1000.0, 2),
            "decoders to detectors": round(8e-9 * load.frames_per_s * _PLANE_BYTES * load.side_px**2, 2),
            "detectors to scorers": round(8e-9 * load.frames_per_s * (_RESULT_BYTES + map_bytes), 3),
            "scorers to Redis": round(8e-9 * load.frames_per_s * _SCORE_ENTRY_BYTES, 3),
        },
        "redis_gb": round(1e-9 * load.cameras * options.maxlen * options.entry_bytes, 1),
    }


def decode_ms() -> float:
    """CPU milliseconds per frame that a camera sends: H.264, 1080p at 25 frames/s, 5 of them scored, with pairs."""
    result = json.loads(max(RESULTS.glob("reader-cpu-*.json")).read_text(encoding="utf-8"))
    return next(m["with_pairs_ms"] for m in result["measured"] if "1080p" in m["video"] and m["sample_fps"] == 5.0)


def device_ms() -> float:
    """Milliseconds that a frame takes a GPU and whoever gives it orders: MobileNetV2 with motion, batches of 32."""
    result = json.loads(max(RESULTS.glob("stages-cuda-*.json")).read_text(encoding="utf-8"))
    return result["ms_per_batch"]["32"]["predict"]["wall"] / 32


def main() -> None:
    """Fit, check, predict, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--fps", type=float, default=5.0, help="frames per second of a camera that are scored")
    parser.add_argument("--stream-fps", type=float, default=25.0, help="that it sends; all of them are decoded")
    parser.add_argument("--mbit-s", type=float, default=4.0, help="that it sends")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--per-process", type=int, default=50)
    parser.add_argument(
        "--decode-ms", type=float, default=decode_ms(), help="CPU per frame that is sent, resize included"
    )
    parser.add_argument(
        "--device-ms", type=float, default=device_ms(), help="of a frame on a detector's device; `bench` measures it"
    )
    parser.add_argument("--maxlen", type=int, default=100_000, help="redis.scores_maxlen")
    parser.add_argument("--entry-bytes", type=float, default=_ENTRY_BYTES, help="of memory that a score takes in Redis")
    options = parser.parse_args()
    runs = read_runs()
    costs = fit(runs)
    print("what costs how much, milliseconds of CPU")
    for process, of in costs.items():
        print(f"  {process:<14}" + ", ".join(f"{1000 * cost:.4f} per {name}" for name, cost in of.items()))
    checked = left_out(runs)
    print("\nmeasured, and predicted from all other runs: milliseconds of CPU per frame")
    for run, predicted in checked:
        print(f"  {run.name:<24}{run.cpu_ms:8.3f}{predicted:8.3f}{100 * (predicted / run.cpu_ms - 1):+7.0f} %")
    sizes = [
        size(costs, Load(n, n * options.fps, options.side, options.batch, options.per_process, 1, 1), options)
        for n in options.cameras
    ]
    print()
    for each in sizes:
        print(json.dumps(each, indent=1))
    store(
        {
            "benchmark": "cost-model",
            **describe(),
            "assumed": vars(options),
            "costs_ms": {p: {name: 1000.0 * cost for name, cost in of.items()} for p, of in costs.items()},
            "checked": [
                {"run": run.name, "measured_ms": round(run.cpu_ms, 4), "predicted_ms": round(predicted, 4)}
                for run, predicted in checked
            ],
            "sizes": sizes,
        }
    )


if __name__ == "__main__":
    main()
