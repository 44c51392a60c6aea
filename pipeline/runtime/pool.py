"""Which detector takes from which camera process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TakenProcess:
    """What is known of a camera process that a detector is to take from.

    Attributes:
        cameras: how many it reads.
        node: id of its node; empty where that is not known.
    """

    cameras: int = 1
    node: str = ""


@dataclass(frozen=True, slots=True)
class LivingDetector:
    """What is known of a living detector.

    Attributes:
        current: whether it has taken over the newest assignment.
        holding: frames in it, by camera process; processes without frames may be absent.
        node: id of its node; empty where that is not known.
    """

    current: bool
    holding: Mapping[str, int] = field(default_factory=dict[str, int])
    node: str = ""


@dataclass(frozen=True, slots=True)
class SavedPool:
    """Who takes from whom.

    Attributes:
        active: how many detectors are to work while all live.
        detectors: names of all detectors.
        retired: those of them that were retired.
        owners: camera process to the detector that takes from it.
        moving: camera process to the detector that it is moved away from.
        bound_for: camera process to the detector that it is moved to, where that is decided.
        deaths: by camera process, detectors that have died while they took from it.
    """

    active: int = 1
    detectors: tuple[str, ...] = ()
    retired: frozenset[str] = frozenset()
    owners: Mapping[str, str] = field(default_factory=dict[str, str])
    moving: Mapping[str, str] = field(default_factory=dict[str, str])
    bound_for: Mapping[str, str] = field(default_factory=dict[str, str])
    deaths: Mapping[str, int] = field(default_factory=dict[str, int])


class DetectorPool:
    """Deals camera processes out to living detectors; a process belongs to one at a time, which keeps frames in order.

    A process whose detector died goes at once to another, a spare one first. A process is moved away from a living
    detector only once that one holds none of its frames any more, and only where that evens out how many cameras each
    has, or brings the process to a detector on its own node and makes nothing less even. So moves come to an end.

    A detector that is *retired* is given nothing any more. What it has goes to the others as soon as one of them lives,
    and once it holds nothing, it is one of the pool's no longer.

    Args:
        detectors: names of all detectors at first, spare ones included.
        active: how many of them are to work while all live.

    Attributes:
        active: the same; may be changed at any time.
    """

    def __init__(self, detectors: Sequence[str], active: int) -> None:
        self.active = active
        self._detectors = list(detectors)
        self._retired: set[str] = set()
        self._processes: Mapping[str, TakenProcess] = {}
        self._owners: dict[str, str] = {}
        self._moving: dict[str, str] = {}
        self._bound_for: dict[str, str] = {}
        self._deaths: Counter[str] = Counter()

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors that there are to be; those that were retired, until they hold nothing."""
        return tuple(self._detectors)

    @property
    def retired(self) -> frozenset[str]:
        """Those of them that were retired."""
        return frozenset(self._retired)

    def add(self, names: Iterable[str]) -> None:
        """Have these detectors in the pool, too."""
        self._detectors += names

    def retire(self, names: Iterable[str]) -> None:
        """Give these detectors nothing any more, and let them go once they hold nothing."""
        self._retired |= set(names) & set(self._detectors)

    def saved(self) -> SavedPool:
        """All of it, to be gone on from."""
        return SavedPool(
            active=self.active,
            detectors=tuple(self._detectors),
            retired=frozenset(self._retired),
            owners=dict(self._owners),
            moving=dict(self._moving),
            bound_for=dict(self._bound_for),
            deaths=dict(self._deaths),
        )

    def restore(self, saved: SavedPool) -> None:
        """Go on from what ``saved`` gave."""
        self.active = saved.active
        self._detectors, self._retired = list(saved.detectors), set(saved.retired)
        self._owners, self._moving = dict(saved.owners), dict(saved.moving)
        self._bound_for, self._deaths = dict(saved.bound_for), Counter(saved.deaths)

    def owner(self, process: str) -> str | None:
        """The detector that takes from a process; None while there is none."""
        return self._owners.get(process)

    def load(self, detector: str) -> int:
        """How many cameras a detector has at present."""
        known = self._processes  # of none, where another supervisor has decided so far
        return sum(known.get(p, TakenProcess()).cameras for p, owner in self._owners.items() if owner == detector)

    def deaths(self, process: str) -> int:
        """How many detectors have died while they took from a process, or still held frames of it."""
        return self._deaths[process]

    def assign(
        self, processes: Mapping[str, TakenProcess], alive: Mapping[str, LivingDetector]
    ) -> dict[str, tuple[str, ...]]:
        """Decide who takes from whom now.

        Args:
            processes: all camera processes, by name.
            alive: the detectors that live.

        Returns:
            Camera processes of every detector that there is to be, living or not.
        """
        self._processes = processes
        self._deaths.update(p for p, d in (*self._owners.items(), *self._moving.items()) if d not in alive)
        self._owners = {p: d for p, d in self._owners.items() if d in alive and p in processes}
        self._moving = {p: d for p, d in self._moving.items() if self._still_holds(p, alive.get(d))}
        self._let_go(alive)
        workers = self._workers(alive)
        if workers:
            loads = {detector: self.load(detector) for detector in workers}
            self._take_from_retired()
            self._give_out(workers, loads)
            if not self._moving:
                self._begin_move(workers, loads)
        members: dict[str, list[str]] = {detector: [] for detector in self._detectors}
        for process in processes:
            if (owner := self._owners.get(process)) is not None:
                members[owner].append(process)
        return {detector: tuple(taken) for detector, taken in members.items()}

    def _still_holds(self, process: str, detector: LivingDetector | None) -> bool:
        return detector is not None and (not detector.current or detector.holding.get(process, 0) > 0)

    def _let_go(self, alive: Mapping[str, LivingDetector]) -> None:
        """Forget retired detectors that have nothing left, or are dead."""
        busy = {*self._owners.values(), *self._moving.values()}
        for name in self._retired - busy:
            detector = alive.get(name)
            if detector is None or (detector.current and not any(detector.holding.values())):
                self._detectors.remove(name)
                self._retired.remove(name)

    def _workers(self, alive: Mapping[str, LivingDetector]) -> dict[str, str]:
        """Detectors that may be given something, and their nodes: who works already, then as many as are wanted."""
        living = [detector for detector in self._detectors if detector in alive and detector not in self._retired]
        at_work = set(self._owners.values())
        wanted = sorted(living, key=lambda detector: detector not in at_work)[: max(self.active, 1)]
        return {detector: alive[detector].node for detector in living if detector in wanted}

    def _take_from_retired(self) -> None:
        for process, owner in list(self._owners.items()):
            if owner in self._retired:
                self._move(process)

    def _give_out(self, workers: Mapping[str, str], loads: dict[str, int]) -> None:
        """Find a detector for every process that has none, on its own node where one has room."""
        fair = -(-sum(process.cameras for process in self._processes.values()) // len(workers))
        for name, process in self._processes.items():
            if name in self._owners or name in self._moving:
                continue
            room = max(fair - process.cameras, min(loads.values()))
            at_home = [d for d, node in workers.items() if node and node == process.node and loads[d] <= room]
            target = self._bound_for.pop(name, "")
            if target not in workers:
                target = min(at_home or workers, key=lambda detector: loads[detector])
            self._owners[name] = target
            loads[target] += process.cameras

    def _begin_move(self, workers: Mapping[str, str], loads: Mapping[str, int]) -> None:
        """Begin to move one process to where it is better off; for one that comes home, another may have to leave."""
        if not self._even_out(workers, loads):
            self._bring_home(workers, loads)

    def _even_out(self, workers: Mapping[str, str], loads: Mapping[str, int]) -> bool:
        to = min(workers, key=lambda detector: loads[detector])
        for busy in sorted(workers, key=lambda detector: -loads[detector]):
            gap = loads[busy] - loads[to]
            movable = [p for p in self._of(busy) if 0 < self._processes[p].cameras < gap]
            if movable:

                def how_bad(process: str, busy: str = busy, gap: int = gap) -> tuple[bool, bool, int]:
                    its = self._processes[process]
                    return its.node != workers[to], its.node == workers[busy], abs(gap - 2 * its.cameras)

                self._move(min(movable, key=how_bad), to)
                return True
        return False

    def _bring_home(self, workers: Mapping[str, str], loads: Mapping[str, int]) -> None:
        for name, owner in self._owners.items():
            process = self._processes[name]
            at_home = [d for d, node in workers.items() if node and node == process.node]
            if owner in at_home or owner not in workers:
                continue
            for home in at_home:
                spare = loads[owner] - loads[home]
                if process.cameras <= spare:
                    self._move(name, home)
                    return
                for other in self._of(home):  # exchanged for one that is not at home there either
                    its = self._processes[other]
                    if its.node != process.node and 0 <= process.cameras - its.cameras <= max(spare, 0):
                        self._move(name, home)
                        self._move(other, owner)
                        return

    def _of(self, detector: str) -> list[str]:
        return [process for process, owner in self._owners.items() if owner == detector]

    def _move(self, process: str, to: str | None = None) -> None:
        self._moving[process] = self._owners.pop(process)
        if to is not None:
            self._bound_for[process] = to
