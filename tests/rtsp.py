"""Live cameras for tests: a real RTSP server in a process of its own, which can be killed, frozen and made to fail."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.videos import write_video

PYTHON = Path("/usr/bin/python3")  # Debian's: the bindings come with it, not from a package registry
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
_SERVER = Path(__file__).with_name("rtsp_server.py")
_PROBE = """
import gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
missing = [n for n in ("appsrc", "qtdemux", "rtph264pay", "h264parse") if Gst.ElementFactory.find(n) is None]
raise SystemExit(f"no {missing}" if missing else 0)
"""
_ANSWER_WITHIN_S = 120.0
FPS = 25


@functools.cache
def missing_packages() -> str | None:
    """Why no RTSP server can be started here; None when one can."""
    if not PYTHON.exists():
        return f"the RTSP server needs {PYTHON}"
    probe = subprocess.run([PYTHON, "-c", _PROBE], capture_output=True, text=True, check=False, timeout=60.0)
    if probe.returncode == 0:
        return None
    reason = (probe.stderr.strip().splitlines() or ["?"])[-1]
    return f"the RTSP server needs apt-get install {PACKAGES} ({reason})"


def require_rtsp() -> None:
    """Skip the calling test where no RTSP server can be started, saying why; fail where skips are not tolerated."""
    if reason := missing_packages():
        (pytest.fail if os.environ.get("CFLOW_NO_SKIPS") == "1" else pytest.skip)(reason)


def write_footage(path: Path, *, seconds: float = 4.0, gop: int = 10, size_px: tuple[int, int] = (64, 96)) -> Path:
    """Numbered frames at 25 per second, with a keyframe every ``gop``; the server plays them round and round."""
    return write_video(path, round(seconds * FPS), fps=FPS, gop=gop, size_px=size_px)


class RtspServer:
    """Cameras that a reader cannot tell from real ones.

    Args:
        videos: by camera name, the mp4 (or mov) that it films, over and over; ``gate+video+sound`` is a camera ``gate``
            with these tracks (see ``rtsp_server.py``).
        port: where to listen; 0 takes any.
        password: user, password and ``basic`` or ``digest``; None lets everybody in.
        repeats: parameter sets, or else delimiters, come before every slice of a picture, not only before the first.
        address: where to listen.
        transport: ``udp`` or ``tcp``, if it offers only one.
    """

    def __init__(
        self,
        videos: dict[str, Path],
        *,
        port: int = 0,
        password: tuple[str, str, str] | None = None,
        repeats: bool = False,
        address: str = "127.0.0.1",
        transport: str | None = None,
    ) -> None:
        self._videos, self._password, self._repeats = videos, password, repeats
        self._address, self._transport = address, transport
        self.port = port
        self._process = self._start()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def url(self, camera: str, *, port: int | None = None, credentials: str = "") -> str:
        """Address of a camera.

        Args:
            camera: its name.
            port: of a proxy in front of the server.
            credentials: ``user:password``.
        """
        host = f"[{self._address}]" if ":" in self._address else self._address
        return f"rtsp://{credentials}{'@' if credentials else ''}{host}:{port or self.port}/{camera}"

    def command(self, *words: object) -> None:
        """Give a command of ``rtsp_server.py`` and wait until it is obeyed."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        assert self._answer() == {"done": [str(word) for word in words]}

    def kill(self) -> None:
        """Kill it, as a power cut does."""
        self._process.kill()
        self._process.wait(10.0)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def restart(self) -> None:
        """Start it again on the same port."""
        self._process = self._start()

    def freeze(self) -> None:
        """Stop the process where it is; its connections stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        self._process.send_signal(signal.SIGCONT)

    def _start(self) -> subprocess.Popen[str]:
        password = ["--password", *self._password] if self._password else []
        repeat = ["--repeat"] if self._repeats else []
        transport = ["--transport", self._transport] if self._transport else []
        cameras = [f"{name}={path}" for name, path in self._videos.items()]
        listens = ["--port", str(self.port), "--address", self._address]
        self._process = subprocess.Popen(
            [str(PYTHON), str(_SERVER), *listens, *transport, *password, *repeat, *cameras],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._answer()["port"])
        return self._process

    def _answer(self) -> dict[str, Any]:
        """The server's next line; it says nothing unasked, so that nothing is left in Python's own buffer."""
        pipe = self._process.stdout
        assert pipe is not None
        ready, _, _ = select.select([pipe], [], [], _ANSWER_WITHIN_S)
        assert ready, f"expected an answer of the RTSP server within {_ANSWER_WITHIN_S:g} s, got none"
        line = pipe.readline()
        assert line, f"expected an answer of the RTSP server, got its end: {self._process.poll()}"
        return json.loads(line)
