"""The nodes of the Ray cluster that this process has joined."""

from __future__ import annotations

import ray
from ray._private.state import state

from pipeline.runtime.nodes import ROLE_LABEL, ClusterNode


def living_nodes() -> tuple[ClusterNode, ...]:
    """All of them, as the head knows them now; waits for its answer.

    A node that was lost is gone from here once it has failed the head's health checks.

    Raises:
        Exception: the head is away.
    """
    draining = state.get_draining_nodes()
    return tuple(
        ClusterNode(
            id=node["NodeID"],
            cpus=float(node["Resources"].get("CPU", 0.0)),
            gpus=float(node["Resources"].get("GPU", 0.0)),
            role=node["Labels"].get(ROLE_LABEL, ""),
            draining=node["NodeID"] in draining,
        )
        for node in ray.nodes()
        if node["Alive"]
    )
