"""Which detector takes from which camera process, as detectors die, come back and are added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LivingDetector:
    """What is known of a living detector.

    Attributes:
        current: whether it has taken over the newest assignment.
        holding: frames in it, by camera process; processes without frames may be absent.
    """

    current: bool
    holding: Mapping[str, int] = field(default_factory=dict[str, int])


class DetectorPool:
    """Deals camera processes out to living detectors; a process belongs to one at a time, which keeps frames in order.

    A process whose detector died goes at once to another, a spare one first. A process is moved away from a living
    detector only once that one holds none of its frames any more.

    Args:
        detectors: names of all detectors, spare ones included.
        active: how many of them are to work while all live.
    """

    def __init__(self, detectors: Sequence[str], active: int) -> None:
        self._detectors = tuple(detectors)
        self._active = active
        self._owners: dict[str, str] = {}
        self._moving: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()

    def saved(self) -> tuple[dict[str, str], dict[str, str], dict[str, int]]:
        """Camera process to its detector, to the detector that it is moved away from, to detectors that died."""
        return dict(self._owners), dict(self._moving), dict(self._deaths)

    def restore(self, owners: Mapping[str, str], moving: Mapping[str, str], deaths: Mapping[str, int]) -> None:
        """Go on from what ``saved`` gave."""
        self._owners, self._moving, self._deaths = dict(owners), dict(moving), Counter(deaths)

    def owner(self, process: str) -> str | None:
        """The detector that takes from a process; None while there is none."""
        return self._owners.get(process)

    def deaths(self, process: str) -> int:
        """How many detectors have died while they took from a process, or still held frames of it."""
        return self._deaths[process]

    def assign(self, processes: Sequence[str], alive: Mapping[str, LivingDetector]) -> dict[str, tuple[str, ...]]:
        """Decide who takes from whom now.

        Args:
            processes: names of all camera processes.
            alive: the detectors that live.

        Returns:
            Camera processes of every detector, living or not.
        """
        self._deaths.update(p for p, d in (*self._owners.items(), *self._moving.items()) if d not in alive)
        self._owners = {p: d for p, d in self._owners.items() if d in alive and p in processes}
        self._moving = {p: d for p, d in self._moving.items() if self._still_holds(p, alive.get(d))}
        if alive:
            for process in processes:
                if process not in self._owners and process not in self._moving:
                    self._owners[process] = self._least_busy(alive)
            self._rebalance(alive)
        return {d: tuple(p for p in processes if self._owners.get(p) == d) for d in self._detectors}

    def _still_holds(self, process: str, detector: LivingDetector | None) -> bool:
        return detector is not None and (not detector.current or detector.holding.get(process, 0) > 0)

    def _least_busy(self, alive: Mapping[str, LivingDetector]) -> str:
        return min(self._workers(alive), key=lambda detector: (self._load(detector), self._detectors.index(detector)))

    def _workers(self, alive: Mapping[str, LivingDetector]) -> list[str]:
        """Detectors that may be given something: those that work already, and as many others as are wanted."""
        living = [detector for detector in self._detectors if detector in alive]
        return sorted(living, key=lambda detector: self._load(detector) == 0)[: max(self._active, 1)]

    def _load(self, detector: str) -> int:
        return sum(owner == detector for owner in self._owners.values())

    def _rebalance(self, alive: Mapping[str, LivingDetector]) -> None:
        """Begin to move one process from the busiest to the least busy, where that evens them out."""
        if self._moving:
            return
        busiest = max(self._workers(alive), key=self._load)
        if self._load(busiest) - self._load(self._least_busy(alive)) >= 2:
            process = next(p for p, owner in self._owners.items() if owner == busiest)
            del self._owners[process]
            self._moving[process] = busiest
