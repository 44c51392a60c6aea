"""What every actor of a run is to do: who reads what, who takes from whom. Pure: no clock, no processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pipeline.config import CameraSettings
from pipeline.runtime.assignment import place, split_cameras
from pipeline.runtime.messages import (
    CameraOrder,
    CameraReport,
    CameraRole,
    DetectorOrder,
    DetectorReport,
    ScorerOrder,
    ScorerReport,
)
from pipeline.runtime.pool import DetectorPool, LivingDetector
from pipeline.runtime.roster import Roster
from pipeline.types import SceneView

SCORER = "the scorer"
_GONE_AFTER_S = 5.0  # a camera process on a living node is back within three

Order = CameraOrder | DetectorOrder | ScorerOrder
_Order = TypeVar("_Order", CameraOrder, DetectorOrder, ScorerOrder)
_Report = TypeVar("_Report", CameraReport, DetectorReport, ScorerReport)


@dataclass(frozen=True, slots=True)
class ActorState(Generic[_Report]):
    """What is known of an actor.

    Attributes:
        report: its newest; None while it is dead, or has not answered since it started.
        died_at: when it was found dead, in monotonic seconds; None while it is not known to be.
    """

    report: _Report | None = None
    died_at: float | None = None


@dataclass(frozen=True, slots=True)
class ActorStates:
    """What is known of all actors of a run.

    Attributes:
        scorer: the scorer.
        processes: the camera processes, by name.
        detectors: the detectors that there are, by name.
    """

    scorer: ActorState[ScorerReport]
    processes: Mapping[str, ActorState[CameraReport]]
    detectors: Mapping[str, ActorState[DetectorReport]]


class Orders:
    """The newest order of every actor, renewed as cameras and actors come and go.

    An order's number rises where it says something new, and only there. Every wanted camera is read by one camera
    process, and stays there as long as that lives; a camera process is taken from by one detector at a time.

    Args:
        registry: the cameras.
        run: name of the run; names of camera processes begin with it.
        detectors: names of all detectors, spare ones included.
        active: how many of them are to work while all live.
        cameras_per_process: cameras in one camera process.
        max_processes: upper limit of camera processes, which then hold as many cameras as they must; None is none.
        views: what the model's scenes looked like in training, by scene.
    """

    def __init__(
        self,
        registry: Roster,
        *,
        run: str,
        detectors: Sequence[str],
        active: int,
        cameras_per_process: int,
        max_processes: int | None = None,
        views: Mapping[str, SceneView] | None = None,
    ) -> None:
        self._registry, self._run, self._views = registry, run, views or {}
        self._cameras_per_process, self._max_processes = cameras_per_process, max_processes
        self._pool = DetectorPool(detectors, active)
        self._processes: list[str] = []
        self._placement: dict[str, str] = {}
        self._version = 0
        self._camera_orders: dict[str, CameraOrder] = {}
        self._detector_orders: dict[str, DetectorOrder] = {}
        self._scorer_order = ScorerOrder()
        for members in split_cameras(
            [camera.id for camera in registry.cameras],
            per_process=cameras_per_process,
            detectors=active,
            max_processes=max_processes,
        ):
            self._placement.update(dict.fromkeys(members, self._add_process()))

    @property
    def processes(self) -> tuple[str, ...]:
        """Names of the camera processes that there are to be."""
        return tuple(self._processes)

    @property
    def newest(self) -> dict[str, Order]:
        """The newest order of every actor, by its name."""
        return {SCORER: self._scorer_order, **self._detector_orders, **self._camera_orders}

    def is_reader(self, process: str, camera_id: str) -> bool:
        """Whether what a camera process says of a camera counts: no other one is to read it."""
        return self._placement.get(camera_id, process) == process

    def update(self, actors: ActorStates, now: float, *, draining: bool) -> dict[str, Order]:
        """Decide anew what everyone is to do.

        Args:
            actors: how they stand.
            now: monotonic seconds.
            draining: whether all cameras were asked to end; camera processes are given no more orders then.

        Returns:
            By the actor's name, orders of living actors that do not follow them yet.
        """
        if not draining:
            self._place_cameras(actors.processes, now)
        assigned = self._pool.assign(self._processes, self._living(actors.detectors))
        members = self._members()
        for name in actors.detectors:
            order = _detector_order(assigned[name], members)
            self._detector_orders[name] = self._numbered(order, self._detector_orders.get(name))
        if not draining:
            for name in self._processes:
                order = self._camera_order(name, members[name], actors.processes.get(name, ActorState()).report)
                self._camera_orders[name] = self._numbered(order, self._camera_orders.get(name))
        order = ScorerOrder(cameras=self._registry.cameras, former=self._registry.former)
        self._scorer_order = self._numbered(order, self._scorer_order)
        return self._not_followed(actors, draining)

    def all_follow(self, actors: ActorStates) -> bool:
        """Whether everyone lives and follows its newest order.

        Args:
            actors: how they stand.
        """
        reports = {
            SCORER: actors.scorer.report,
            **{name: actor.report for name, actor in actors.detectors.items()},
            **{name: actor.report for name, actor in actors.processes.items()},
        }
        newest = self.newest
        return newest.keys() <= reports.keys() and all(
            report is not None and name in newest and report.version == newest[name].version
            for name, report in reports.items()
        )

    def _not_followed(self, actors: ActorStates, draining: bool) -> dict[str, Order]:
        orders: dict[str, Order] = {}
        for name, detector in actors.detectors.items():
            if _is_behind(detector, self._detector_orders[name]):
                orders[name] = self._detector_orders[name]
        if not draining:
            for name, process in actors.processes.items():
                if _is_behind(process, self._camera_orders[name]):
                    # Sessions rise with every connection, and alone are no reason to say it again.
                    orders[name] = replace(self._camera_orders[name], sessions=self._registry.next_sessions())
        if _is_behind(actors.scorer, self._scorer_order):
            orders[SCORER] = self._scorer_order
        return orders

    def _place_cameras(self, processes: Mapping[str, ActorState[CameraReport]], now: float) -> None:
        """Find a process for every camera that is wanted; those of a process that is gone go to the others."""
        gone: set[str] = set()
        if any(process.report is not None for process in processes.values()):
            died = {name: process.died_at for name, process in processes.items()}
            gone = {name for name, died_at in died.items() if died_at is not None and now - died_at > _GONE_AFTER_S}
        ids = [camera.id for camera in self._registry.cameras]
        per_process = self._cameras_per_process if self._max_processes is None else len(ids)
        placed = place(ids, self._placement, self._processes, gone=gone, per_process=per_process)
        while (homeless := next((c for c, process in placed.items() if process is None), None)) is not None:
            placed[homeless] = self._add_process()
            kept = {c: process for c, process in placed.items() if process is not None}
            placed = place(ids, kept, self._processes, gone=gone, per_process=per_process)
        self._placement = {c: process for c, process in placed.items() if process is not None}

    def _add_process(self) -> str:
        self._processes.append(f"{self._run}-camera-{len(self._processes)}")
        return self._processes[-1]

    def _living(self, detectors: Mapping[str, ActorState[DetectorReport]]) -> dict[str, LivingDetector]:
        living: dict[str, LivingDetector] = {}
        for name, detector in detectors.items():
            if detector.report is not None:
                order = self._detector_orders.get(name)
                current = order is None or detector.report.version == order.version
                living[name] = LivingDetector(current, detector.report.holding)
        return living

    def _members(self) -> dict[str, list[CameraSettings]]:
        members: dict[str, list[CameraSettings]] = {name: [] for name in self._processes}
        for camera in self._registry.cameras:
            if (process := self._placement.get(camera.id)) is not None:
                members[process].append(camera)
        return members

    def _camera_order(self, name: str, cameras: list[CameraSettings], report: CameraReport | None) -> CameraOrder:
        known = report.readers if report is not None else ()
        return CameraOrder(
            cameras=tuple(cameras),
            views={c.id: self._views[c.trained_as] for c in cameras if c.trained_as in self._views},
            paused=frozenset(c.id for c in cameras if c.id in self._registry.paused),
            consumer=self._pool.owner(name),
            deaths=self._pool.deaths(name),
            forgotten=frozenset(camera_id for camera_id in known if not self._registry.knows(camera_id)),
            paced=any(camera.is_live for camera in self._registry.cameras),
        )

    def _numbered(self, order: _Order, before: _Order | None) -> _Order:
        """The order with a number: a new one where it says something new."""
        if before is not None and before.version > 0 and replace(order, version=before.version) == before:
            return before
        self._version += 1
        return replace(order, version=self._version)


def _detector_order(processes: tuple[str, ...], members: Mapping[str, list[CameraSettings]]) -> DetectorOrder:
    cameras = [camera for process in processes for camera in members[process]]
    return DetectorOrder(processes=processes, cameras={camera.id: CameraRole.of(camera) for camera in cameras})


def _is_behind(actor: ActorState[_Report], order: Order) -> bool:
    return actor.report is not None and actor.report.version != order.version
