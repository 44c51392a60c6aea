"""The actors that a run has at present, by name, and what is known of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping

from actors.actor_monitor import ActorMonitor
from actors.fleet import Fleet
from pipeline.errors import RunError
from pipeline.runtime.actor_states import ActorState, ActorStates
from pipeline.runtime.nodes import ClusterNode
from pipeline.types import Trouble

_LOOK_EVERY_S = 0.2
_LOST_AFTER_S = 60.0  # without any actor at all; Ray brings each back within seconds


class ActorSet:
    """The scorers, and camera processes and detectors as they are added.

    Args:
        fleet: makes them.

    Attributes:
        scorers: scorers by name, in the order of their numbers.
        processes: camera processes by name.
        detectors: detectors by name.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.scorers = {name: fleet.scorer(number) for number, name in enumerate(fleet.scorers)}
        self.processes: dict[str, ActorMonitor] = {}
        self.detectors: dict[str, ActorMonitor] = {}

    def keep_processes(self, homes: Mapping[str, str]) -> list[str]:
        """Make those of these camera processes that are not there yet, and end all others: their nodes are gone.

        Args:
            homes: their names, and the id of each one's node; empty is any node.

        Returns:
            Names of those that were ended.
        """
        return _keep(self.processes, homes, lambda name: self._fleet.camera_process(name, homes[name]))

    def keep_detectors(self, names: Iterable[str]) -> list[str]:
        """Make those of these detectors that are not there yet, and end all others, which hold no frames any more.

        Returns:
            Names of those that were ended.
        """
        return _keep(self.detectors, tuple(names), self._fleet.detector)

    def named(self) -> dict[str, ActorMonitor]:
        """All of them, by the name that the user reads."""
        return {**self.scorers, **self.detectors, **self.processes}

    def call_processes(self, method: str) -> None:
        """Call a method of every camera process, and wait for no answer."""
        for process in self.processes.values():
            process.call(method)

    def hear_from_all(self, within_s: float) -> None:
        """Wait a moment for the reports of those that live: who is not known to live would count as dead.

        Args:
            within_s: longest wait.
        """
        give_up_at, actors = time.monotonic() + within_s, list(self.named().values())
        while any(actor.report is None and actor.died_at is None for actor in actors):
            if time.monotonic() >= give_up_at:
                return
            self._fleet.poll(actors, _LOOK_EVERY_S)
            for actor in actors:
                actor.collect(time.monotonic())

    def deaths(self) -> tuple[Trouble, ...]:
        """Of those that were found dead and are not back."""
        dead = [name for name, actor in self.named().items() if actor.died_at is not None]
        return tuple(Trouble(f"{name} died", f"{name} died; it is being started anew") for name in dead)

    def tunings(self) -> tuple[str, ...]:
        """How the detectors' models are run, each way once."""
        tunings = {detector.report.tuning for detector in self.detectors.values() if detector.report is not None}
        return tuple(sorted(tunings - {""}))

    def check_recoverable(self, now: float) -> None:
        """Give up where nobody can come back, rather than look like a run that lives.

        Args:
            now: monotonic seconds.

        Raises:
            RunError: Ray itself is dead, or no actor has come back for a minute.
        """
        if dead := self._fleet.dead_processes():
            raise RunError(f"Ray on this machine is dead: {', '.join(dead)}")
        died_at = [actor.died_at for actor in self.named().values()]
        since = [at for at in died_at if at is not None]
        if len(since) == len(died_at) and now - max(since) > _LOST_AFTER_S:
            raise RunError(f"expected an actor of the run to come back within {_LOST_AFTER_S:g} s, none did")

    def states(self, nodes: tuple[ClusterNode, ...] = ()) -> ActorStates:
        """What is known of each at present.

        Args:
            nodes: the living nodes.
        """
        return ActorStates(
            {name: ActorState(scorer.report, scorer.died_at) for name, scorer in self.scorers.items()},
            {name: ActorState(process.report, process.died_at) for name, process in self.processes.items()},
            {name: ActorState(detector.report, detector.died_at) for name, detector in self.detectors.items()},
            nodes,
        )


def _keep(actors: dict[str, ActorMonitor], wanted: Collection[str], make: Callable[[str], ActorMonitor]) -> list[str]:
    ended = [name for name in actors if name not in wanted]
    for name in ended:
        actors.pop(name).kill()
    for name in wanted:
        if name not in actors:
            actors[name] = make(name)
    return ended
