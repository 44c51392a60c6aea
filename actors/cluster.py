"""Joining or starting Ray, and the one ``ray.remote`` of the project."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.joined_ray import joined_ray
from actors.local_ray import local_ray, signals_left_alone
from pipeline.signals import kept_handlers

NAMESPACE = "cflow-stream"
_ON_NODES_WITHIN_S = 60.0


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Join a running Ray cluster, or start one on this machine that ends with the block.

    A process that is connected already stays so, before and after.

    Args:
        address: of the running cluster's head (``host:port``, or ``auto``); None starts a local one.

    Raises:
        BadInputError: no cluster is there that takes this process in.
        RunError: a local Ray did not start, or would be open to others.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common = {"namespace": NAMESPACE, "log_to_driver": False, "configure_logging": False}
    with ExitStack() as stack:
        with kept_handlers(signal.SIGTERM), signals_left_alone():
            stack.enter_context(local_ray(**common) if address is None else joined_ray(address, **common))
        yield


def on_every_node(task: Callable[..., object], *arguments: Any) -> None:
    """Run a function once on each living node of the cluster that this process has joined; errors are passed over."""
    tasks = [
        ray.remote(task)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(*arguments)
        for node in ray.nodes()
        if node["Alive"]
    ]
    ray.wait(tasks, num_returns=len(tasks), timeout=_ON_NODES_WITHIN_S)


def actor_class(plain: type, options: Mapping[str, Any]) -> Any:
    """A plain class as a Ray actor class; ``Any`` because Ray types only what its decorator syntax gives."""
    return ray.remote(**options)(plain)
