"""What every actor of a run is to do: who reads what, who takes from whom. Pure: no clock, no processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pipeline.camera_settings import CameraSettings
from pipeline.models.card import ModelCard
from pipeline.normal_footage import AddedStretch
from pipeline.runtime.actor_states import ActorState, ActorStates
from pipeline.runtime.assignment import PlacedProcess, SavedAssignments
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.messages import (
    CameraReport,
    CameraRole,
    DesiredCameraState,
    DesiredDetectorState,
    DesiredScorerState,
    DetectorReport,
)
from pipeline.runtime.nodes import ClusterNode
from pipeline.runtime.placement import CameraPlacement
from pipeline.runtime.pool import DetectorPool, LivingDetector, TakenProcess
from pipeline.runtime.slices import ScorerSlices
from pipeline.types import SceneReference

DesiredState = DesiredCameraState | DesiredDetectorState | DesiredScorerState
_Desired = TypeVar("_Desired", DesiredCameraState, DesiredDetectorState, DesiredScorerState)


class DesiredStates:
    """The newest desired state of every actor, renewed as cameras and actors come and go.

    A desired state's number rises where it says something new, and only there. Every wanted camera is read by one
    camera process at most (``CameraPlacement``), and a camera process is taken from by one detector at a time
    (``DetectorPool``).

    Args:
        registry: the cameras.
        run: name of the run; names of camera processes begin with it.
        slices: which cameras each scorer has.
        detectors: names of all detectors at first, spare ones included.
        active: how many of them are to work while all live.
        cameras_per_process: cameras in one camera process.
        max_processes: upper limit of camera processes on a node, which then hold as many cameras as they must; None is
            none.
        scene_references: what the model's scenes looked like in training, by scene.
        nodes: the living nodes of the cluster; none where they are not known.
        saved: what was decided before, by a process that has died; None where there was none.
        first_version: desired states have numbers above it: those that actors follow are another process's.
    """

    def __init__(
        self,
        registry: CameraRegistry,
        *,
        run: str,
        slices: ScorerSlices,
        detectors: Sequence[str],
        active: int,
        cameras_per_process: int,
        max_processes: int | None = None,
        scene_references: Mapping[str, SceneReference] | None = None,
        nodes: Sequence[ClusterNode] = (),
        saved: SavedAssignments | None = None,
        first_version: int = 0,
    ) -> None:
        self._slices = slices
        self._registry, self._run = registry, run
        self.scene_references = scene_references or {}
        self.cards: tuple[ModelCard, ...] = ()
        """What scorers must know of models, see ``DesiredScorerState``; all three may be changed at any time."""
        self.normal: Mapping[str, tuple[AddedStretch, ...]] = {}
        """As ``cards``."""
        self._pool = DetectorPool(detectors, active)
        self._detectors_so_far = len(detectors)
        self._placement = CameraPlacement(run, cameras_per_process, max_processes)
        self._version = first_version
        self._desired_cameras: dict[str, DesiredCameraState] = {}
        self._desired_detectors: dict[str, DesiredDetectorState] = {}
        self._desired_scorers: dict[str, DesiredScorerState] = {}
        if saved is None:
            ids = [camera.id for camera in registry.cameras]
            self._placement.begin(ids, nodes, active, scorer_of=slices.scorer_of if slices.are_many else None)
        else:
            self._placement.restore(saved.placement)
            self._pool.restore(saved.pool)
            self._detectors_so_far = saved.detectors_so_far

    @property
    def processes(self) -> dict[str, str]:
        """The camera processes that there are to be, and the id of each one's node; empty is any node."""
        return self._placement.processes

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors that there are to be; one that was retired, until it holds no frames."""
        return self._pool.detectors

    @property
    def active_detectors(self) -> int:
        """How many detectors are to work while all live."""
        return self._pool.active

    def working_detectors(self) -> frozenset[str]:
        """Names of all detectors but those that were retired."""
        return frozenset(self._pool.detectors) - self._pool.retired

    def detector_loads(self) -> dict[str, int]:
        """How many cameras each detector has at present."""
        return {name: self._pool.load(name) for name in self._pool.detectors}

    def resize_pool(self, active: int) -> None:
        """Have another number of detectors at work: more are added, or those that have least to do are retired.

        Args:
            active: how many are to work while all live; spare ones are kept beside them.
        """
        surplus, self._pool.active = self._pool.active - active, active
        if surplus < 0:
            self.add_detectors(-surplus)
        elif surplus > 0:
            loads = {name: load for name, load in self.detector_loads().items() if name not in self._pool.retired}
            by_load = sorted(loads, key=lambda name: (loads[name] == 0, loads[name]))  # who has nothing is a spare one
            self.retire_detectors(by_load[:surplus])

    def spare_detectors(self) -> tuple[str, ...]:
        """Names of those beyond the ones that are to work, none of which has anything to do."""
        idle = [name for name in self._pool.detectors if name in self.working_detectors() and not self._pool.load(name)]
        return tuple(idle[: max(0, len(self.working_detectors()) - self._pool.active)])

    def add_detectors(self, count: int) -> tuple[str, ...]:
        """Have more detectors, beside those that there are; how many of all work at a time does not change.

        Args:
            count: how many.

        Returns:
            Their names, which no detector of the run had before.
        """
        first = self._detectors_so_far
        self._detectors_so_far += count
        names = tuple(f"{self._run}-detector-{number}" for number in range(first, first + count))
        self._pool.add(names)
        return names

    def retire_detectors(self, names: Iterable[str]) -> None:
        """Give these detectors no frames any more; each is among ``detectors`` until it holds none.

        What they take from goes to the others, a camera process once its detector holds none of its frames, so that
        each camera's order is kept. While none of the others lives, they go on.
        """
        self._pool.retire(names)

    @property
    def newest(self) -> dict[str, DesiredState]:
        """The newest desired state of every actor, by its name."""
        return {**self._desired_scorers, **self._desired_detectors, **self._desired_cameras}

    def saved(self) -> SavedAssignments:
        """What was decided, to be gone on from."""
        return SavedAssignments(self._placement.saved(), self._pool.saved(), self._detectors_so_far)

    def is_reader(self, process: str, camera_id: str) -> bool:
        """Whether what a camera process says of a camera is how it stands: no other one is to read it."""
        return self._placement.is_reader(process, camera_id)

    def reader_of(self, camera_id: str) -> str | None:
        """Name of the camera process that is to read a camera; None where nobody is."""
        return self._placement.process(camera_id)

    def update(self, actors: ActorStates, now: float, *, draining: bool) -> dict[str, DesiredState]:
        """Decide anew what everyone is to do.

        Args:
            actors: how they stand.
            now: monotonic seconds.
            draining: whether all cameras were asked to end; camera processes get no more desired states then.

        Returns:
            By the actor's name, desired states of living actors that do not follow them yet.
        """
        if draining:
            self._placement.stay()
        else:
            self._place_cameras(actors, now)
            self._leave_draining_nodes(actors)
        members = self._members()
        homes = self._placement.processes
        taken = {name: TakenProcess(len(cameras), homes[name]) for name, cameras in members.items()}
        assigned = self._pool.assign(taken, self._living(actors.detectors))
        self._desired_detectors = {name: d for name, d in self._desired_detectors.items() if name in assigned}
        for name in [name for name in actors.detectors if name in assigned]:
            desired = _desired_detector(assigned[name], members)
            self._desired_detectors[name] = self._numbered(desired, self._desired_detectors.get(name))
        if not draining:
            paced = any(camera.is_live for camera in self._registry.cameras)
            for name in homes:
                report = actors.processes.get(name, ActorState()).report
                desired = self._desired_camera(name, members[name], report, paced=paced)
                self._desired_cameras[name] = self._numbered(desired, self._desired_cameras.get(name))
        for name, desired in self._slices_of(actors.scorers):
            self._desired_scorers[name] = self._numbered(desired, self._desired_scorers.get(name))
        return self._not_followed(actors, draining)

    def all_follow(self, actors: ActorStates) -> bool:
        """Whether every actor lives and follows its newest desired state.

        Args:
            actors: how they stand.
        """
        reports = {
            **{name: actor.report for name, actor in actors.scorers.items()},
            **{name: actor.report for name, actor in actors.detectors.items()},
            **{name: actor.report for name, actor in actors.processes.items()},
        }
        newest = self.newest
        return newest.keys() <= reports.keys() and all(
            report is not None and name in newest and report.version == newest[name].version
            for name, report in reports.items()
        )

    def _not_followed(self, actors: ActorStates, draining: bool) -> dict[str, DesiredState]:
        desired_states: dict[str, DesiredState] = {}
        for name, desired in self._desired_detectors.items():
            if actors.detectors[name].is_behind(desired.version):
                desired_states[name] = desired
        if not draining:
            for name, desired in self._desired_cameras.items():
                if name in actors.processes and actors.processes[name].is_behind(desired.version):
                    desired_states[name] = self._with_counting(desired)
        for name, scorer in actors.scorers.items():
            if scorer.is_behind(self._desired_scorers[name].version):
                desired_states[name] = self._desired_scorers[name]
        return desired_states

    def _with_counting(self, desired: DesiredCameraState) -> DesiredCameraState:
        """With where to go on counting. That alone, which rises with every connection, is no reason to say it again."""
        ids = [camera.id for camera in desired.cameras]
        counter_ids = {camera_id: self._registry.counter_id(camera_id) for camera_id in ids}
        return replace(
            desired,
            sessions={camera_id: self._registry.next_session(camera_id) for camera_id in ids},
            counter_ids={camera_id: counter_id for camera_id, counter_id in counter_ids.items() if counter_id},
        )

    def _place_cameras(self, actors: ActorStates, now: float) -> None:
        self._placement.update(
            {camera.id: camera.is_live for camera in self._registry.cameras},
            {name: self._placed(name, process) for name, process in actors.processes.items()},
            actors.nodes,
            detectors=self._pool.active,
            in_flight=self._registry.in_flight,
            now=now,
        )
        self._desired_cameras = {n: d for n, d in self._desired_cameras.items() if n in self._placement.processes}

    def _placed(self, name: str, process: ActorState[CameraReport]) -> PlacedProcess:
        report, desired = process.report, self._desired_cameras.get(name)
        if report is None:
            return PlacedProcess(died_at=process.died_at)
        reading = frozenset(camera_id for camera_id, reader in report.readers.items() if not reader.ended)
        follows = desired is not None and report.version == desired.version
        return PlacedProcess(True, process.died_at, follows, reading, report.node)

    def _leave_draining_nodes(self, actors: ActorStates) -> None:
        """Have other detectors in the place of those whose node is about to leave, where there is another node."""
        draining = {node.id for node in actors.nodes if node.draining}
        if len(draining) < len(actors.nodes):
            reports = {name: detector.report for name, detector in actors.detectors.items()}
            leaving = {name for name, report in reports.items() if report is not None and report.node in draining}
            leaving -= self._pool.retired
            if leaving:
                self.add_detectors(len(leaving))
                self.retire_detectors(leaving)

    def _living(self, detectors: Mapping[str, ActorState[DetectorReport]]) -> dict[str, LivingDetector]:
        living: dict[str, LivingDetector] = {}
        for name, detector in detectors.items():
            if detector.report is not None:
                desired = self._desired_detectors.get(name)
                current = desired is not None and detector.report.version == desired.version
                living[name] = LivingDetector(current, detector.report.holding, detector.report.node)
        return living

    def _members(self) -> dict[str, list[CameraSettings]]:
        members: dict[str, list[CameraSettings]] = {name: [] for name in self._placement.processes}
        for camera in self._registry.cameras:
            if (process := self._placement.process(camera.id)) is not None:
                members[process].append(camera)
        return members

    def _desired_camera(
        self, name: str, cameras: list[CameraSettings], report: CameraReport | None, *, paced: bool
    ) -> DesiredCameraState:
        known = report.readers if report is not None else ()
        return DesiredCameraState(
            cameras=tuple(cameras),
            scene_references={
                c.id: self.scene_references[c.scene_name] for c in cameras if c.scene_name in self.scene_references
            },
            paused=frozenset(c.id for c in cameras if c.id in self._registry.paused),
            consumer=self._pool.owner(name),
            deaths=self._pool.deaths(name),
            forgotten=frozenset(camera_id for camera_id in known if not self._registry.is_shown(camera_id)),
            paced=paced,
        )

    def _slices_of(self, scorers: Iterable[str]) -> Iterator[tuple[str, DesiredScorerState]]:
        cameras = self._slices.split(self._registry.cameras, lambda camera: camera.id)
        removed = self._slices.split(self._registry.removed_cameras, lambda camera: camera.id)
        for name in scorers:
            own = tuple(cameras.get(name, ())), tuple(removed.get(name, ()))
            ids = {camera.id for of_slice in own for camera in of_slice}
            normal = {  # that of one camera alone is no other scorer's business, and may be all there is
                model: tuple(one for one in added if one.camera_id is None or one.camera_id in ids)
                for model, added in self.normal.items()
            }
            yield name, DesiredScorerState(cameras=own[0], removed_cameras=own[1], cards=self.cards, normal=normal)

    def _numbered(self, desired: _Desired, before: _Desired | None) -> _Desired:
        """The desired state with a number: a new one where something has changed."""
        if before is not None and before.version > 0 and replace(desired, version=before.version) == before:
            return before
        self._version += 1
        return replace(desired, version=self._version)


def _desired_detector(processes: tuple[str, ...], members: Mapping[str, list[CameraSettings]]) -> DesiredDetectorState:
    cameras = [camera for process in processes for camera in members[process]]
    return DesiredDetectorState(processes=processes, cameras={camera.id: CameraRole.of(camera) for camera in cameras})
