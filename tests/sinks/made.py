"""Scores and alerts as the scorer makes them, and a real Redis that can be stopped, killed and frozen."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import redis

from pipeline.alerts import Alert, Event, Notice, Region
from pipeline.sinks.embedded_redis import find_server
from pipeline.sinks.redis_stream import RedisSink
from pipeline.sinks.run_store import RunStore
from pipeline.types import FrameHeader, Score

START_S = 1_700_000_000.0


def header(index: int, *, camera_id: str = "gate", session: int = 0, captured_at_s: float | None = None) -> FrameHeader:
    captured_at_s = START_S + 100 * session + index / 10 if captured_at_s is None else captured_at_s
    return FrameHeader(camera_id, session, index, 9000 * index, Fraction(1, 90_000), captured_at_s)


def score(index: int, *, map_shape: tuple[int, int] | None = None, scored_at_s: float | None = None, **of_header):
    head = header(index, **of_header)
    scored_at_s = head.captured_at_s + 0.125 if scored_at_s is None else scored_at_s
    anomaly_map = None
    if map_shape is not None:
        anomaly_map = np.random.default_rng(index).random(map_shape).astype(np.float16)
    return Score(
        header=head,
        anomaly_score=index + 0.1,
        smoothed_score=51.0 if index % 3 == 0 else 50.0,
        p_value=1 / (index + 1),
        threshold=50.5,
        close_threshold=50.25 if index else 50.125,
        scored_at_s=scored_at_s,
        latency_s=scored_at_s - head.captured_at_s,
        event_id=f"{head.camera_id}-1700000000000-{head.session}-0" if index % 3 == 0 else None,
        event_start_s=0.0 if index % 3 == 0 else None,
        anomaly_map=anomaly_map,
        paired=index > 0,
        common_surprise=index / 4,
        model="abc",
        withheld=("pager",) if index % 3 == 0 else (),
        event_stretch=1 + index // 6 if index % 3 == 0 else None,
        suppressed="light" if index % 5 == 1 else "",
    )


def alert(number: int, kind="update", *, camera_id: str = "gate", emitted_at_s: float | None = None) -> Alert:
    event = Event(
        event_id=f"{camera_id}-1700000000000-0-0",
        camera_id=camera_id,
        session=0,
        start_s=1.5,
        end_s=9.5 if kind == "end" else None,
        started_at_s=START_S,
        peak_score=float(number),
        peak_at_s=START_S + 1,
        peak_index=number,
        threshold=50.5,
        region=Region(0.25, 0.5, 0.75, 1.0),
        started_local="2023-11-14T23:13:20+01:00",
        peak_p_value=0.125,
        peak_smoothed=51.5,
        thresholds="0123456789ab",
        expected_per_hour=0.5,
        provisional=True,
        once_in_h=24.0,
        severity="medium",
        zone="yard",
        channel="motion",
        stretches=2,
        ended="over" if kind == "end" else None,
    )
    return Alert(event, kind, START_S if emitted_at_s is None else emitted_at_s)


def notice(kind="camera_offline", *, camera_id: str | None = "gate", until_at_s: float | None = None) -> Notice:
    return Notice(
        kind=kind,
        event_id=f"{camera_id or 'run'}-{kind}-1700000000000",
        camera_id=camera_id,
        reason="no frame for 10 s",
        since_at_s=START_S - 10,
        until_at_s=until_at_s,
        emitted_at_s=START_S,
    )


def as_killed(store_file: Path, folder: Path) -> Path:
    """What SIGKILL would leave at this moment of a store that is open: the same bytes, in another folder."""
    folder.mkdir(parents=True)
    for path in store_file.parent.glob(f"{store_file.name}*"):
        shutil.copyfile(path, folder / path.name)
    return folder / store_file.name


class WithStore:
    """Goes before a kind of sink that sends alerts: it brings its ``store``, and closes it."""

    store: RunStore

    def send(self, *alerts) -> None:
        self.store.commit({}, alerts)
        self.wake()

    def close(self, timeout_s: float = 10.0) -> None:
        super().close(timeout_s)
        self.store.close()


class SinkWithStore(RedisSink):
    """A sink and its store, written to in the scorer's order."""

    def __init__(self, url: str, folder: Path, *, run: str = "run", alerts_capacity: int = 50_000, **arguments) -> None:
        self.store = RunStore(folder / "run.sqlite", run, ["redis"], alerts_capacity=alerts_capacity)
        super().__init__(url, alerts=self.store.alerts("redis"), **arguments)

    def write(self, scores, alerts=()) -> None:
        self.store.commit({}, alerts)
        super().write(scores)
        self.wake()

    def close(self, *arguments, **named) -> None:
        super().close(*arguments, **named)
        self.store.close()


def is_up(client: redis.Redis) -> bool:
    """Whether a server answers, if only that it wants a password."""
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.ConnectionError:
        return False


class Server:
    """A Redis at one address, whatever happens to it; every write is on disk before it is answered."""

    def __init__(self, folder: Path, *options: str, binary: Path | None = None) -> None:
        self.folder = folder
        self.options = options
        self.binary = binary
        self.sockets = Path(tempfile.mkdtemp(prefix="cflow-test-"))
        self.url = f"unix://{self.sockets}/r.sock"
        self.process: subprocess.Popen | None = None

    def start(self, *, until_it_answers: bool = True) -> None:
        self.process = subprocess.Popen(
            [
                str(self.binary or find_server()),
                *("--port", "0", "--unixsocket", f"{self.sockets}/r.sock", "--dir", str(self.folder), "--save", ""),
                *("--appendonly", "yes", "--appendfsync", "always", *self.options),
            ],
            stdout=subprocess.DEVNULL,
        )
        if until_it_answers:
            wait_until(self.answers)

    def answers(self) -> bool:
        return is_up(self.client())

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5)

    def kill(self, kind: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(kind)
            self.process.wait(10)
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        # Stopped only once the kernel says so; the signal itself returns at once.
        wait_until(lambda: Path(f"/proc/{self.process.pid}/stat").read_text().split(") ")[1][0] == "T")

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.sockets, ignore_errors=True)


def wait_until(happened, timeout_s: float = 60.0) -> None:
    """Return as soon as something is so; fail when it never is."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z" and os.kill(pid, 0) is None
    except (ProcessLookupError, FileNotFoundError):
        return False
