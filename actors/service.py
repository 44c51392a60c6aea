"""A run that belongs to a cluster and to no command: its supervisor is an actor, which Ray starts again."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from ray.exceptions import RayError

from actors.actor_client import start_vital_thread
from actors.control import Apply, Ended, RunControl
from actors.fleet import Fleet
from actors.run import supervised
from actors.run_models import RunModels
from actors.service_directory import ServiceDirectory, ServiceRecord
from actors.service_requests import answering
from actors.supervision_file import SupervisionFile
from pipeline.config import Config
from pipeline.errors import BadInputError, RunError
from pipeline.logs import log_json_in_actor
from pipeline.monitoring.endpoint import served_metrics
from pipeline.monitoring.run_watch import RunWatch
from pipeline.run_folder import RunFolder
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.status import RunStatus, totals_line
from pipeline.sinks.redis_client import check_redis
from pipeline.sinks.run_lock import run_lock
from pipeline.sinks.run_status import RunStatusWriter, how_it_ended

_log = logging.getLogger(__name__)

_SAY_WITHIN_S = 60.0  # a head that is started again meanwhile
_SAY_EVERY_S = 1.0
_LOCKED_WITHIN_S = 30.0
_FLEET_WITHIN_S, _FLEET_EVERY_S = 600.0, 5.0
SETTINGS = {"RAY_max_direct_call_object_size": str(2**20)}
"""Of its process and of all actors that it makes: what they are built from outlives it (``joined_ray`` has more)."""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What a service is built from, and rebuilt from after a crash.

    Attributes:
        plan: the run.
        config: its settings.
        scenes: what the model knows.
        duration_s: longest time to read cameras; None is none.
    """

    plan: RunPlan
    config: Config
    scenes: tuple[str, ...]
    duration_s: float | None


def service_name(run: str) -> str:
    """Name of the actor."""
    return f"{run}-service"


class ServiceActor:
    """Supervises one run, which goes on while it is away, and ends itself with it.

    Args:
        service: what it is built from.
    """

    def __init__(self, service: ServicePlan) -> None:
        log_json_in_actor()
        os.umask(0o077)  # what it writes is this user's
        self._service = service
        self._stop = threading.Event()
        start_vital_thread(self._serve)

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def _serve(self) -> None:
        """Run it to its end, say how it ended, and leave nothing of it behind."""
        directory, plan = ServiceDirectory.at(ray.get_runtime_context().gcs_address), self._service.plan
        record = ServiceRecord(
            run=plan.name,
            state="starting",
            started_at_s=time.time(),
            node=ray.util.get_node_ip_address(),
            folder=str(plan.sinks.state_folder),
            redis_url=plan.sinks.redis_url,
        )
        if not _is_over(directory, plan.name):
            with ExitStack() as held:
                _say(directory, self._run(held, directory, record))
        end_actors(plan.name)

    def _run(self, held: ExitStack, directory: ServiceDirectory, record: ServiceRecord) -> ServiceRecord:
        """The run to its end, from where a process before this one left it; what is to be said of it then.

        Args:
            held: gets what is to be released once that was said; a process that is killed before finds the run ending.
            directory: takes how it stands.
            record: of the service.
        """
        plan, folder = self._service.plan, RunFolder(self._service.plan.sinks.state_folder)
        try:
            _hold(folder.path, held, within_s=_LOCKED_WITHIN_S if folder.supervision_file.exists() else 0.0)
            memory = SupervisionFile(folder.supervision_file, plan.name)
            held.callback(memory.remove)
            record = replace(record, started_at_s=memory.started_at_s)
            if memory.is_new:
                check_redis(plan.sinks.redis_url.get_secret_value())
                _say(directory, record)
            elif memory.supervision is not None and memory.supervision.is_ending:
                self._stop.set()
            final = self._supervised(memory, directory, replace(record, state="running"))
        except Exception as error:  # whatever it is: nobody else would say it
            _log.exception("%s failed", plan.name)
            is_bad_input = isinstance(error, BadInputError)
            return replace(record, state="failed", reason=how_it_ended(error)[1], is_bad_input=is_bad_input)
        _log.warning("%s ended: %s", plan.name, totals_line(final.totals()))
        return replace(record, state="ended")

    def _supervised(self, memory: SupervisionFile, directory: ServiceDirectory, record: ServiceRecord) -> RunStatus:
        plan, watch = self._service.plan, RunWatch()
        nothing = RunStatus((), done=False).totals()

        @contextmanager
        def attended(apply: Apply, models: RunModels) -> Iterator[Ended]:
            _say(directory, record)
            run_control = self._run_control(memory, apply, models)
            with answering(directory, plan.name, run_control):
                yield run_control.over

        redis_url, begun_at_s = plan.sinks.redis_url.get_secret_value(), None if memory.is_new else record.started_at_s
        with (
            served_metrics(plan.metrics, watch),
            RunStatusWriter(redis_url, plan.name, nothing, begun_at_s) as status_writer,
        ):
            return supervised(
                plan,
                _fleet(plan, within_s=0.0 if memory.is_new else _FLEET_WITHIN_S),
                status_writer,
                watch,
                stop=self._stop,
                duration_s=self._service.duration_s,
                on_status=_Told(),
                attended=attended,
                memory=memory,
            )

    def _run_control(self, memory: SupervisionFile, apply: Apply, models: RunModels) -> RunControl:
        """What is asked of the run, which may have been asked of a process before this one."""
        config, before = self._service.config, memory.supervision
        registry = CameraRegistry(self._service.plan.cameras, before and before.registry)
        return RunControl(
            config.model_copy(update={"cameras": registry.cameras}),
            None,
            self._service.scenes,
            apply,
            models,
            stop=self._stop.set,
            paused=registry.paused,
            verdicts=RunFolder(self._service.plan.sinks.state_folder).verdicts_file,
        )


def _hold(folder: Path, held: ExitStack, within_s: float) -> None:
    """Hold the run's folder; a run that came while this one's supervisor was away does not start, and leaves it again.

    Args:
        folder: made where it is missing.
        held: until it ends.
        within_s: for how long it is tried.

    Raises:
        BadInputError: another run uses it.
    """
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            return held.enter_context(run_lock(folder))
        except BadInputError:
            if time.monotonic() >= give_up_at:
                raise
        time.sleep(_SAY_EVERY_S)


def _fleet(plan: RunPlan, within_s: float) -> Fleet:
    """What makes the run's actors.

    Args:
        plan: the run.
        within_s: for how long the cluster may lack what it had: the nodes with it may be on their way, too.

    Raises:
        BadInputError: it lacks it.
    """
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            return Fleet(plan, detached=True)
        except BadInputError as error:
            if time.monotonic() >= give_up_at:
                raise
            _log.warning("%s; waiting for it", error)
        time.sleep(_FLEET_EVERY_S)


class _Told:
    """Logs what is wrong, once: there is no terminal to show it on."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()

    def __call__(self, status: RunStatus) -> None:
        for trouble in status.troubles:
            if trouble.key not in self._told:
                _log.warning("%s", trouble.text)
        self._told = frozenset(trouble.key for trouble in status.troubles)


def end_actors(run: str) -> None:
    """End all actors of a run that are there, that of its service last."""
    names: list[str] = [name for name in ray.util.list_named_actors() if name.startswith(f"{run}-")]
    for name in sorted(names, key=lambda name: name == service_name(run)):
        with suppress(RayError, ValueError):  # it has just ended
            ray.kill(ray.get_actor(name), no_restart=True)


def _is_over(directory: ServiceDirectory, run: str) -> bool:
    """Whether a process before this one has said how the run ended, and died before it ended itself."""
    try:
        return any(record.is_over for record in directory.records() if record.run == run)
    except RunError:  # what it finds in the run's folder tells it as well
        return False


def _say(directory: ServiceDirectory, record: ServiceRecord) -> None:
    """Write a record; a head that is away is waited for."""
    give_up_at = time.monotonic() + _SAY_WITHIN_S
    while True:
        try:
            return directory.put(record)
        except RunError as error:
            if time.monotonic() >= give_up_at:
                _log.warning("how the service stands was not written: %s", error)
                return None
        time.sleep(_SAY_EVERY_S)
