"""What breaks a soaked run: real actors, streams and Redis, killed, frozen, stalled and corrupted in a seeded order."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.rtsp import RtspServer


class RedisServer:
    """A real redis-server on one port that keeps what it acknowledged, and can be stopped, killed and frozen."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "soak.sock"
        self._command = [
            *("redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"),
        ]
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, with what an earlier one kept."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, start_new_session=True)

    def end(self, number: int) -> None:
        """Send a signal and wait for its end."""
        self.process.send_signal(number)
        self.process.wait(10.0)


@dataclass
class Fault:
    """One thing that broke.

    Attributes:
        kind: what.
        began_at_s: Unix time.
        ended_at_s: Unix time at which its cause was gone.
        recovered_s: after its end, by camera; absent while the camera has not scored a newer frame.
    """

    kind: str
    began_at_s: float
    ended_at_s: float = 0.0
    recovered_s: dict[str, float] = field(default_factory=dict)


class Chaos:
    """Breaks one thing after the other, in a seeded order in which every kind comes before any comes twice."""

    def __init__(self, rtsp: RtspServer, redis: RedisServer, cameras: list[str], seed: int) -> None:
        self._rtsp, self._redis, self._cameras = rtsp, redis, cameras
        self._random = random.Random(seed)
        self._bag: list[str] = []
        self.faults: list[Fault] = []
        self._kinds: dict[str, Callable[[float], None]] = {
            "kill camera actor": lambda _: _kill_actor("CameraActor", self._random),
            "kill detector": lambda _: _kill_actor("DetectorActor", self._random),
            "kill scorer": lambda _: _kill_actor("ScorerActor", self._random),
            "freeze RTSP server": self._freeze_rtsp,
            "restart RTSP server": self._restart_rtsp,
            "drop RTSP clients": lambda _: rtsp.command("drop"),
            "stall a stream": self._stall,
            "corrupt a stream": lambda _: rtsp.command("corrupt", self._camera(), 10),
            "truncate a stream": lambda _: rtsp.command("cut", self._camera(), 10),
            "stop and restart Redis": lambda s: self._stop_redis(signal.SIGTERM, s),
            "kill and restart Redis": lambda s: self._stop_redis(signal.SIGKILL, s),
            "freeze Redis": self._freeze_redis,
        }

    def strike(self) -> Fault:
        """Break something and mend it."""
        if not self._bag:
            self._bag = list(self._kinds)
            self._random.shuffle(self._bag)
        fault = Fault(self._bag.pop(), time.time())
        self._kinds[fault.kind](self._random.uniform(1.0, 4.0))
        fault.ended_at_s = time.time()
        self.faults.append(fault)
        return fault

    def _camera(self) -> str:
        return self._random.choice(self._cameras)

    def _freeze_rtsp(self, lasting_s: float) -> None:
        self._rtsp.freeze()
        time.sleep(lasting_s)
        self._rtsp.thaw()

    def _restart_rtsp(self, lasting_s: float) -> None:
        self._rtsp.kill()
        time.sleep(lasting_s)
        self._rtsp.restart()

    def _stall(self, lasting_s: float) -> None:
        camera = self._camera()
        self._rtsp.command("stall", camera)
        time.sleep(lasting_s)
        self._rtsp.command("resume", camera)

    def _stop_redis(self, number: int, lasting_s: float) -> None:
        self._redis.end(number)
        time.sleep(lasting_s)
        self._redis.start()

    def _freeze_redis(self, lasting_s: float) -> None:
        self._redis.process.send_signal(signal.SIGSTOP)
        time.sleep(lasting_s)
        self._redis.process.send_signal(signal.SIGCONT)


def role_of(process: psutil.Process) -> str:
    """``driver`` for this process, the class of an actor, else the name of the program."""
    if process.pid == psutil.Process().pid:
        return "driver"
    line = " ".join(process.cmdline()) or process.name()
    if line.startswith("ray::"):
        return line.removeprefix("ray::").split(".")[0].split(":")[0].split()[0]
    return Path(line.split()[0]).name


def _kill_actor(kind: str, chooser: random.Random) -> None:
    found = [p for p in psutil.Process().children(recursive=True) if _safe_role(p) == kind]
    if found:
        chooser.choice(sorted(found, key=lambda process: process.pid)).kill()


def _safe_role(process: psutil.Process) -> str:
    try:
        return role_of(process)
    except psutil.Error:
        return ""
