"""Machines for ``ray up`` on one machine: an ``ssh`` on PATH runs each command here, with a home per host.

The hosts are loopback addresses. ``ray stop`` would end every Ray of this machine: this ``ssh`` ends its host's alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
HEAD, *WORKERS = HOSTS = ("127.0.0.10", "127.0.0.11", "127.0.0.12")
_PROGRAMS = Path(sys.executable).parent
_SSH = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(ROOT)!r})
words = sys.argv[1:]
while words[0].startswith("-"):
    words = words[2 if words[0] in ("-i", "-o", "-L", "-p", "-l") else 1:]
host, command = words[0].split("@")[-1], " ".join(words[1:]) or "true"
root = os.environ["RAY_UP_LAB"]
home = os.path.join(root, host)
os.makedirs(home, exist_ok=True)
if "ray stop" in command:
    from tests.cluster.ray_up_lab import end_host
    end_host(root, host)
    sys.exit()
bashrc = os.path.join(home, ".bashrc")
if not os.path.exists(bashrc):  # a login shell takes its PATH from the machine, which has another `ssh` and no `ray`
    open(bashrc, "w").write('export PATH="%s/bin:$PATH"\\n' % root)
os.environ.update(HOME=home, NODE_IP=host)
os.chdir(home)
os.execvp("bash", ["bash", "-c", command])
"""


@dataclass
class Lab:
    """``environment`` is that of the operator, who calls ``ray up`` in ``folder``."""

    root: Path
    folder: Path
    environment: dict[str, str]

    def call(self, *words: str, within_s: float = 240.0) -> str:
        """What a command said; it has to succeed."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, check=False, timeout=within_s,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def begin(self, log: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start a command that goes on; what it says is in ``log``."""
        with log.open("w") as said:
            return subprocess.Popen(
                words, cwd=self.folder, env=self.environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL
            )

    def home(self, host: str) -> Path:
        """The home of the user whom Ray is on that host."""
        return self.root / host

    def processes(self, host: str | None = None) -> list[psutil.Process]:
        """What runs on a host, or anywhere in the lab."""
        return _processes(str(self.root), host)

    def named(self, host: str, title: str) -> list[psutil.Process]:
        """Those of a host's processes whose name, or title as an actor, begins so."""
        found: list[psutil.Process] = []
        for process in self.processes(host):
            with suppress(psutil.Error):
                if process.name().startswith(title) or " ".join(process.cmdline()).startswith(title):
                    found.append(process)
        return found

    def lose(self, host: str) -> None:
        """Take the power from a host."""
        end_host(str(self.root), host)


def end_host(root: str, host: str | None) -> None:
    """End all processes of a host, none of which sees another one die; without a host those of all of them."""
    doomed = _processes(root, host)
    for process in doomed:
        with suppress(psutil.Error):
            process.suspend()
    for process in doomed:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(doomed, timeout=10.0)


def _processes(root: str, host: str | None) -> list[psutil.Process]:
    """By environment, and with all their children: Ray's workers write their title over their own environment."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables = process.environ()
            if variables.get("RAY_UP_LAB") == root and (host is None or variables.get("NODE_IP") == host):
                found |= {child.pid: child for child in process.children(recursive=True)} | {process.pid: process}
    mine = {os.getpid(), os.getppid()}
    return [process for pid, process in found.items() if pid not in mine]


@contextmanager
def ray_up_lab() -> Iterator[Lab]:
    """An operator's home with a token, an empty folder, and hosts that are there as soon as somebody asks for them."""
    root = Path("/tmp") / f"rl{secrets.token_hex(3)}"  # short, since sockets are made in it
    for name in ("bin", "home", "folder"):
        (root / name).mkdir(parents=True)
    (root / "bin" / "ssh").write_text(_SSH)
    (root / "bin" / "ssh").chmod(0o755)
    environment = {
        "HOME": str(root / "home"),
        "PATH": f"{root / 'bin'}:{_PROGRAMS}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TERM": "dumb",
        "RAY_UP_LAB": str(root),
        "RAY_UP_enable_autoscaler_v2": "0",
        "RAY_TMPDIR": str(root / "tmp"),
        "RAY_worker_niceness": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # as long as a node waits for a head that `ray down` has ended
    }
    lab = Lab(root, root / "folder", environment)
    try:
        yield lab
    finally:
        give_up_at = time.monotonic() + 30.0
        while lab.processes() and time.monotonic() < give_up_at:  # whoever was just starting is found then
            end_host(str(root), None)
        shutil.rmtree(root, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at present."""
    with_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in with_sockets]
    finally:
        for listener in with_sockets:
            listener.close()
