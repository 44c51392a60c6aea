"""Starts a run's actors, replaces what dies, keeps the books of every camera and ends the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from actors import cluster
from actors.asked import Asked, cause_of, insist, wait_for_start
from actors.camera import CameraOrder
from actors.detector import CameraRole, DetectorOrder
from actors.local_ray import dead_ray_processes
from pipeline.config import CameraSettings
from pipeline.errors import RunError
from pipeline.runtime.assignment import place, split_cameras
from pipeline.runtime.ending import Ending
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.pool import DetectorPool
from pipeline.runtime.roster import Roster
from pipeline.runtime.status import RunStatus
from pipeline.types import Notice
from pipeline.video.source import is_live

_START_TIMEOUT_S = 300.0  # importing torch and compiling the model in several processes of a small machine
_TICK_S = 0.2
_CALM_TICK_S = 0.25  # while everyone lives and does what it was told: every question costs both sides CPU time
_PUBLISH_S = 1.0
_HOPELESS_AFTER_S = 60.0  # without any actor at all; Ray brings each back within seconds
_ABORT_WITHIN_S = 3.0
_GONE_AFTER_S = 5.0  # a camera process on a living node is back within three

_Order = TypeVar("_Order", CameraOrder, DetectorOrder)


class Supervisor:
    """Owns the actors of one run; lives in the command's own process, in a thread of it.

    It says what each of them is to do in numbered orders, again after a restart; actors follow the newest they got.

    Args:
        plan: the run.
        publish: told every second, for whoever watches the run from outside, how it stands and whether it is ending.

    Raises:
        BadInputError: the cluster lacks what the plan needs.

    Attributes:
        failure: what ended its watching, which nothing should; None while all is well.
    """

    def __init__(self, plan: RunPlan, publish: Callable[[RunStatus, bool], None]) -> None:
        self._plan, self._publish_status = plan, publish
        self.failure: Exception | None = None
        self._roster = Roster(plan.cameras)
        self._lock = threading.RLock()  # guards everything; held for a tick, never while waiting for an actor
        self._placement: dict[str, str] = {}
        self._camera_orders: dict[str, CameraOrder] = {}
        self._detector_orders: dict[str, DetectorOrder] = {}
        # Its number, the cameras, and those that were removed.
        self._scorer_order: tuple[int, tuple[CameraSettings, ...], tuple[CameraSettings, ...]] = (0, (), ())
        self._version = 0
        self._sent: dict[str, tuple[int, ray.ObjectRef]] = {}
        self._refusals: dict[str, str] = {}
        self._notices: list[tuple[int, Notice]] = []
        self._noticed = 0
        self._finishing: tuple[ray.ObjectRef, list[str]] | None = None
        self._draining = False
        self._calm = False
        self._closing = threading.Event()
        self._published_at = 0.0
        self._status = RunStatus(cameras=(), done=False)
        self._create_actors()

    def _create_actors(self) -> None:
        plan = self._plan
        fleet = self._fleet = cluster.plan_detectors(plan)
        detectors = [f"{plan.name}-detector-{number}" for number in range(fleet.total)]
        processes = split_cameras(
            [camera.id for camera in plan.cameras],
            per_process=plan.runtime.cameras_per_process,
            detectors=fleet.active,
            max_processes=plan.max_processes,
        )
        self._scorer = Asked(lambda: cluster.create_scorer(plan))
        self._processes: dict[str, Asked] = {}
        for members in processes:
            name = self._add_process()
            self._placement.update(dict.fromkeys(members, name))
        self._detectors: dict[str, Asked] = {}
        self._pool = DetectorPool(detectors, fleet.active)
        for name in detectors[: fleet.active]:
            self._add_detector(name)

    def start(self, stop: threading.Event) -> None:
        """Wait until all actors but spare detectors answer, then begin to watch them.

        Args:
            stop: set by a user who will wait no longer.

        Raises:
            StoppedError: ``stop`` was set.
            RunError: an actor did not come up.
        """
        wait_for_start({a.handle.pid.remote(): name for name, a in self._named().items()}, stop, _START_TIMEOUT_S)
        # Loading beside the others, spare ones would only have kept the first frame waiting.
        for name in self._pool.detectors[self._fleet.active :]:
            self._add_detector(name)
        self._tick()
        threading.Thread(target=self._watch, name="supervisor", daemon=True).start()

    def status(self) -> RunStatus:
        """How the run stands."""
        return self._status

    def apply(self, cameras: Sequence[CameraSettings], paused: Iterable[str]) -> None:
        """Read these cameras from now on, and no others.

        Args:
            cameras: the cameras; one whose settings differ from before is opened anew.
            paused: ids of those not to be read at present.
        """
        with self._lock:
            self._tell(self._roster.apply(cameras, paused, time.time()))

    def drain(self) -> None:
        """End all cameras; frames that were decoded are still scored."""
        with self._lock:
            self._draining = True
            for process in self._processes.values():
                process.handle.stop.remote()

    def close(self, ending: Ending) -> RunStatus:
        """Write what is held back, close files; returns how the run ended.

        Frames for which no time is left are counted as ``shutdown``.

        Args:
            ending: time for it, whoever hangs.
        """
        self._abandon(ending)
        self._closing.set()
        with self._lock:
            self._roster.write_off("shutdown")
            unwritten, alerts = self._close_scorer(ending)
            self._roster.sinks(alerts)
            self._status = self._roster.status(draining=True)
            for process in self._processes.values():
                process.handle.close.remote()
            self._status = replace(self._status, faults=tuple(unwritten), troubles=())
        return self._status

    def abort(self, failure: str) -> None:
        """Have the scorer close its files and say at once that the run is over; where it cannot, the next run does.

        Args:
            failure: why it cannot go on, one line; empty where its user stopped it before all actors had started.
        """
        self._closing.set()
        with suppress(RayError):
            ray.get(self._scorer.handle.close.remote(_ABORT_WITHIN_S, failure), timeout=_ABORT_WITHIN_S)

    def kill(self) -> None:
        """End the processes of all actors; what they had to write is written, or lost."""
        self._closing.set()
        with self._lock:
            for asked in self._everyone():
                ray.kill(asked.handle)

    def _everyone(self) -> list[Asked]:
        return list(self._named().values())

    def _named(self) -> dict[str, Asked]:
        return {"the scorer": self._scorer, **self._detectors, **self._processes}

    def _abandon(self, ending: Ending) -> None:
        """Discard what waits in camera processes, and give the detectors a moment for what they hold."""
        with self._lock:
            if self._roster.in_flight() == 0:
                return
            for process in self._processes.values():
                process.handle.abandon.remote()
        while ending.held_left_s(time.monotonic()) > 0.0 and self._roster.in_flight() > 0:
            time.sleep(_TICK_S / 2)

    def _close_scorer(self, ending: Ending) -> tuple[list[str], Mapping[str, int]]:
        try:
            return insist(self._scorer.handle.close.remote, lambda: ending.left_s(time.monotonic()))
        except RayTaskError as error:
            unwritten = f"the scorer could not close its files: {cause_of(error)}"
        except RayError:
            unwritten = "the scorer did not come back in time to close its files: the next run into this folder does"
        return [unwritten], self._status.alerts

    def _watch(self) -> None:
        try:
            while not self._closing.is_set():
                self._tick()
        except Exception as error:  # whatever it is: the command ends the run, and says so
            if not self._closing.is_set():
                self.failure = error

    def _tick(self) -> None:
        """Hear everyone, then say what is to be done. Waits for nobody longer than a moment."""
        everyone = self._everyone()
        questions = [asked.ask(time.monotonic()) for asked in everyone]
        started_at = time.monotonic()
        ray.wait(questions, num_returns=len(questions), timeout=_TICK_S)
        pause_s = _CALM_TICK_S if self._calm else _TICK_S
        self._closing.wait(max(0.0, pause_s - (time.monotonic() - started_at)))
        with self._lock:
            if self._closing.is_set():
                return
            for asked in everyone:
                asked.absorb(time.monotonic())
            self._hear()
            if not self._draining:
                self._place_cameras()
            self._give_orders()
            self._tell(self._roster.watch(time.time()))
            self._finish_settled()
            self._roster.archive()
            self._publish()
            self._check_hope(everyone)
            self._calm = all(asked.alive for asked in everyone) and self._all_obey() and not self._draining

    def _check_hope(self, everyone: list[Asked]) -> None:
        """Give up where nobody can come back, rather than look like a run that lives.

        Raises:
            RunError: Ray itself is dead, or no actor has come back for a minute.
        """
        if dead := dead_ray_processes():
            raise RunError(f"Ray on this machine is dead: {', '.join(dead)}")
        since = [asked.died_at for asked in everyone if asked.died_at is not None]
        if len(since) == len(everyone) and time.monotonic() - max(since) > _HOPELESS_AFTER_S:
            raise RunError(f"expected an actor of the run to come back within {_HOPELESS_AFTER_S:g} s, none did")

    def _hear(self) -> None:
        """Take in what the actors report."""
        for name, process in self._processes.items():
            if process.report is None:
                continue
            for camera_id, reader in process.report.readers.items():
                if self._placement.get(camera_id, name) == name:
                    self._roster.read(camera_id, reader)
        report = self._scorer.report
        if report is not None:
            self._roster.judge(report.cameras)
            self._roster.sinks(report.alerts)
            self._notices = [(number, notice) for number, notice in self._notices if number > report.notices]
        troubles = report.troubles if report is not None else ()
        unread = [trouble for p in self._processes.values() if p.report is not None for trouble in p.report.troubles]
        self._status = replace(
            self._roster.status(draining=self._draining),
            troubles=(*troubles, *self._deaths(), *self._refusals.values(), *unread),
            tunings=tuple(sorted({a.report[1].tuning for a in self._detectors.values() if a.report} - {""})),
        )

    def _deaths(self) -> list[str]:
        return [f"{name} died; it is being started anew" for name, a in self._named().items() if a.died_at is not None]

    def _place_cameras(self) -> None:
        """Find a process for every camera that is wanted; those of a process that is gone go to the others."""
        now = time.monotonic()
        away = {n for n, p in self._processes.items() if p.died_at is not None and now - p.died_at > _GONE_AFTER_S}
        gone = away if any(process.alive for process in self._processes.values()) else set()
        ids = [camera.id for camera in self._roster.cameras]
        per_process = self._plan.runtime.cameras_per_process
        if self._plan.max_processes is not None:
            per_process = len(ids)
        placed = place(ids, self._placement, list(self._processes), gone=gone, per_process=per_process)
        while (homeless := next((c for c, process in placed.items() if process is None), None)) is not None:
            placed[homeless] = self._add_process()
            kept = {c: process for c, process in placed.items() if process is not None}
            placed = place(ids, kept, list(self._processes), gone=gone, per_process=per_process)
        self._placement = {c: process for c, process in placed.items() if process is not None}

    def _add_process(self) -> str:
        name = f"{self._plan.name}-camera-{len(self._processes)}"
        self._processes[name] = Asked(lambda: cluster.create_camera_process(self._plan, name))
        return name

    def _add_detector(self, name: str) -> None:
        self._detectors[name] = Asked(lambda: cluster.create_detector(self._plan, self._fleet, name))

    def _give_orders(self) -> None:
        """Send an order to everyone who does not follow the newest one."""
        reports = {
            name: replace(asked.report[1], current=asked.report[0] == self._detector_orders[name].version)
            for name, asked in self._detectors.items()
            if asked.report is not None and name in self._detector_orders
        }
        living = reports if self._detector_orders else {n: d.report[1] for n, d in self._detectors.items() if d.report}
        assigned = self._pool.assign(list(self._processes), living)
        members = self._members()
        roles = {camera.id: _role(camera) for camera in self._roster.cameras}
        for name, detector in self._detectors.items():
            order = DetectorOrder(
                processes=assigned[name],
                cameras={camera.id: roles[camera.id] for process in assigned[name] for camera in members[process]},
            )
            order = self._detector_orders[name] = self._numbered(order, self._detector_orders.get(name))
            if detector.report is not None and detector.report[0] != order.version:
                self._send(name, order.version, lambda h=detector.handle, o=order: h.configure.remote(o))
        if not self._draining:
            for name, process in self._processes.items():
                order = self._camera_orders[name] = self._numbered(
                    self._camera_order(name, members[name]), self._camera_orders.get(name)
                )
                if process.report is not None and process.report.version != order.version:
                    told = replace(order, sessions=self._roster.next_sessions())
                    self._send(name, order.version, lambda h=process.handle, o=told: h.configure.remote(o))
        self._order_scorer()

    def _all_obey(self) -> bool:
        """Whether everyone follows its newest order and has the news."""
        follows = [
            *(
                a.report is not None and a.report[0] == self._detector_orders[n].version
                for n, a in self._detectors.items()
            ),
            *(
                a.report is not None and a.report.version == self._camera_orders[n].version
                for n, a in self._processes.items()
            ),
            self._scorer.report is not None and self._scorer.report.version == self._scorer_order[0],
        ]
        return all(follows) and not self._notices

    def _order_scorer(self) -> None:
        version, *told = self._scorer_order
        if told != [self._roster.cameras, self._roster.former] or version == 0:
            self._version += 1
            self._scorer_order = self._version, self._roster.cameras, self._roster.former
        report, handle = self._scorer.report, self._scorer.handle
        if report is not None and report.version != self._scorer_order[0]:
            self._send("scorer", self._scorer_order[0], lambda: handle.configure.remote(*self._scorer_order))

    def _members(self) -> dict[str, list[CameraSettings]]:
        members: dict[str, list[CameraSettings]] = {name: [] for name in self._processes}
        for camera in self._roster.cameras:
            if (process := self._placement.get(camera.id)) is not None:
                members[process].append(camera)
        return members

    def _camera_order(self, name: str, cameras: list[CameraSettings]) -> CameraOrder:
        views = {c.id: self._plan.views[c.trained_as] for c in cameras if c.trained_as in self._plan.views}
        paused = frozenset(c.id for c in cameras if c.id in self._roster.paused)
        report = self._processes[name].report
        readers = report.readers if report is not None else ()
        return CameraOrder(
            cameras=tuple(cameras),
            views=views,
            paused=paused,
            taker=self._pool.owner(name),
            deaths=self._pool.deaths(name),
            forgotten=frozenset(camera_id for camera_id in readers if not self._roster.knows(camera_id)),
            paced=any(is_live(camera.url.get_secret_value()) for camera in self._roster.cameras),
        )

    def _numbered(self, order: _Order, before: _Order | None) -> _Order:
        """The order with a number: a new one where it says something new."""
        if before is not None and replace(order, version=before.version) == before:
            return before
        self._version += 1
        return replace(order, version=self._version)

    def _send(self, name: str, version: int, send: Callable[[], ray.ObjectRef]) -> None:
        """Send an order, unless the same one is on its way."""
        if name in self._sent:
            before, reference = self._sent[name]
            if ray.wait([reference], timeout=0)[0]:
                self._note_answer(name, reference)
            elif before == version:
                return
        self._sent[name] = version, send()

    def _note_answer(self, name: str, reference: ray.ObjectRef) -> None:
        """Keep what an actor could not do, for the user; that it died is told elsewhere."""
        self._refusals.pop(name, None)
        try:
            ray.get(reference)
        except RayTaskError as error:
            self._refusals[name] = f"{name} cannot do what it is told: {cause_of(error)}"
        except RayError:
            pass

    def _tell(self, notices: Iterable[Notice]) -> None:
        """Bring news of cameras to the scorer, which emits them; repeated until it has them."""
        for notice in notices:
            self._noticed += 1
            self._notices.append((self._noticed, notice))
        if self._notices and self._scorer.report is not None:
            self._send("notices", self._notices[-1][0], lambda: self._scorer.handle.notify.remote(self._notices))

    def _finish_settled(self) -> None:
        """Have the open events of cameras that ended closed."""
        if self._finishing is not None:
            reference, ids = self._finishing
            if not ray.wait([reference], timeout=0)[0]:
                return
            self._finishing = None
            try:
                ray.get(reference)
            except RayError:  # asked again with the next tick
                return
            self._roster.finish(ids)
        if newly := self._roster.newly_settled(time.monotonic(), draining=self._draining):
            self._finishing = self._scorer.handle.finish.remote(newly), newly

    def _publish(self) -> None:
        if time.monotonic() - self._published_at >= _PUBLISH_S:
            self._published_at = time.monotonic()
            self._scorer.handle.tend.remote()
            self._publish_status(self._status, self._draining)


def _role(camera: CameraSettings) -> CameraRole:
    return CameraRole(camera.trained_as, is_live(camera.url.get_secret_value()), camera.max_frame_age_s)
