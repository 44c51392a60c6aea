"""Has as many detectors as a run needs, on the nodes for them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from actors.actor_set import ActorSet
from actors.fleet import Fleet
from pipeline.runtime.desired_state import DesiredStates
from pipeline.runtime.scaling import DetectorScaling
from pipeline.runtime.spreading import DetectorSpreading

_log = logging.getLogger(__name__)


class PoolKeeper:
    """Adds and retires detectors as they are busy, and as nodes come.

    Args:
        fleet: knows the nodes, and how many detectors there may be.
        desired_states: has the pool.
        actors: the detectors that there are.
    """

    def __init__(self, fleet: Fleet, desired_states: DesiredStates, actors: ActorSet) -> None:
        self._fleet, self._desired_states, self._actors = fleet, desired_states, actors
        self._scaling = DetectorScaling(fleet.active, fleet.max_active)
        self._spreading = DetectorSpreading()
        self._replacing: tuple[str, str] | None = None  # the one that comes, the one that goes then

    def step(self, now: float, dropped: Callable[[], int]) -> None:
        """Look whether there are too few, too many, or too many in one place.

        Args:
            now: monotonic seconds.
            dropped: gives the frames that were too many or too late for them, since the run began.
        """
        if self._fleet.max_active > self._fleet.active:
            self._resize(now, dropped())
        if self._replacing is None:
            self._spread()
        else:
            self._replace(*self._replacing)

    def _resize(self, now: float, dropped: int) -> None:
        working, active = self._desired_states.working_detectors(), self._desired_states.active_detectors
        reports = {name: detector.report for name, detector in self._actors.detectors.items() if name in working}
        wanted = self._scaling.update(
            now,
            {name: report.load for name, report in reports.items() if report is not None},
            active=active,
            dropped=dropped,
            room=self._fleet.room_for_detectors(),
        )
        if wanted != active:
            _log.info("%d detectors are to work instead of %d", wanted, active)
            self._desired_states.resize_pool(wanted)

    def _spread(self) -> None:
        names = self._desired_states.detectors
        reports = {name: self._actors.detectors[name].report for name in names if name in self._actors.detectors}
        if self._desired_states.working_detectors() != reports.keys() or None in reports.values():
            return  # some come or go
        nodes, load = {name: report.node for name, report in reports.items()}, self._desired_states.detector_loads()
        if (found := self._spreading.update(nodes, self._fleet.spread_over(), load)) is not None:
            leaves, node = found
            (comes,) = self._desired_states.add_detectors(1)
            self._fleet.place_detector(comes, node)
            self._replacing = comes, leaves

    def _replace(self, comes: str, leaves: str) -> None:
        """Retire the one that leaves once the other one has loaded its model."""
        if comes not in self._desired_states.working_detectors():
            self._replacing = None
        elif (detector := self._actors.detectors.get(comes)) is not None and detector.report is not None:
            self._desired_states.retire_detectors([leaves])
            self._replacing = None
