"""The nodes of a cluster, and which of them do what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["decode", "detect", "state"]
ROLE_LABEL = "cflow/role"


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A living node.

    Attributes:
        id: Ray's, in hex digits.
        cpus: that it offers.
        gpus: that it offers.
        role: what it is for, as its label says; empty where it has none.
        draining: whether it is about to leave.
    """

    id: str
    cpus: float = 1.0
    gpus: float = 0.0
    role: str = ""
    draining: bool = False


def nodes_for(role: Role, nodes: Sequence[ClusterNode]) -> tuple[ClusterNode, ...]:
    """The nodes on which that is done: those that are labelled for it, else those without a label, else any.

    Args:
        role: what is to be done.
        nodes: the living nodes; one that is about to leave is taken only where all are.
    """
    staying = [node for node in nodes if not node.draining] or nodes
    labelled = [node for node in staying if node.role == role]
    return tuple(labelled or [node for node in staying if not node.role] or staying)
