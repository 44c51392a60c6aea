"""What every actor needs: clients of actors that may be restarting, and threads that must not die alone."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from pipeline.redaction import redact

_log = logging.getLogger(__name__)

_RETRY_S = 0.1
_EXIT_AFTER_S = 2.0  # by then Ray knows that the actor is not to be started again


def start_vital_thread(task: Callable[..., None], *arguments: Any) -> None:
    """Run a task in a daemon thread; should it raise, the whole process ends, so that Ray starts it afresh.

    An actor that lives on without one of its threads would look healthy and do nothing. The kernel gets the task's
    name, so that ``top -H`` and ``benchmarks/transport.py`` can say which task of a process takes how much time.
    """

    def run() -> None:
        with contextlib.suppress(OSError):  # a name is a convenience, and not every kernel has these files
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(task.__name__, encoding="ascii")
        try:
            task(*arguments)
        except BaseException:
            _log.exception("%s failed; this process ends and is started again", task.__name__)
            logging.shutdown()
            os._exit(1)

    threading.Thread(target=run, name=task.__name__, daemon=True).start()


def exit_soon() -> None:
    """End this process in a moment: for an actor that is being killed.

    Ray's head loses sight of the process of an actor that was being made while the head was started again: it takes the
    actor for dead when it is killed, and the process would stay.
    """
    ending = threading.Timer(_EXIT_AFTER_S, os._exit, (0,))
    ending.daemon = True
    ending.start()


def this_node() -> str:
    """Id of the node that this process runs on; empty outside a cluster."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


class ActorClient:
    """Another actor of this run, found by name.

    Args:
        name: the actor's name in this namespace.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._handle: ActorHandle | None = None
        self._last_logged = ""

    def submit(self, method: str, *arguments: Any) -> ray.ObjectRef | None:
        """Start a call; None when there is no such actor at the moment."""
        try:
            if self._handle is None:
                self._handle = ray.get_actor(self._name)
            return getattr(self._handle, method).remote(*arguments)
        except (RayError, ValueError):  # ValueError: ray knows no actor of this name
            self._handle = None
            return None

    def lose(self) -> None:
        """Look for it anew with the next call: it may have died for good, and another one have its name."""
        self._handle = None

    def call(self, method: str, *arguments: Any, answer_within_s: float) -> Any:
        """Call and wait for the answer; None, after a short pause, when the actor is away or too slow."""
        reference = self.submit(method, *arguments)
        if reference is not None:
            try:
                return ray.get(reference, timeout=answer_within_s)
            except RayTaskError as error:  # it lives and cannot do it, which must not pass unseen
                self._log_once(f"{self._name} failed on {method!r}: {error.cause!r}")
            except RayError:  # died, restarting, unreachable or slow: all of them mean "ask again"
                self._handle = None
        time.sleep(_RETRY_S)
        return None

    def _log_once(self, line: str) -> None:
        """Log it, but not again at every attempt."""
        if line != self._last_logged:
            _log.error("%s", redact(line))
        self._last_logged = line
