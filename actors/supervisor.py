"""Starts a run's actors, sends them desired states, collects reports, keeps frame counts, ends the run."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from actors.actor_client import this_node
from actors.actor_set import ActorSet
from actors.cluster_nodes import NodeWatch
from actors.deliveries import Deliveries
from actors.evidence_courier import EvidenceCourier
from actors.fleet import Fleet
from actors.pool_keeper import PoolKeeper
from actors.run_models import RunModels
from actors.scorers import Scorers
from actors.supervision_file import SupervisionFile
from pipeline.camera_settings import CameraSettings
from pipeline.errors import BadInputError
from pipeline.runtime.activity import RunActivity
from pipeline.runtime.activity_meter import ActivityMeter
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.desired_state import DesiredState, DesiredStates
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.shutdown import ShutdownDeadline
from pipeline.runtime.slices import ScorerSlices
from pipeline.runtime.status import RunStatus
from pipeline.runtime.supervision import Supervision
from pipeline.types import Trouble

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 300.0  # importing torch and compiling the model in several processes of a small machine
_TICK_S = 0.2
_CALM_TICK_S = 0.25  # while every actor lives and follows its desired state: every question costs both sides CPU time
_PAUSE_TO_STEP = 3.0  # a step takes as long as there are cameras: of ten thousand, it must not be all that is done
_PUBLISH_S = 1.0
_HEARD_WITHIN_S = 10.0
_VERSIONS_EACH = 10**9  # desired states of one process of a supervisor: what actors follow is never taken for a newer


class Supervisor:
    """Owns the actors of one run; lives in a thread of the command's own process, or of a service's.

    What everyone is to do is decided by ``DesiredStates``; here it is brought to the actors, and what they report is
    taken in.

    Args:
        plan: the run.
        fleet: makes the actors.
        publish: called every second with the run's status and whether it is ending, for whoever watches it from
            outside.
        memory: what outlives this process, and what is known of a run whose supervisor died; None where the run dies
            with it.

    Attributes:
        failure: what ended its watching, which nothing should; None while all is well.
        models: its models, which can be changed.
    """

    def __init__(
        self,
        plan: RunPlan,
        fleet: Fleet,
        publish: Callable[[RunStatus, bool], None],
        memory: SupervisionFile | None = None,
    ) -> None:
        self._fleet, self._publish_status, self._memory = fleet, publish, memory
        self.failure: Exception | None = None
        before = memory.supervision if memory is not None else None
        self._adopts = before is not None
        self._node_watch = NodeWatch(fleet.look_at_nodes)
        self._registry = CameraRegistry(plan.cameras, before and before.registry)
        slices = ScorerSlices(fleet.scorers)
        self._desired_states = DesiredStates(
            self._registry,
            run=plan.name,
            slices=slices,
            detectors=fleet.detectors,
            active=fleet.active,
            cameras_per_process=plan.runtime.cameras_per_process,
            max_processes=plan.max_processes,
            scene_references=plan.scene_references,
            nodes=self._node_watch.nodes,
            saved=before and before.assignments,
            first_version=memory.incarnation * _VERSIONS_EACH if memory is not None else 0,
        )
        self._lock = threading.RLock()  # guards everything; held for a step, never while waiting for an actor
        self._deliveries = Deliveries()
        self._draining = before is not None and before.is_ending
        self._calm = False
        self._step_s = 0.0
        self._closing = threading.Event()
        self._published_at = -math.inf
        self._status = RunStatus(cameras=(), done=False)
        self._activity_meter, self._activity = ActivityMeter(plan.name, time.time()), self._status.activity
        self._actors = ActorSet(fleet)
        self._pool_keeper = PoolKeeper(fleet, self._desired_states, self._actors)
        self._scorers = Scorers(
            self._actors.scorers, slices, self._registry, self._deliveries, before.notices if before is not None else {}
        )
        self._evidence = None
        if plan.evidence is not None:
            first = memory.incarnation * _VERSIONS_EACH if memory is not None else 0
            self._evidence = EvidenceCourier(self._deliveries, self._desired_states.reader_of, this_node(), first)
        self.models = RunModels(
            plan.card, fleet, self._actors, self._desired_states, self._lock, before and before.models
        )
        self.models.prepare(self._registry.cameras)
        self._actors.keep_processes(self._desired_states.processes)
        self._actors.keep_detectors(self._desired_states.detectors if self._adopts else fleet.detectors[: fleet.active])

    def start(self, stop: threading.Event) -> None:
        """Wait until all actors but spare detectors answer, then begin to watch them.

        Args:
            stop: set by a user who will wait no longer.

        Raises:
            StoppedError: ``stop`` was set.
            RunError: an actor did not come up.
        """
        if self._adopts:
            self._actors.hear_from_all(_HEARD_WITHIN_S)
        else:
            self._fleet.wait_for_start(self._actors.named(), stop, _START_TIMEOUT_S)
        # Loading beside the others, spare ones would only have kept the first frame waiting.
        self._actors.keep_detectors(self._desired_states.detectors)
        self._tick()
        threading.Thread(target=self._watch, name="supervisor", daemon=True).start()
        self._node_watch.start()

    def status(self) -> RunStatus:
        """Status of the run."""
        return self._status

    def apply(self, cameras: Sequence[CameraSettings], paused: Iterable[str]) -> None:
        """Read these cameras from now on, and no others.

        Args:
            cameras: the cameras; one whose settings differ from before is opened anew.
            paused: ids of those not to be read at present.

        Raises:
            BadInputError: the run is ending.
        """
        with self._lock:
            if self._draining:
                raise BadInputError("expected a run that goes on, got one that is ending")
            self._scorers.add(self._registry.apply(cameras, paused, time.time()))
            self._keep(time.monotonic())  # before whoever asked is told that it is so
            self._scorers.send()

    def drain(self) -> None:
        """End all cameras; frames that were decoded are still scored."""
        with self._lock:
            self._draining = True
            self._keep(time.monotonic())
            self._actors.call_processes("stop")

    def close(self, deadline: ShutdownDeadline) -> RunStatus:
        """Write what is held back, close files; returns how the run ended.

        Frames for which no time is left are counted as ``shutdown``.

        Args:
            deadline: time for it, whoever hangs.
        """
        self._abandon(deadline)
        self._closing.set()
        with self._lock:
            self._registry.write_off("shutdown")
            unwritten = self._scorers.close(deadline)
            self._actors.call_processes("close")
            status = self._registry.status(draining=True)
            self._status = replace(
                status, unwritten=tuple(unwritten), activity=self._activity, model=self.models.status()
            )
        return self._status

    def abort(self, failure: str) -> None:
        """Have the scorers close their files and say at once that the run is over; or the next run does.

        Args:
            failure: why it cannot go on, one line; empty where its user stopped it before all actors had started.
        """
        self._closing.set()
        self._scorers.abort(failure)

    def kill(self) -> None:
        """End the processes of all actors; what they had to write is written, or lost."""
        self._closing.set()
        with self._lock:
            for actor in self._actors.named().values():
                actor.kill()
            self._fleet.close()
        self._node_watch.end()

    def step(self, now: float, now_s: float) -> None:
        """Collect all reports, and send what has changed. Waits for nobody.

        Args:
            now: monotonic seconds.
            now_s: Unix time.

        Raises:
            RunError: nobody can come back.
        """
        with self._lock:
            if self._closing.is_set():
                return
            for actor in self._actors.named().values():
                actor.collect(now)
            self._collect_reports(now)
            states = self._actors.states(self._node_watch.nodes)
            self.models.step(now)
            if not self._draining and not self.models.is_changing:
                self._pool_keeper.step(now, self._registry.dropped_late)
            desired_states = self._desired_states.update(states, now, draining=self._draining)
            self._scorers.add(self._registry.check_health(now_s))
            self._keep(now)  # before anybody follows it
            self._send_desired_states(desired_states)
            self._scorers.send()
            self._scorers.finish_settled(now, draining=self._draining)
            self._registry.archive()
            self._publish(now)
            self._actors.check_recoverable(now)
            self._calm = (
                self._desired_states.all_follow(states) and not self._scorers.has_notices and not self._draining
            )

    def _keep(self, now: float) -> None:
        """Save what this process alone knows, where that has changed."""
        if self._memory is not None:
            known = self._desired_states.saved(), self._scorers.saved(), self._draining, self.models.saved
            unreported = (self._registry.unreported(), *known)
            self._memory.keep(unreported, now, lambda: Supervision(self._registry.saved(), *known))

    def _abandon(self, deadline: ShutdownDeadline) -> None:
        """Discard what waits in camera processes, and give the detectors a moment for what they hold."""
        with self._lock:
            if self._registry.in_flight() == 0:
                return
            self._actors.call_processes("abandon")
        while deadline.detectors_left_s(time.monotonic()) > 0.0 and self._registry.in_flight() > 0:
            time.sleep(_TICK_S / 2)

    def _watch(self) -> None:
        try:
            while not self._closing.is_set():
                self._tick()
        except Exception as error:  # whatever it is: the command ends the run, and says so
            if not self._closing.is_set():
                self.failure = error

    def _tick(self) -> None:
        """Poll all actors, then take a step. Waits for nobody longer than a moment."""
        started_at = time.monotonic()
        self._fleet.poll(list(self._actors.named().values()), _TICK_S)
        pause_s = max(_CALM_TICK_S if self._calm else _TICK_S, _PAUSE_TO_STEP * self._step_s)
        self._closing.wait(max(0.0, pause_s - (time.monotonic() - started_at)))
        now = time.monotonic()
        self.step(now, time.time())
        self._step_s = time.monotonic() - now

    def _collect_reports(self, now: float) -> None:
        """Take in what the actors report."""
        unread: list[Trouble] = []
        for name, process in self._actors.processes.items():
            if process.report is None:
                continue
            unread += process.report.troubles
            for camera_id, reader in process.report.readers.items():
                if self._desired_states.is_reader(name, camera_id):
                    self._registry.update_reader(camera_id, reader)
                else:
                    self._registry.update_former_reader(camera_id, reader)
        self._scorers.take_reports()
        status = self._registry.status(draining=self._draining)
        waits = self._waits_for_evidence(now, done=status.done)
        self._status = replace(
            status,
            done=status.done and not waits,
            troubles=(
                *self._scorers.troubles(),
                *self._actors.deaths(),
                *self._deliveries.troubles(),
                *unread,
                *(self._memory.troubles if self._memory is not None else ()),
            ),
            tunings=self._actors.tunings(),
            activity=self._activity,
            model=self.models.status(),
        )

    def _waits_for_evidence(self, now: float, *, done: bool) -> bool:
        if self._evidence is None:
            return False
        self._evidence.step(self._actors.scorers, self._actors.processes)
        return self._evidence.holds_up(self._actors.scorers, now, done=done)

    def _send_desired_states(self, desired_states: Mapping[str, DesiredState]) -> None:
        ended = self._actors.keep_processes(self._desired_states.processes)
        ended += self._actors.keep_detectors(self._desired_states.detectors)
        for name in ended:
            self._deliveries.forget(name)
        named = self._actors.named()
        for name, desired in desired_states.items():
            self._deliveries.send(name, desired.version, lambda n=name, d=desired: named[n].call("configure", d))

    def _publish(self, now: float) -> None:
        if now - self._published_at >= _PUBLISH_S:
            self._published_at = now
            self._scorers.maintain()
            self._activity = self._measure_activity()
            self._status = replace(self._status, activity=self._activity)
            self._publish_status(self._status, self._draining)

    def _measure_activity(self) -> RunActivity:
        return self._activity_meter.update(
            {name: scorer.report for name, scorer in self._actors.scorers.items()},
            {name: process.report for name, process in self._actors.processes.items()},
            {name: detector.report for name, detector in self._actors.detectors.items()},
        )
