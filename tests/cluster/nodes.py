"""A Ray cluster of several nodes on this machine, each of which can be killed like a machine."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_RAY = Path(sys.executable).with_name("ray")
_START_WITHIN_S = 120.0
# A node that is lost is noticed within 3 s, as in the cluster configs that come with the program.
FAST_HEALTH_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass
class Node:
    """One node, and the processes of it that its ``ray start`` left."""

    name: str
    starter: subprocess.Popen[bytes]

    def processes(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            starter = psutil.Process(self.starter.pid)
            return [*starter.children(recursive=True), starter]
        return []

    def kill(self) -> None:
        """All at once, as when its power fails."""
        doomed = self.processes()
        for process in doomed:
            with suppress(psutil.Error):
                process.suspend()  # or those who are killed last would notice
        for process in doomed:
            with suppress(psutil.Error):
                process.kill()
        self.starter.wait()
        psutil.wait_procs(doomed, timeout=10.0)


@dataclass
class Nodes:
    """The cluster; ``environment`` is for commands that have its token."""

    home: Path
    folder: Path
    port: int
    client_port: int
    environment: dict[str, str]
    head_variables: Mapping[str, str] = field(default_factory=dict[str, str])
    nodes: dict[str, Node] = field(default_factory=dict[str, Node])

    @property
    def address(self) -> str:
        host = this_address()
        return f"{host}:{self.port}"

    def start_head(self, *, cpus: int = 2, labels: str = "") -> None:
        """Start the head, or start it again on its port."""
        options = ["--head", f"--port={self.port}", "--include-dashboard=false"]
        options.append(f"--ray-client-server-port={self.client_port}")
        # Ray would take other nodes on this machine for a head that runs.
        (self.folder / "head" / "ray_current_cluster").unlink(missing_ok=True)
        self._start("head", options, cpus, labels, self.head_variables)

    def add(self, name: str, *, cpus: int = 2, labels: str = "", **variables: str) -> Node:
        """Start a node and wait until it has joined. ``labels``: as ``ray start`` takes them."""
        return self._start(name, [f"--address={self.address}"], cpus, labels, variables)

    def kill(self, name: str) -> None:
        """Kill a node with everything on it."""
        self.nodes.pop(name).kill()

    def _start(self, name: str, options: list[str], cpus: int, labels: str, variables: Mapping[str, str]) -> Node:
        command = [_RAY, "start", *options, f"--num-cpus={cpus}", "--object-store-memory=100000000", "--block"]
        command += [f"--labels={labels}"] if labels else []
        # In one folder two nodes would unpack the code that is sent at once, and an actor may find half of it.
        command.append(f"--temp-dir={self.folder / name}")
        log = self.home / f"ray-{name}.txt"
        with log.open("w") as said:
            starter = subprocess.Popen(
                command, stdout=said, stderr=said, env={**self.environment, **variables}, umask=0o022
            )
        self.nodes[name] = Node(name, starter)
        give_up_at = time.monotonic() + _START_WITHIN_S
        while "--block" not in log.read_text():
            assert time.monotonic() < give_up_at and starter.poll() is None, log.read_text()
            time.sleep(0.1)
        return self.nodes[name]

    def stop(self) -> None:
        for node in self.nodes.values():
            node.kill()


def this_address() -> str:
    """The address by which Ray knows this machine, whatever Ray this process is connected to."""
    from ray._private import services

    return services.node_ip_address_from_perspective(None)


@contextmanager
def ray_nodes(home: Path, *, head_variables: Mapping[str, str] = FAST_HEALTH_CHECKS) -> Iterator[Nodes]:
    """An empty cluster that asks for a token; ``start_head`` comes first.

    ``home`` is the folder where its owner has the token, and logs; ``head_variables`` are the head's alone.
    """
    folder = Path("/tmp") / f"rn{secrets.token_hex(2)}"  # short, since sockets are made in it
    environment = {**os.environ, "HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}
    subprocess.run([_RAY, "get-auth-token", "--generate"], check=True, capture_output=True, env=environment)
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as second:
        port, client_port = free.getsockname()[1], second.getsockname()[1]
    nodes = Nodes(home, folder, port, client_port, environment, head_variables)
    try:
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)
