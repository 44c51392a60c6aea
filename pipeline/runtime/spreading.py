"""Which detector is to make room for one on a node that has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence


class DetectorSpreading:
    """Spreads detectors over nodes that come later than they did, such as one in the place of a node that was lost.

    Each node is tried once: one that has had a detector, or was to get one, is not looked at again.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def update(self, nodes: Mapping[str, str], hosts: Sequence[str], load: Mapping[str, int]) -> tuple[str, str] | None:
        """Which detector is to go, and on which node another one is to come instead; None where that helps nobody.

        Args:
            nodes: of each detector, the id of its node.
            hosts: ids of the nodes for detectors.
            load: of each detector, how many cameras it has.
        """
        on_node = Counter(nodes.values())
        self._seen = (self._seen | on_node.keys()) & set(hosts)
        empty = next((host for host in hosts if host not in self._seen), None)
        crowded = _crowded(nodes, on_node.keys())
        if empty is None or not crowded:
            return None
        self._seen.add(empty)
        return min(crowded, key=lambda name: load[name]), empty


def _crowded(nodes: Mapping[str, str], there: Collection[str]) -> list[str]:
    """The detectors of the node that has most, where that is more than one."""
    by_node = [[name for name, node in nodes.items() if node == of] for of in there]
    return max((names for names in by_node if len(names) > 1), key=len, default=list[str]())
