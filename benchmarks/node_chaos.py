"""Nodes of a cluster on this machine that die and are replaced, while a run goes on over them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from actors.cluster import ray_cluster
from actors.ray_settings import environment
from benchmarks.chaos import Fault
from tests.cluster.nodes import FAST_HEALTH_CHECKS, Nodes, ray_nodes


class NodeChaos:
    """Kills one node after the other with all that runs on it, the oldest first, and starts another in its place.

    Args:
        nodes: the cluster; its head runs already.
        folder: for temporary folders of the nodes, one each, as machines have.
        workers: nodes beside the head.
    """

    def __init__(self, nodes: Nodes, folder: Path, workers: int) -> None:
        self.faults: list[Fault] = []
        self._nodes, self._folder = nodes, folder
        self._numbers = itertools.count()
        self._workers = [self._add() for _ in range(workers)]
        self._replacing: threading.Thread | None = None

    def strike(self) -> Fault:
        """Kill a node; another one joins some seconds later."""
        if self._replacing is not None:
            self._replacing.join()
        fault = Fault("lose a node", time.time())
        self._nodes.kill(self._workers.pop(0))
        fault.ended_at_s = time.time()
        self.faults.append(fault)
        self._replacing = threading.Thread(target=lambda: self._workers.append(self._add()), daemon=True)
        self._replacing.start()
        return fault

    def _add(self) -> str:
        name = f"worker-{next(self._numbers)}"
        temporary = self._folder / name
        temporary.mkdir(parents=True)
        self._nodes.add(name, TMPDIR=str(temporary))
        return name


@contextmanager
def node_chaos(folder: Path, workers: int, *, slow_health_checks: bool = False) -> Iterator[NodeChaos]:
    """Have a cluster with so many nodes beside its head, which this process has joined.

    Args:
        folder: for what nodes write.
        workers: nodes beside the head.
        slow_health_checks: whether the head looks as rarely as Ray does by itself, and not as in ``configs/cluster``.
    """
    home = folder / "home"
    home.mkdir()
    with ExitStack() as stack:
        nodes = stack.enter_context(ray_nodes(home, head_variables={} if slow_health_checks else FAST_HEALTH_CHECKS))
        stack.enter_context(environment({name: nodes.environment[name] for name in ("HOME", "RAY_AUTH_MODE")}))
        nodes.start_head(labels="cflow/role=state")
        stack.enter_context(ray_cluster(nodes.address))
        yield NodeChaos(nodes, folder / "nodes", workers)
