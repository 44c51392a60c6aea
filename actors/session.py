"""One run from start to end, as the process sees it that the user started."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from actors.cluster import create_supervisor, ray_cluster
from pipeline.config import CameraSettings
from pipeline.errors import CflowError, RunError
from pipeline.redaction import redact
from pipeline.runtime.ending import Ending
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.status import RunStatus

_POLL_S = 0.5
_ANSWER_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 360.0
_LATE_S = 0.5  # an answer that comes at the last moment has a way to go

Apply = Callable[[Sequence[CameraSettings], frozenset[str]], None]


def run(
    plan: RunPlan,
    *,
    address: str | None,
    stop: threading.Event,
    duration_s: float | None = None,
    on_status: Callable[[RunStatus], None] = lambda status: None,
    attended: Callable[[Apply], AbstractContextManager[object]] = lambda apply: nullcontext(),
) -> RunStatus:
    """Run a plan until every camera ended, ``stop`` is set or the time is up; then drain.

    Args:
        plan: the run.
        address: Ray cluster to join; None starts one on this machine.
        stop: set from outside to end the run in good order, within ten seconds.
        duration_s: longest time to read cameras.
        on_status: called with every new status.
        attended: given the function that changes the run's cameras; its block lasts as long as they are read.

    Returns:
        How the run ended, after all files are closed.

    Raises:
        BadInputError: nobody answers at the address, or the cluster lacks what the plan needs.
        RunError: an actor did not start, it was stopped before they all had, or it could not be ended in good order.
    """
    with ray_cluster(address):
        supervisor = create_supervisor(plan)
        try:
            _wait_for_start(supervisor.start.remote(), stop)
            end_at = None if duration_s is None else time.monotonic() + duration_s
            with attended(_applying(supervisor)):
                while not _follow(supervisor, on_status, stop) and not stop.is_set():
                    if end_at is not None and time.monotonic() >= end_at:
                        break
                    stop.wait(_POLL_S if end_at is None else max(0.0, min(_POLL_S, end_at - time.monotonic())))
                ending = Ending.begun(time.monotonic())
            final = _end(supervisor, ending, on_status)
            on_status(final)
            return final
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, CflowError):
                raise cause from error
            raise RunError(f"the supervisor failed: {redact(repr(cause))}") from error
        except RayError as error:
            raise RunError(f"the supervisor is gone: {str(error).splitlines()[0]}") from error
        finally:
            ray.kill(supervisor)  # and with it every actor it created


def _follow(supervisor: ActorHandle, on_status: Callable[[RunStatus], None], stop: threading.Event) -> bool:
    """Look how the run stands; whether every camera is done. Waits for no answer once the user wants to stop."""
    reference = supervisor.status.remote()
    give_up_at = time.monotonic() + _ANSWER_TIMEOUT_S
    while not ray.wait([reference], timeout=_POLL_S)[0]:
        if stop.is_set():
            return False
        if time.monotonic() >= give_up_at:
            raise RunError(f"the supervisor is gone: expected an answer within {_ANSWER_TIMEOUT_S:g} s, got none")
    status = cast(RunStatus, ray.get(reference))
    on_status(status)
    return status.done


def _end(supervisor: ActorHandle, ending: Ending, on_status: Callable[[RunStatus], None]) -> RunStatus:
    """End the run in good order, as far as there is time; frames that are left are counted as ``shutdown``."""

    def answer(reference: ray.ObjectRef) -> RunStatus:
        return cast(RunStatus, ray.get(reference, timeout=ending.left_s(time.monotonic()) + _LATE_S))

    answer(supervisor.drain.remote())
    while (left_s := ending.frames_left_s(time.monotonic())) > 0.0:
        status = answer(supervisor.status.remote())
        on_status(status)
        if status.done:
            break
        time.sleep(min(_POLL_S / 2, left_s))
    # Seconds, not a time: the supervisor's monotonic clock may be that of another machine.
    return answer(supervisor.close.remote(ending.left_s(time.monotonic())))


def _applying(supervisor: ActorHandle) -> Apply:
    def apply(cameras: Sequence[CameraSettings], paused: frozenset[str]) -> None:
        ray.get(supervisor.apply.remote(cameras, paused), timeout=_ANSWER_TIMEOUT_S)

    return apply


def _wait_for_start(started: ray.ObjectRef, stop: threading.Event) -> None:
    """Wait for the actors, but not for a user who has had enough."""
    give_up_at = time.monotonic() + _START_TIMEOUT_S
    while not ray.wait([started], timeout=_POLL_S)[0]:
        if stop.is_set():
            raise RunError("stopped before all actors had started; nothing was scored")
        if time.monotonic() >= give_up_at:
            raise RunError(f"expected all actors to start within {_START_TIMEOUT_S:.0f} s, some did not")
    ray.get(started)
