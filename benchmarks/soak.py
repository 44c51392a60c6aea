"""Real RTSP cameras while things break: are all counts exact, is every alert delivered once, how fast is all back?

    .venv/bin/python -m benchmarks.soak --cameras 8 --minutes 10 --faults

Needs Debian's gst-rtsp-server (see .ci/run) and redis-server. A seeded loop kills actors (SIGKILL), freezes and
restarts the RTSP server, stalls and corrupts streams, drops all clients, and stops, kills and freezes Redis, one fault
every ten seconds. The model is tiny: what is tested is everything around it. Ends with one JSON line.

    .venv/bin/python -m benchmarks.soak --cameras 8 --minutes 10 --nodes 2 --kill-node-every 60

does the same over a cluster on this machine: with all that runs on it, one of the nodes beside the head is killed every
minute, and another one joins in its place.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from actors.plans import stream_plan
from actors.run import run
from benchmarks.chaos import Chaos, Fault, RedisServer, role_of
from benchmarks.footage import encode
from benchmarks.machine import describe, store
from benchmarks.node_chaos import NodeChaos, node_chaos
from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.datasets.base import Clip, Dataset
from pipeline.models.card import read_card
from pipeline.runtime.status import RunStatus
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts, read_scores
from pipeline.training.train import train
from tests.rtsp import RtspServer

STREAM_FPS = 10
SAMPLE_FPS = 2.0
EVERY_S = 10.0
WARM_UP_S = 30.0
GIVE_UP_S = 60.0  # after which a camera counts as not recovered

MODEL = {
    "image_size_px": [128, 224],
    "encoder": {"name": "mobilenetv3_small_050", "weights": "random", "strides": [8, 16]},
    "flow": {"blocks": 2, "condition_dims": 16},
}
# Alarms far more often than anybody would want: what is counted here is their delivery.
CAMERA = {
    "sample_fps": SAMPLE_FPS,
    "open_timeout_s": 2,
    "read_timeout_s": 1,
    "stall_timeout_s": 4,
    "reconnect_max_s": 2,
    "alerts": {
        "quantile": 0.9,
        "close_quantile": 0.5,
        "open_frames": 1,
        "open_s": 0.0,
        "close_s": 1.0,
        "cooldown_s": 0.0,
    },
    "health": {"offline_s": 3, "frozen_s": None, "dark_s": None, "moved_s": None},
}


class Observer:
    """Follows the run's status: who scores again when, and how much memory every process takes."""

    def __init__(self) -> None:
        self.newest: dict[str, float] = {}
        self.status: RunStatus | None = None
        self.memory: list[tuple[float, dict[str, list[int]]]] = []
        self._open: list[Fault] = []
        self._lock = threading.Lock()

    def await_recovery(self, fault: Fault) -> None:
        """Note from now on who scores again after a fault."""
        with self._lock:
            self._open.append(fault)

    def see(self, status: RunStatus) -> None:
        """Take in a status."""
        now_s = time.time()
        with self._lock:
            self.status = status
            for camera in status.cameras:
                if camera.scoring.scored_frame_at_s is not None:
                    self.newest[camera.camera_id] = camera.scoring.scored_frame_at_s
            for fault in self._open:
                for camera_id, at_s in self.newest.items():
                    if at_s > fault.ended_at_s and camera_id not in fault.recovered_s:
                        fault.recovered_s[camera_id] = now_s - fault.ended_at_s

    def everyone_scores(self, cameras: list[str], since_s: float) -> bool:
        """Whether every camera has a scored frame that was captured after a Unix time."""
        with self._lock:
            return all(self.newest.get(camera_id, 0.0) > since_s for camera_id in cameras)

    def measure_memory(self) -> None:
        """Note the unshared memory of every process of the run, in bytes."""
        sizes: dict[str, list[int]] = {}
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                sizes.setdefault(role_of(process), []).append(process.memory_full_info().uss)
            except psutil.Error:
                continue
        self.memory.append((time.time(), sizes))


def soak(options: argparse.Namespace, folder: Path, err: Console) -> dict[str, Any]:
    """One run; returns what was measured."""
    ids = [f"cam{number}" for number in range(options.cameras)]
    videos = [folder / "a.mp4", folder / "b.mp4"]
    for number, video in enumerate(videos):
        encode(video, fps=STREAM_FPS, skip=60 * STREAM_FPS * number)
    redis = RedisServer(folder)
    with ExitStack() as stack:
        rtsp = stack.enter_context(RtspServer({name: videos[number % 2] for number, name in enumerate(ids)}))
        config = _config(folder, {name: rtsp.url(name) for name in ids}, redis.url, max(1, options.nodes))
        err.print("training a tiny model")
        train(config, Dataset("stc", folder, (Clip("01_001", "scene", str(videos[0]), None),), ()), folder / "model")
        plan = stream_plan(config, read_card(folder / "model"), folder / "model", redis.url)
        observer, stop = Observer(), threading.Event()
        chaos, every_s = Chaos(rtsp, redis, ids, options.seed) if options.faults else None, EVERY_S
        if options.nodes:
            nodes = node_chaos(folder, options.nodes, slow_health_checks=options.slow_health_checks)
            chaos, every_s = stack.enter_context(nodes), options.kill_node_every
        script = threading.Thread(
            target=_direct, args=(chaos, every_s, observer, ids, options.minutes, stop, err), daemon=True
        )
        script.start()
        final = run(plan, address=None, stop=stop, on_status=observer.see)
        script.join(60.0)
        faults = chaos.faults if chaos is not None else []
        name = _name(options)
        result = _summarise(name, final, plan.sinks.scores_folder, redis.url, faults, observer, options.minutes)
    redis.end(signal.SIGTERM)
    return result


def _name(options: argparse.Namespace) -> str:
    """What the result is filed under."""
    if options.nodes:
        return "soak-nodes-slow-checks" if options.slow_health_checks else "soak-nodes"
    return "soak" if options.faults else "soak-quiet"


def _config(folder: Path, urls: dict[str, str], redis_url: str, detectors: int) -> Config:
    runtime = {"batch_frames": 8, "cameras_per_process": 4, "threads": 1, "device": "cpu", "compile": False}
    return parse_config(
        {
            "model": MODEL,
            "training": {"epochs": 1, "batch_frames": 16, "positions_per_frame": 32, "learning_rate": 1e-3},
            "camera_defaults": CAMERA,
            "cameras": [{"id": name, "url": url, "scene": "scene"} for name, url in urls.items()],
            "runtime": {**runtime, "detectors": detectors},
            "redis": {"url": redis_url, "scores_maxlen": 1_000_000, "alerts_maxlen": 1_000_000},
            "output": {"folder": str(folder / "run"), "rotate_s": 30},
        }
    )


def _direct(
    chaos: Chaos | NodeChaos | None,
    every_s: float,
    observer: Observer,
    ids: list[str],
    minutes: float,
    stop: threading.Event,
    err: Console,
) -> None:
    """The script: wait for everyone, break one thing every few seconds, then stop the run."""
    try:
        _wait(lambda: observer.everyone_scores(ids, 0.0), 180.0)
        err.print("everyone scores")
        time.sleep(WARM_UP_S)
        observer.measure_memory()
        end_at = time.monotonic() + 60.0 * minutes
        strike_at = time.monotonic()
        while time.monotonic() < end_at:
            if chaos is not None:
                fault = chaos.strike()
                observer.await_recovery(fault)
                since_s = fault.ended_at_s
                whole = _wait(lambda since_s=since_s: observer.everyone_scores(ids, since_s), GIVE_UP_S)
                slowest = f"{max(fault.recovered_s.values(), default=0.0):.1f} s" if whole else "NOT everyone"
                err.print(f"{fault.kind}: {fault.ended_at_s - fault.began_at_s:.1f} s, everyone back after {slowest}")
            strike_at = max(strike_at + every_s, time.monotonic())
            time.sleep(max(0.0, min(strike_at, end_at) - time.monotonic()))
        time.sleep(5.0)
        observer.measure_memory()
    finally:
        stop.set()


def _wait(condition: Callable[[], bool], longest_s: float) -> bool:
    give_up_at = time.monotonic() + longest_s
    while time.monotonic() < give_up_at:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _summarise(
    name: str,
    final: RunStatus,
    scores: Path,
    redis_url: str,
    faults: list[Fault],
    observer: Observer,
    minutes: float,
) -> dict[str, Any]:
    """Compare what the run says of itself with what arrived in Redis and Parquet."""
    alerts = list(read_alerts(redis_url))
    texts = Counter(json.dumps({k: v for k, v in alert.items() if k != "id"}, sort_keys=True) for alert in alerts)
    rows = read_clip_scores(scores)
    latencies = sorted(_quiet_latencies(final, redis_url, faults))
    exact = {}
    for camera in final.cameras:
        counts, found = camera.counts, rows[camera.camera_id]
        unique = len(set(zip(found.session.tolist(), found.index.tolist(), strict=True)))
        exact[camera.camera_id] = {
            "decoded": counts.decoded,
            "scored": counts.scored,
            "dropped": counts.dropped,
            "in_flight": counts.in_flight,
            "rows_in_parquet": int(found.index.size),
            "exact": counts.in_flight == 0 and counts.scored == found.index.size == unique,
        }
    recovery = {}
    for kind in sorted({fault.kind for fault in faults}):
        times = [s for fault in faults if fault.kind == kind for s in fault.recovered_s.values()]
        recovery[kind] = {
            "faults": sum(fault.kind == kind for fault in faults),
            "p50_s": round(statistics.median(times), 2) if times else None,
            "max_s": round(max(times), 2) if times else None,
        }
    total: Counter[str] = Counter()
    for camera in final.cameras:
        total.update(camera.counts.dropped)
    return {
        "benchmark": name,
        **describe(),
        "minutes": minutes,
        "cameras": exact,
        "decoded": sum(c.counts.decoded for c in final.cameras),
        "scored": sum(c.counts.scored for c in final.cameras),
        "dropped": dict(total),
        "accounts_exact": all(of_camera["exact"] for of_camera in exact.values()),
        "alerts_emitted": final.alerts.get("emitted"),
        "alerts_in_redis": len(alerts),
        "alerts_twice": sum(count - 1 for count in texts.values()),
        "faults": len(faults),
        "recovery": recovery,
        "recovery_max_s": max((r["max_s"] for r in recovery.values() if r["max_s"] is not None), default=None),
        "not_recovered": sum(len(fault.recovered_s) < len(final.cameras) for fault in faults),
        "memory_mb": _memory(observer),
        "latency_p50_ms": _quantile_ms(latencies, 0.50),
        "latency_p99_ms": _quantile_ms(latencies, 0.99),
    }


def _quiet_latencies(final: RunStatus, redis_url: str, faults: list[Fault]) -> Iterator[float]:
    """Latencies of frames that were captured while nothing was broken and everyone had come back."""
    broken = [(f.began_at_s - 1.0, f.ended_at_s + max(f.recovered_s.values(), default=GIVE_UP_S) + 1.0) for f in faults]
    for camera in final.cameras:
        for entry in read_scores(redis_url, camera.camera_id, count=1_000_000):
            if not any(begin <= entry["captured_at_s"] <= end for begin, end in broken):
                yield entry["latency_s"]


def _quantile_ms(values: list[float], q: float) -> float | None:
    return round(1000.0 * values[min(int(q * len(values)), len(values) - 1)], 1) if values else None


def _memory(observer: Observer) -> dict[str, dict[str, float]]:
    """Unshared memory by role, in MB, of its largest process at the start and at the end."""
    if len(observer.memory) < 2:
        return {}
    start, end = observer.memory[0][1], observer.memory[-1][1]
    return {
        role: {
            "start": round(max(start[role]) / 2**20, 1),
            "end": round(max(end[role]) / 2**20, 1),
            "growth_percent": round(100.0 * (max(end[role]) / max(start[role]) - 1.0), 1),
        }
        for role in sorted(start.keys() & end.keys())
    }


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        yield Path(name)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Live cameras while things break.")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--faults", action="store_true", help="break things")
    parser.add_argument("--nodes", type=int, default=0, help="nodes beside the head, which are killed instead")
    parser.add_argument("--kill-node-every", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--slow-health-checks", action="store_true", help="Ray's own, of a head that is not tuned")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new folder for everything, instead of a temporary one")
    options = parser.parse_args()
    err = Console(stderr=True)
    with _folder(options.keep) as folder:
        result = soak(options, folder, err)
    table = Table(title="recovery after the end of a fault, seconds", title_justify="left")
    for heading in ("fault", "times", "p50", "max"):
        table.add_column(heading)
    for kind, values in result["recovery"].items():
        table.add_row(kind, str(values["faults"]), str(values["p50_s"]), str(values["max_s"]))
    err.print(table)
    store(result)


if __name__ == "__main__":
    main()
