"""One run from start to end, as the process sees it that the user started."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import cast

import ray
from ray.exceptions import RayError, RayTaskError

from actors.cluster import create_supervisor, ray_cluster
from pipeline.errors import CflowError, RunError
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.status import RunStatus

_POLL_S = 0.25
_ANSWER_TIMEOUT_S = 60.0
_START_TIMEOUT_S = 240.0
_DRAIN_TIMEOUT_S = 60.0


def run(
    plan: RunPlan,
    *,
    address: str | None,
    stop: threading.Event,
    duration_s: float | None = None,
    on_status: Callable[[RunStatus], None] = lambda status: None,
) -> RunStatus:
    """Run a plan until every camera ended, ``stop`` is set or the time is up; then drain.

    Args:
        plan: the run.
        address: Ray cluster to join; None starts one on this machine.
        stop: set from outside to end the run in good order.
        duration_s: longest time to read cameras.
        on_status: called with every new status.

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
            drain_until: float | None = None
            while True:
                status = cast(RunStatus, ray.get(supervisor.status.remote(), timeout=_ANSWER_TIMEOUT_S))
                on_status(status)
                now = time.monotonic()
                if status.done or (drain_until is not None and now >= drain_until):
                    break
                if drain_until is None and (stop.is_set() or (end_at is not None and now >= end_at)):
                    ray.get(supervisor.drain.remote(), timeout=_ANSWER_TIMEOUT_S)
                    drain_until = now + _DRAIN_TIMEOUT_S
                stop.wait(_POLL_S) if drain_until is None else time.sleep(_POLL_S)
            final = cast(RunStatus, ray.get(supervisor.close.remote(), timeout=2 * _ANSWER_TIMEOUT_S))
            on_status(final)
            return final
        except RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, CflowError) else RunError(f"the supervisor failed: {cause!r}") from error
        except RayError as error:
            raise RunError(f"the supervisor is gone: {str(error).splitlines()[0]}") from error
        finally:
            ray.kill(supervisor)  # and with it every actor it created


def _wait_for_start(started: ray.ObjectRef, stop: threading.Event) -> None:
    """Wait for the actors, but not for a user who has had enough."""
    give_up_at = time.monotonic() + _START_TIMEOUT_S
    while not ray.wait([started], timeout=_POLL_S)[0]:
        if stop.is_set():
            raise RunError("stopped before all actors had started; nothing was scored")
        if time.monotonic() >= give_up_at:
            raise RunError(f"expected all actors to start within {_START_TIMEOUT_S:.0f} s, some did not")
    ray.get(started)
