"""An actor that is polled for its report, and never waited for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from pipeline.errors import RunError, StoppedError
from pipeline.redaction import redact

_log = logging.getLogger(__name__)

_PATIENCE_S = 30.0  # without an answer, of one that has answered before
_START_PATIENCE_S = 180.0  # importing torch in several processes of a small machine takes a while
_RECREATE_EVERY_S = 2.0
_LOOK_EVERY_S = 0.2


class Answer:
    """What an actor answers to one call, once it does.

    Args:
        reference: of the call.
    """

    def __init__(self, reference: ray.ObjectRef) -> None:
        self._reference = reference

    def has_arrived(self) -> bool:
        """Whether it is there, or there will be none."""
        return bool(ray.wait([self._reference], timeout=0)[0])

    def get(self, within_s: float | None = None) -> Any:
        """The answer, waited for.

        Args:
            within_s: longest wait; None waits as long as it takes.

        Raises:
            RayTaskError: the call raised.
            RayError: the actor died, or did not answer in time.
        """
        return ray.get(self._reference, timeout=within_s)


class ActorMonitor:
    """One actor, its newest report, and whether it lives.

    One that no longer answers is killed, for Ray to start it afresh; one that is gone for good is created anew.

    Args:
        create: makes the actor.
    """

    def __init__(self, create: Callable[[], ActorHandle]) -> None:
        self._create = create
        self.handle = create()
        self.alive = False
        """Whether its last call was answered."""
        self.report: Any = None
        """Its newest report; None before the first since it started."""
        self.died_at: float | None = None
        """When it was found dead, monotonic; None while it lives."""
        self.failure = ""
        """Why it could not be started, one line; empty while it lives, or where that is not why it is dead."""
        self._pending: ray.ObjectRef | None = None
        self._polled_at = 0.0
        self._created_at = 0.0

    def call(self, method: str, *arguments: Any) -> Answer:
        """Call one of its methods."""
        return Answer(getattr(self.handle, method).remote(*arguments))

    def call_until_answered(self, method: str, left_s: Callable[[], float]) -> Any:
        """As the function ``call_until_answered``, of one of its methods."""
        return call_until_answered(lambda seconds: getattr(self.handle, method).remote(seconds), left_s)

    def kill(self) -> None:
        """End its process for good."""
        self.handle.end.remote()
        ray.kill(self.handle)

    def poll(self, now: float) -> ray.ObjectRef:
        """The call that is under way; a new one where there is none.

        Args:
            now: monotonic seconds.
        """
        if self._pending is None:
            self._pending = self.handle.report.remote()
            self._polled_at = now
        return self._pending

    def collect(self, now: float) -> None:
        """Take in the report, where it has come.

        Args:
            now: monotonic seconds.
        """
        if self._pending is None:
            return
        if not ray.wait([self._pending], timeout=0)[0]:
            patience_s = _PATIENCE_S if self.alive else _START_PATIENCE_S
            if now - self._polled_at > patience_s:
                _log.error("an actor has not answered for %.0f s and is started anew", patience_s)
                ray.kill(self.handle, no_restart=False)
                self._pending = None
                self._note_death(now)  # or it would be killed again while it starts
            return
        pending, self._pending = self._pending, None
        try:
            self.report = ray.get(pending)
            self.alive, self.died_at, self.failure = True, None, ""
        except RayError as error:
            self._note_death(now)
            if isinstance(error, ActorDiedError):
                self.failure = _last_line(error)
            if isinstance(error, ActorDiedError) and now - self._created_at > _RECREATE_EVERY_S:
                self._recreate(now)

    def _note_death(self, now: float) -> None:
        self.alive, self.report = False, None
        self.died_at = self.died_at or now

    def _recreate(self, now: float) -> None:
        self._created_at = now
        try:
            self.handle = self._create()
        except (RayError, ValueError) as error:  # ValueError: Ray has not released the name yet
            _log.warning("an actor that is gone could not be created yet: %s", error)


def _last_line(error: RayError) -> str:
    """What Ray says of a dead actor ends with what was raised in it."""
    return redact(str(error).strip().splitlines()[-1].strip())


def cause_of(error: RayTaskError) -> str:
    """What a call of an actor raised, in one line without credentials."""
    return redact(" ".join(str(error.cause).split()))


def wait_for_start(answers: Mapping[ray.ObjectRef, str], stop: threading.Event, within_s: float) -> None:
    """Wait until actors answer; with the first that does not come up, the others are not waited for.

    Args:
        answers: calls, and the name of the actor that was called.
        stop: set by a user who will wait no longer.
        within_s: seconds for all of them.

    Raises:
        StoppedError: ``stop`` was set.
        RunError: an actor did not come up.
    """
    give_up_at = time.monotonic() + within_s
    waiting = list(answers)
    while waiting:
        done, waiting = ray.wait(waiting, timeout=_LOOK_EVERY_S)
        for answer in done:
            try:
                ray.get(answer)
            except RayError as error:
                raise RunError(f"{answers[answer]} did not start: {_last_line(error)}") from None
        if stop.is_set():
            raise StoppedError("stopped before all actors had started; nothing was scored")
        if waiting and time.monotonic() >= give_up_at:
            late = ", ".join(answers[answer] for answer in waiting)
            raise RunError(f"expected all actors to start within {within_s:g} s, got no answer from {late}")


def call_until_answered(call: Callable[[float], ray.ObjectRef], left_s: Callable[[], float]) -> Any:
    """The answer of an actor that may be restarting: it is asked again until it answers.

    Args:
        call: asks, given the seconds that are left.
        left_s: seconds that are left now.

    Raises:
        RayTaskError: it answered with an error; asked again, it would do so again.
        RayError: it did not answer in time.
    """
    while True:
        try:
            return ray.get(call(left_s()), timeout=left_s())
        except RayTaskError:
            raise
        except RayError:
            if left_s() <= 0.0:
                raise
            time.sleep(min(_LOOK_EVERY_S, left_s()))
