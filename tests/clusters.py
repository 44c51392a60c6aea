"""A Ray cluster of one node that another process has started, as its owner would."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Cluster:
    """``environment`` is for commands that have its token."""

    address: str
    environment: dict[str, str]
    folder: Path


@contextmanager
def cluster(home: Path, *, cpus: int = 4):
    """A cluster that asks for a token, as SECURITY.md says how.

    ``home`` is the folder where its owner has the token.
    """
    temporary = Path("/tmp") / secrets.token_hex(2)  # short, since sockets are made in it
    environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}
    ray = Path(sys.executable).with_name("ray")
    subprocess.run([ray, "get-auth-token", "--generate"], check=True, capture_output=True, env=environment)
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as second:
        port, client_port = free.getsockname()[1], second.getsockname()[1]
    command = [ray, "start", "--head", f"--port={port}", "--include-dashboard=false", f"--num-cpus={cpus}", "--block"]
    command += [f"--temp-dir={temporary}", "--object-store-memory=100000000", f"--ray-client-server-port={client_port}"]
    with (home / "ray.txt").open("w") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env=environment, umask=0o022)
    everyone = [psutil.Process(head.pid)]
    try:
        give_up_at = time.monotonic() + 120.0
        while "--block" not in (said := (home / "ray.txt").read_text()):
            assert time.monotonic() < give_up_at and head.poll() is None, said
            time.sleep(0.1)
        found = re.search(rf"--address='([\d.]+:{port})'", said)
        yield Cluster(found[1], environment, temporary)
    finally:
        everyone += [
            child for process in everyone if process.is_running() for child in process.children(recursive=True)
        ]
        head.terminate()
        _, alive = psutil.wait_procs(everyone, timeout=10.0)
        for process in alive:
            process.kill()
        head.wait()
        shutil.rmtree(temporary, ignore_errors=True)
