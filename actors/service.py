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
        os.umask(0o077)  # what it writes is this user's
        self._service = service
        self._stop = threading.Event()
        start_vital_thread(self._serve)

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def _serve(self) -> None:
        """Run it to its end, say how it ended, and leave nothing of it behind."""
        context = ray.get_runtime_context()
        directory = ServiceDirectory.at(context.gcs_address)
        plan = self._service.plan
        record = ServiceRecord(
            run=plan.name,
            state="starting",
            started_at_s=time.time(),
            node=ray.util.get_node_ip_address(),
            folder=str(_folder(plan).path),
            redis_url=plan.sinks.redis_url,
        )
        try:
            final = self._run(directory, record)
            _log.warning("%s ended: %s", plan.name, totals_line(final.totals()))
            _say(directory, replace(record, state="ended"))
        except Exception as error:  # whatever it is: nobody else would say it
            _log.exception("%s failed", plan.name)
            _, reason = how_it_ended(error)
            is_bad_input = isinstance(error, BadInputError)
            _say(directory, replace(record, state="failed", reason=reason, is_bad_input=is_bad_input))
        finally:
            end_actors(plan.name)

    def _run(self, directory: ServiceDirectory, record: ServiceRecord) -> RunStatus:
        """The run, from where a process before this one left it.

        Raises:
            BadInputError: another run uses the folder, or Redis does not answer.
            RunError: an actor did not start, or the run could not be ended in good order.
        """
        plan, folder = self._service.plan, _folder(self._service.plan)
        redis_url = plan.sinks.redis_url.get_secret_value()
        with _locked(folder.path, within_s=_LOCKED_WITHIN_S if folder.supervision_file.exists() else 0.0):
            memory = SupervisionFile(folder.supervision_file, plan.name)
            record = replace(record, started_at_s=memory.started_at_s)
            if memory.is_new:
                check_redis(redis_url)
                _say(directory, record)
            elif memory.supervision is not None and memory.supervision.is_ending:
                self._stop.set()

            @contextmanager
            def attended(apply: Apply, models: RunModels) -> Iterator[Ended]:
                _say(directory, replace(record, state="running"))
                run_control = self._run_control(memory, apply, models)
                with answering(directory, plan.name, run_control):
                    yield run_control.over

            begun_at_s = None if memory.is_new else memory.started_at_s
            nothing, watch = RunStatus((), done=False).totals(), RunWatch()
            with (
                served_metrics(plan.metrics, watch),
                RunStatusWriter(redis_url, plan.name, nothing, begun_at_s) as status_writer,
            ):
                final = supervised(
                    plan,
                    Fleet(plan, detached=True),
                    status_writer,
                    watch,
                    stop=self._stop,
                    duration_s=self._service.duration_s,
                    on_status=_Told(),
                    attended=attended,
                    memory=memory,
                )
            memory.remove()
        return final

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
        )


@contextmanager
def _locked(folder: Path, within_s: float) -> Iterator[None]:
    """Hold the run's folder; a run that came while this one's supervisor was away does not start, and leaves it again.

    Raises:
        BadInputError: another run uses it.
    """
    give_up_at = time.monotonic() + within_s
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(run_lock(folder))
                break
            except BadInputError:
                if time.monotonic() >= give_up_at:
                    raise
            time.sleep(_SAY_EVERY_S)
        yield


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


def _folder(plan: RunPlan) -> RunFolder:
    return RunFolder(plan.sinks.state_folder)


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
