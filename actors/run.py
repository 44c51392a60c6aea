"""One run from start to end, as the process sees it that the user started."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from actors.cluster import ray_cluster
from actors.control import Attended, unattended
from actors.fleet import Fleet
from actors.supervision_file import SupervisionFile
from actors.supervisor import Supervisor
from pipeline.errors import CflowError, RunError
from pipeline.monitoring.endpoint import served_metrics
from pipeline.monitoring.run_watch import ModelInfo, RunWatch
from pipeline.redaction import redact
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.shutdown import ShutdownDeadline
from pipeline.runtime.status import RunStatus
from pipeline.sinks.run_status import RunPhase, RunStatusWriter, how_it_ended
from pipeline.types import Trouble

_log = logging.getLogger(__name__)

_POLL_S = 0.5


def run(
    plan: RunPlan,
    *,
    address: str | None,
    stop: threading.Event,
    duration_s: float | None = None,
    on_status: Callable[[RunStatus], None] = lambda status: None,
    attended: Attended = unattended,
) -> RunStatus:
    """Run a plan until every camera ended, ``stop`` is set or the time is up; then drain.

    Args:
        plan: the run.
        address: Ray cluster to join; None starts one on this machine.
        stop: set from outside to end the run in good order, within ten seconds.
        duration_s: longest time to read cameras.
        on_status: called with every new status.
        attended: given what changes the run's cameras and its model; its block lasts until the run has ended.

    Returns:
        How the run ended, after all files are closed.

    Raises:
        BadInputError: nobody answers at the address, the cluster lacks what the plan needs, or the metrics' address
            cannot be listened at.
        StoppedError: it was stopped before all actors had started.
        RunError: an actor did not start, or the run could not be ended in good order.
    """
    if address is not None:  # whose nodes need not have the model's folder
        plan = replace(plan, model_server=f"{plan.name}-model")
    redis_url, nothing = plan.sinks.redis_url.get_secret_value(), RunStatus((), done=False).totals()
    watch = RunWatch()
    with (
        served_metrics(plan.metrics, watch),
        RunStatusWriter(redis_url, plan.name, nothing) as status_writer,
        ray_cluster(address),
    ):
        fleet = Fleet(plan)
        if (lack := fleet.lack_of_room()) is not None:
            _log.warning("%s", lack)
        return supervised(
            plan, fleet, status_writer, watch, stop=stop, duration_s=duration_s, on_status=on_status, attended=attended
        )


def supervised(
    plan: RunPlan,
    fleet: Fleet,
    status_writer: RunStatusWriter,
    watch: RunWatch,
    *,
    stop: threading.Event,
    duration_s: float | None,
    on_status: Callable[[RunStatus], None],
    attended: Attended,
    memory: SupervisionFile | None = None,
) -> RunStatus:
    """Run a plan on the Ray that this process has joined; see ``run``.

    Args:
        plan: the run.
        fleet: makes its actors.
        status_writer: tells how it stands.
        watch: is told how it stands.
        stop: as in ``run``.
        duration_s: as in ``run``.
        on_status: as in ``run``.
        attended: as in ``run``.
        memory: what outlives this process, for the one that goes on with the run; None where the run dies with it.

    Raises:
        StoppedError: it was stopped before all actors had started.
        RunError: an actor did not start, or the run could not be ended in good order.
    """
    watch.tell_models((ModelInfo.of(plan.card),))

    def show(status: RunStatus) -> None:
        if (text := status_writer.trouble) is not None:
            status = replace(status, troubles=(*status.troubles, Trouble(key=text, text=text)))
        on_status(status)

    def publish(status: RunStatus, is_ending: bool) -> None:
        phase: RunPhase = "ending" if is_ending else "running"
        watch.tell(phase, status)
        watch.tell_models(tuple(ModelInfo.of(model.card) for model in supervisor.models.scoring()))
        _write_status(status_writer, phase, status)

    supervisor = Supervisor(plan, fleet, publish, memory)
    try:
        supervisor.start(stop)
        end_at = math.inf if duration_s is None else time.monotonic() + duration_s
        if duration_s is not None and memory is not None:
            end_at = time.monotonic() + memory.left_s(duration_s)
        with attended(supervisor.apply, supervisor.models) as tell_end:
            while not _follow(supervisor, show) and not stop.is_set() and time.monotonic() < end_at:
                stop.wait(max(0.0, min(_POLL_S, end_at - time.monotonic())))
            deadline = ShutdownDeadline.starting_at(time.monotonic())
            watch.tell_phase("ending")
            final = _end(supervisor, deadline, show)
            watch.tell("ended", final)
            _write_status(status_writer, "ended", final)
            tell_end(final)
        on_status(final)
        return final
    except BaseException as error:  # also a second Ctrl-C, a terminal that is gone, a bug: the run is over
        state, reason = how_it_ended(error)
        watch.tell_phase(state)
        supervisor.abort("" if state == "ended" else f"the run failed: {reason}")
        raise
    finally:
        supervisor.kill()


def _write_status(status_writer: RunStatusWriter, state: RunPhase, status: RunStatus) -> None:
    status_writer.write(state, status.totals(), status.cameras_as_json())


def _follow(supervisor: Supervisor, on_status: Callable[[RunStatus], None]) -> bool:
    """Look how the run stands; whether every camera is done.

    Raises:
        RunError: nobody watches over the actors any more.
    """
    failure = supervisor.failure
    if isinstance(failure, CflowError):
        raise failure
    if failure is not None:
        raise RunError(f"the supervisor failed: {redact(repr(failure))}") from failure
    status = supervisor.status()
    on_status(status)
    return status.done


def _end(supervisor: Supervisor, deadline: ShutdownDeadline, on_status: Callable[[RunStatus], None]) -> RunStatus:
    """End the run in good order, as far as there is time; frames that are left are counted as ``shutdown``."""
    supervisor.drain()
    while (left_s := deadline.frames_left_s(time.monotonic())) > 0.0 and not _follow(supervisor, on_status):
        time.sleep(min(_POLL_S / 2, left_s))
    return supervisor.close(deadline)
