"""What every actor of a run is to do: who reads what, who takes from whom. Pure: no clock, no processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from pipeline.config import CameraSettings
from pipeline.runtime.assignment import place, split_cameras
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.messages import (
    CameraReport,
    CameraRole,
    DesiredCameraState,
    DesiredDetectorState,
    DesiredScorerState,
    DetectorReport,
    ScorerReport,
)
from pipeline.runtime.pool import DetectorPool, LivingDetector, SavedPool, TakenProcess
from pipeline.runtime.slices import ScorerSlices
from pipeline.types import SceneReference

_GONE_AFTER_S = 5.0  # a camera process on a living node is back within three

DesiredState = DesiredCameraState | DesiredDetectorState | DesiredScorerState
_Desired = TypeVar("_Desired", DesiredCameraState, DesiredDetectorState, DesiredScorerState)
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
        scorers: the scorers, by name.
        processes: the camera processes, by name.
        detectors: the detectors that there are, by name.
    """

    scorers: Mapping[str, ActorState[ScorerReport]]
    processes: Mapping[str, ActorState[CameraReport]]
    detectors: Mapping[str, ActorState[DetectorReport]]


@dataclass(frozen=True, slots=True)
class SavedAssignments:
    """Who reads what and who takes from whom.

    Attributes:
        processes: camera processes.
        placement: camera to process.
        pool: who takes from whom.
        detectors_so_far: how many detectors there have been.
    """

    processes: tuple[str, ...] = ()
    placement: Mapping[str, str] = field(default_factory=dict[str, str])
    pool: SavedPool = field(default_factory=SavedPool)
    detectors_so_far: int = 0


class DesiredStates:
    """The newest desired state of every actor, renewed as cameras and actors come and go.

    A desired state's number rises where it says something new, and only there. Every wanted camera is read by one
    camera process, and stays there as long as that lives; a camera process is taken from by one detector at a time.

    Args:
        registry: the cameras.
        run: name of the run; names of camera processes begin with it.
        slices: which cameras each scorer has.
        detectors: names of all detectors at first, spare ones included.
        active: how many of them are to work while all live.
        cameras_per_process: cameras in one camera process.
        max_processes: upper limit of camera processes, which then hold as many cameras as they must; None is none.
        scene_references: what the model's scenes looked like in training, by scene.
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
        saved: SavedAssignments | None = None,
        first_version: int = 0,
    ) -> None:
        self._slices = slices
        self._registry, self._run, self._scene_references = registry, run, scene_references or {}
        self._cameras_per_process, self._max_processes = cameras_per_process, max_processes
        self._pool = DetectorPool(detectors, active)
        self._detectors_so_far = len(detectors)
        self._processes: list[str] = []
        self._placement: dict[str, str] = {}
        self._version = first_version
        self._desired_cameras: dict[str, DesiredCameraState] = {}
        self._desired_detectors: dict[str, DesiredDetectorState] = {}
        self._desired_scorers: dict[str, DesiredScorerState] = {}
        if saved is not None:
            self._processes += saved.processes
            self._placement.update(saved.placement)
            self._pool.restore(saved.pool)
            self._detectors_so_far = saved.detectors_so_far
            return
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
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors that there are to be; one that was retired, until it holds no frames."""
        return self._pool.detectors

    @property
    def active_detectors(self) -> int:
        """How many detectors are to work while all live; may be changed at any time."""
        return self._pool.active

    @active_detectors.setter
    def active_detectors(self, active: int) -> None:
        self._pool.active = active

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
        return SavedAssignments(
            tuple(self._processes), dict(self._placement), self._pool.saved(), self._detectors_so_far
        )

    def is_reader(self, process: str, camera_id: str) -> bool:
        """Whether what a camera process says of a camera counts: no other one is to read it."""
        return self._placement.get(camera_id, process) == process

    def update(self, actors: ActorStates, now: float, *, draining: bool) -> dict[str, DesiredState]:
        """Decide anew what everyone is to do.

        Args:
            actors: how they stand.
            now: monotonic seconds.
            draining: whether all cameras were asked to end; camera processes get no more desired states then.

        Returns:
            By the actor's name, desired states of living actors that do not follow them yet.
        """
        if not draining:
            self._place_cameras(actors.processes, now)
        members = self._members()
        taken = {name: _taken(actors.processes.get(name), cameras) for name, cameras in members.items()}
        assigned = self._pool.assign(taken, self._living(actors.detectors))
        self._desired_detectors = {name: d for name, d in self._desired_detectors.items() if name in assigned}
        for name in [name for name in actors.detectors if name in assigned]:
            desired = _desired_detector(assigned[name], members)
            self._desired_detectors[name] = self._numbered(desired, self._desired_detectors.get(name))
        if not draining:
            for name in self._processes:
                desired = self._desired_camera(name, members[name], actors.processes.get(name, ActorState()).report)
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
            if _is_behind(actors.detectors[name], desired):
                desired_states[name] = desired
        if not draining:
            for name, process in actors.processes.items():
                if _is_behind(process, self._desired_cameras[name]):
                    desired_states[name] = self._with_counting(self._desired_cameras[name])
        for name, scorer in actors.scorers.items():
            if _is_behind(scorer, self._desired_scorers[name]):
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
                desired = self._desired_detectors.get(name)
                current = desired is not None and detector.report.version == desired.version
                living[name] = LivingDetector(current, detector.report.holding, detector.report.node)
        return living

    def _members(self) -> dict[str, list[CameraSettings]]:
        members: dict[str, list[CameraSettings]] = {name: [] for name in self._processes}
        for camera in self._registry.cameras:
            if (process := self._placement.get(camera.id)) is not None:
                members[process].append(camera)
        return members

    def _desired_camera(
        self, name: str, cameras: list[CameraSettings], report: CameraReport | None
    ) -> DesiredCameraState:
        known = report.readers if report is not None else ()
        return DesiredCameraState(
            cameras=tuple(cameras),
            scene_references={
                c.id: self._scene_references[c.scene_name] for c in cameras if c.scene_name in self._scene_references
            },
            paused=frozenset(c.id for c in cameras if c.id in self._registry.paused),
            consumer=self._pool.owner(name),
            deaths=self._pool.deaths(name),
            forgotten=frozenset(camera_id for camera_id in known if not self._registry.is_shown(camera_id)),
            paced=any(camera.is_live for camera in self._registry.cameras),
        )

    def _slices_of(self, scorers: Iterable[str]) -> Iterator[tuple[str, DesiredScorerState]]:
        cameras = self._slices.split(self._registry.cameras, lambda camera: camera.id)
        removed = self._slices.split(self._registry.removed_cameras, lambda camera: camera.id)
        for name in scorers:
            yield (
                name,
                DesiredScorerState(cameras=tuple(cameras.get(name, ())), removed_cameras=tuple(removed.get(name, ()))),
            )

    def _numbered(self, desired: _Desired, before: _Desired | None) -> _Desired:
        """The desired state with a number: a new one where something has changed."""
        if before is not None and before.version > 0 and replace(desired, version=before.version) == before:
            return before
        self._version += 1
        return replace(desired, version=self._version)


def _taken(process: ActorState[CameraReport] | None, cameras: list[CameraSettings]) -> TakenProcess:
    report = None if process is None else process.report
    return TakenProcess(len(cameras), "" if report is None else report.node)


def _desired_detector(processes: tuple[str, ...], members: Mapping[str, list[CameraSettings]]) -> DesiredDetectorState:
    cameras = [camera for process in processes for camera in members[process]]
    return DesiredDetectorState(processes=processes, cameras={camera.id: CameraRole.of(camera) for camera in cameras})


def _is_behind(actor: ActorState[_Report], desired: DesiredState) -> bool:
    return actor.report is not None and actor.report.version != desired.version
