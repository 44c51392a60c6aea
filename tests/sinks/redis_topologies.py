"""A real Redis Cluster, and a real master with replicas that a real Sentinel watches, on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from redis.crc import key_slot

from pipeline.sinks.embedded_redis import find_server
from tests.sinks.made import is_up, wait_until

_FAILS_AFTER_MS = 500  # without an answer; then a replica takes over
_BUS = 10_000  # a node of a Cluster listens on its port and on this one above it
_LOWEST_PORT, _HIGHEST_PORT = 20_000, 30_000  # below those that the kernel gives away by itself
_SLOTS = 16_384


class Node:
    """One server of several, on a port of its own.

    Args:
        folder: for its data and its configuration.
        options: of its command line.
        config: what stands in its configuration.
    """

    def __init__(self, folder: Path, *options: str, config: str = "") -> None:
        folder.mkdir()
        self.port = _free_port()
        config_file = folder / "redis.conf"
        config_file.write_text(config)
        self._command = [str(find_server()), str(config_file), "--port", str(self.port), "--dir", str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_until(self.answers)

    def answers(self) -> bool:
        return is_up(self.client())

    def client(self, password: str | None = None) -> redis.Redis:
        return redis.Redis(port=self.port, password=password, decode_responses=True, socket_timeout=5)

    def send(self, kind: int) -> None:
        assert self._process is not None
        self._process.send_signal(kind)

    def kill(self) -> None:
        if self._process is not None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
            self._process.wait(10)
            self._process = None


def _node(folder: Path, *options: str) -> Node:
    return Node(folder, "--save", "", "--repl-diskless-sync-delay", "0", *options)


@contextmanager
def cluster(masters: int = 2, *, replica_of: str | None = None) -> Iterator[list[Node]]:
    """A Cluster: masters with equal parts of the slots.

    Args:
        masters: how many; of three or more, the others let a replica take over.
        replica_of: a key; its master gets a replica, which comes last.
    """
    folder = Path(tempfile.mkdtemp(prefix="cflow-test-"))
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(_FAILS_AFTER_MS))
    share = -(-_SLOTS // masters)
    nodes: list[Node] = []
    try:
        for number in range(masters if replica_of is None else masters + 1):
            node = _node(folder / str(number), *options)
            nodes.append(node)
            node.client().execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            node.client().execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
            if number < masters:
                slots = range(number * share, min((number + 1) * share, _SLOTS))
                node.client().execute_command("CLUSTER ADDSLOTS", *slots)
        for node in nodes:
            wait_until(lambda node=node: node.client().cluster("INFO")["cluster_state"] == "ok")
            wait_until(lambda node=node: len(node.client().cluster("NODES")) == len(nodes))
        if replica_of is not None:
            master_id = nodes[key_slot(replica_of.encode()) // share].client().execute_command("CLUSTER MYID")
            nodes[-1].client().execute_command("CLUSTER REPLICATE", master_id)
            wait_until(lambda: nodes[-1].client().info("replication")["master_link_status"] == "up")
        yield nodes
    finally:
        _remove(nodes, folder)


def holder(nodes: list[Node], key: str) -> Node:
    """The master of a key, by what the first node says."""
    slot = key_slot(key.encode())
    ranges = nodes[0].client().execute_command("CLUSTER SLOTS")
    port = next(master[1] for first, last, master, *_ in ranges if first <= slot <= last)
    return next(node for node in nodes if node.port == port)


def cluster_url(nodes: list[Node]) -> str:
    return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"


@contextmanager
def sentinel(password: str = "") -> Iterator[tuple[str, list[Node]]]:
    """A master, as ``mymaster``, and its replica, and the address of the Sentinel that watches them.

    Args:
        password: what the Sentinel wants.
    """
    folder = Path(tempfile.mkdtemp(prefix="cflow-test-"))
    nodes: list[Node] = []
    try:
        nodes.append(_node(folder / "0"))
        nodes.append(_node(folder / "1", "--replicaof", "127.0.0.1", str(nodes[0].port)))
        wait_until(lambda: nodes[1].client().info("replication")["master_link_status"] == "up")
        config = (
            f"sentinel monitor mymaster 127.0.0.1 {nodes[0].port} 1\n"
            f"sentinel down-after-milliseconds mymaster {_FAILS_AFTER_MS}\n"
            "sentinel failover-timeout mymaster 2000\n"
        )
        if password:
            config += f"requirepass {password}\n"
        nodes.append(Node(folder / "2", "--sentinel", config=config))
        watcher = nodes[2].client(password or None)
        wait_until(lambda: watcher.sentinel_master("mymaster")["num-slaves"] == 1)
        yield f"redis+sentinel://127.0.0.1:{nodes[2].port}/mymaster/0", nodes[:2]
    finally:
        _remove(nodes, folder)


def _remove(nodes: list[Node], folder: Path) -> None:
    for node in nodes:
        node.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    """A port that nobody listens on, nor on the one that a Cluster's node wants above it."""
    for port in range(_LOWEST_PORT + os.getpid() % 1000 * 9, _HIGHEST_PORT):  # tests may run in several processes
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + _BUS))
            return port
    raise OSError("no port is free")
