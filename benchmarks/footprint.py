"""What a run of three live cameras costs, how soon it scores, how fast it is back, and whether it grows.

    .venv/bin/python -m benchmarks.footprint                   # start, take-over, CPU and memory; about 6 minutes
    .venv/bin/python -m benchmarks.footprint --minutes 120     # the same, then two hours of watching memory

Needs Debian's gst-rtsp-server (see .ci/run). MobileNetV2 at 256 x 256 with eight blocks per flow, cameras of 15
frames/s of which 5 are scored; weights are random, which costs the same. The command is started as a user starts it
(``--tree`` names another checkout's, to measure beside this one), and everything is read off Redis and /proc from
outside. Memory is PSS, in which pages that processes share count once, and anonymous memory, which alone can leak:
pages of libraries belong to whoever else has mapped them just then, and come and go with other processes. Ends with one
JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.footage import encode
from benchmarks.machine import describe, store
from pipeline.config_file import parse_config
from pipeline.datasets.base import Clip, Dataset
from pipeline.errors import RedisError
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.redis_reader import read_scores, read_statuses
from pipeline.training.train import train
from tests.rtsp import RtspServer

CAMERAS = ("gate", "yard", "door")
STREAM_FPS, SAMPLE_FPS = 15, 5
MODEL = {
    "image_size_px": [256, 256],
    "encoder": {"name": "mobilenetv2_100", "weights": "random"},
    "flow": {"blocks": 8, "condition_dims": 128, "camera_embedding": 8},
}
TRAINING = {"epochs": 1, "batch_frames": 16, "positions_per_frame": 32, "holdout_fraction": 0.3}
MEASURED_S = 20.0
GIVE_UP_S = 300.0
SETTLED_AFTER_S = 600.0  # growth is counted from here: caches and allocators have what they need by then
MEMORY = ("pss_mb", "anonymous_mb")
NAMES = {
    "gcs_server": "Ray: gcs", "raylet/raylet": "Ray: raylet", "monitor.py": "Ray: monitors",
    "log_monitor": "Ray: monitors",
    "dashboard.py": "Ray: dashboard", "DashboardAgent": "Ray: agents", "RuntimeEnvAgent": "Ray: agents",
    "idle_agent": "Ray: agents", "reaper": "Ray: reaper", "DetectorActor": "detectors", "ScorerActor": "scorer",
    "CameraActor": "camera processes", "Supervisor": "supervisor", "run_cluster.py": "command", "redis-server": "Redis",
}  # fmt: skip


class Stream:
    """A ``run_cluster.py stream`` over the cameras.

    Args:
        tree: the checkout it is started from.
        config: its YAML file.
        url: of its Redis.
        log: where it writes.
    """

    def __init__(self, tree: Path, config: Path, url: str, log: Path) -> None:
        self.url = url
        self.started_at = time.time()
        command = [
            str(tree / ".venv" / "bin" / "python"),
            str(tree / "run_cluster.py"),
            "stream",
            "--config",
            str(config),
        ]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, cwd=tree, stdout=file, stderr=file)
        self.log = log

    def newest(self) -> float:
        """Unix time of capture of the newest scored frame of the camera that is furthest behind."""
        try:
            newest = [read_scores(self.url, camera, count=1) for camera in CAMERAS]
        except RedisError:
            return 0.0
        return min(found[-1]["captured_at_s"] if found else 0.0 for found in newest)

    def wait_for_score(self, since_s: float) -> float:
        """Seconds from then on until every camera has a score of a frame captured later."""
        while self.newest() <= since_s:
            if time.time() - since_s > GIVE_UP_S or self.process.poll() is not None:
                raise SystemExit(f"no score came: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)
        return time.time() - since_s

    def actors(self, kind: str) -> list[psutil.Process]:
        """Processes of a kind of actor."""
        everyone = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in everyone if kind in " ".join(_command(process)[:1])]

    def end(self) -> None:
        """End it in good order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30.0)


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def _role(process: psutil.Process) -> str:
    words = " ".join(_command(process)[:6])
    return next((role for part, role in NAMES.items() if part in words), "other")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _anonymous_mb(process: psutil.Process) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Anonymous:"):
                return 1024 * int(line.split()[1]) / 1e6
    return 0.0


def footprint(root: int, seconds: float) -> dict[str, dict[str, float]]:
    """CPU (percent of one core) and memory (PSS and anonymous, 10^6 bytes) of a process and all below it, by role."""
    everyone = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    before = {process: _cpu_s(process) for process in everyone if process.is_running()}
    time.sleep(seconds)
    found: dict[str, dict[str, float]] = defaultdict(
        lambda: {"processes": 0, "cpu_percent": 0.0, "pss_mb": 0.0, "anonymous_mb": 0.0}
    )
    for process, cpu_s in before.items():
        with contextlib.suppress(psutil.Error):
            for role in (_role(process), "total"):
                found[role]["processes"] += 1
                found[role]["cpu_percent"] += 100.0 * (_cpu_s(process) - cpu_s) / seconds
            pss_mb, anonymous_mb = process.memory_full_info().pss / 1e6, _anonymous_mb(process)
            for role in (_role(process), "total"):
                found[role]["pss_mb"] += pss_mb
                found[role]["anonymous_mb"] += anonymous_mb
    return {role: {key: round(value, 1) for key, value in of.items()} for role, of in sorted(found.items())}


def measure(tree: Path, config: dict[str, Any], folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Start, take-over with and without a spare detector, and cost while streaming and while paused."""
    found: dict[str, Any] = {}
    with _streaming(tree, config, folder, spare=1) as stream:
        found["first_score_s"] = [round(stream.wait_for_score(stream.started_at), 2)]
        early = [score["latency_s"] for camera in CAMERAS for score in read_scores(stream.url, camera, count=10)]
        found["oldest_of_the_first_frames_s"] = round(max(early), 2)
        time.sleep(15.0)
        found["streaming"] = footprint(stream.process.pid, MEASURED_S)
        found["dropped"] = {name: status["dropped"] for name, status in read_statuses(stream.url).items()}
        for camera in CAMERAS:
            subprocess.run(
                [str(tree / ".venv/bin/python"), str(tree / "run_cluster.py"), "cameras", "pause", camera, "--config",
                 str(folder / "cameras.yaml")], check=True, capture_output=True, timeout=60.0,
            )  # fmt: skip
        time.sleep(3.0)
        found["paused"] = footprint(stream.process.pid, MEASURED_S)
    for name, spare, kind in (
        ("spare", 1, "DetectorActor"),
        ("no spare", 0, "DetectorActor"),
        ("scorer", 0, "ScorerActor"),
    ):
        with _streaming(tree, config, folder, spare=spare) as stream:
            found["first_score_s"].append(round(stream.wait_for_score(stream.started_at), 2))
            time.sleep(12.0 if spare else 3.0)  # the spare one loads
            found[f"back_after_a_kill_s, {name}"] = [_kill(stream, kind) for _ in range(arguments.kills)]
    return found


def _kill(stream: Stream, kind: str) -> float:
    """Kill the busiest actor of a kind; seconds until every camera has a score of a frame captured later."""
    processes = stream.actors(kind)
    before = {process: _cpu_s(process) for process in processes}
    time.sleep(2.0)
    busiest = max(processes, key=lambda process: _cpu_s(process) - before[process])
    os.kill(busiest.pid, signal.SIGKILL)
    back_s = round(stream.wait_for_score(time.time()), 2)
    time.sleep(12.0)  # a new one takes the dead one's place
    return back_s


def watch(tree: Path, config: dict[str, Any], folder: Path, minutes: float) -> dict[str, Any]:
    """Memory by role, every minute."""
    samples = []
    with _streaming(tree, config, folder, spare=1) as stream:
        stream.wait_for_score(stream.started_at)
        started = time.monotonic()
        while (passed_s := time.monotonic() - started) < 60.0 * minutes:
            time.sleep(min(60.0, 60.0 * minutes - passed_s) if samples else 5.0)
            found = footprint(stream.process.pid, 1.0)
            minute = round((time.monotonic() - started) / 60, 1)
            samples.append({"minute": minute, **{key: {role: of[key] for role, of in found.items()} for key in MEMORY}})
            print(samples[-1], flush=True)
        statuses = read_statuses(stream.url)
    settled = [sample for sample in samples if 60.0 * sample["minute"] >= SETTLED_AFTER_S] or samples
    halves = settled[: len(settled) // 2 or 1], settled[len(settled) // 2 :]
    medians = {
        key: {
            role: [round(statistics.median(sample[key].get(role, 0.0) for sample in half), 1) for half in halves]
            for role in settled[0][key]
        }
        for key in MEMORY
    }
    return {
        "minutes": minutes,
        "scored": {name: status["scored"] for name, status in statuses.items()},
        "dropped": {name: status["dropped"] for name, status in statuses.items()},
        "medians_of_the_halves": medians,
        "samples": samples,
    }


@contextmanager
def _streaming(tree: Path, config: dict[str, Any], folder: Path, *, spare: int) -> Iterator[Stream]:
    """A stream into an empty folder."""
    number = len(list(folder.glob("run-*")))
    output = folder / f"run-{number}"
    with EmbeddedRedis(folder / f"redis-{number}") as url:
        sections = {"redis": {"url": url}, "output": {"folder": str(output)}, "runtime": {"spare_detectors": spare}}
        path = folder / "cameras.yaml"
        path.write_text(yaml.safe_dump({**config, **sections}))
        stream = Stream(tree, path, url, folder / f"log-{number}.txt")
        try:
            yield stream
        finally:
            stream.end()


def _model(folder: Path) -> Path:
    clips = []
    for number, camera in enumerate(CAMERAS):
        url = str(encode(folder / f"{camera}_train.mp4", fps=STREAM_FPS, skip=100 * number, seconds=5))
        clips.append(Clip(f"{camera}_001", camera, url, 5 * STREAM_FPS))
    settings = parse_config({"model": MODEL, "training": TRAINING})
    train(settings, Dataset("stc", folder, tuple(clips), ()), folder / "model")
    return folder / "model"


def main() -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.0, help="how long to watch memory")
    parser.add_argument("--kills", type=int, default=3, help="of each kind of actor")
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parent.parent, help="checkout to measure")
    parser.add_argument("--only-watch", action="store_true", help="no start, take-over and cost")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = {c: encode(folder / f"{c}.mp4", fps=STREAM_FPS, skip=60 * n) for n, c in enumerate(CAMERAS)}
        model = _model(folder)
        with RtspServer(videos) as server:
            cameras = [{"id": camera, "url": server.url(camera)} for camera in CAMERAS]
            config = {
                "model_folder": str(model), "camera_defaults": {"sample_fps": SAMPLE_FPS}, "cameras": cameras,
            }  # fmt: skip
            found: dict[str, Any] = {}
            if not arguments.only_watch:
                found |= measure(arguments.tree, config, folder, arguments)
                print(json.dumps(found, indent=2), flush=True)
            if arguments.minutes:
                found["growth"] = watch(arguments.tree, config, folder, arguments.minutes)
    measured = ["git", "-C", str(arguments.tree), "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(measured, capture_output=True, text=True, check=False).stdout.strip()
    store({"benchmark": "footprint", **describe(), "measured_commit": commit, **found})


if __name__ == "__main__":
    main()
