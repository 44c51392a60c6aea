"""The nodes of the Ray cluster that this process has joined."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import ray
from ray._private.state import state

from pipeline.redaction import redact
from pipeline.runtime.nodes import ROLE_LABEL, ClusterNode

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_END_WITHIN_S = 3.0


class NodeWatch:
    """The nodes as of a moment ago. The head may be long in answering: a thread asks it, and nobody waits.

    Args:
        look: asks it.

    Attributes:
        nodes: the living nodes.
    """

    def __init__(self, look: Callable[[], tuple[ClusterNode, ...]]) -> None:
        self._look = look
        self.nodes = look()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="nodes", daemon=True)

    def start(self) -> None:
        """Begin to look again and again."""
        self._thread.start()

    def end(self) -> None:
        """Look no more; Ray may end then."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(_END_WITHIN_S)

    def _watch(self) -> None:
        said = False
        while not self._over.wait(_LOOK_EVERY_S):
            try:
                self.nodes, said = self._look(), False
            except Exception as error:  # the head is away: without it nobody comes or goes
                if not said and not self._over.is_set():
                    reason = " ".join(redact(error).split())
                    _log.warning("which nodes the cluster has is not known at present: %s", reason)
                said = True


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
