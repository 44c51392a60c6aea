"""An actor that is asked again and again how it stands, and never waited for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayError

_log = logging.getLogger(__name__)

_PATIENCE_S = 30.0  # without an answer, of one that has answered before
_START_PATIENCE_S = 180.0  # importing torch in several processes of a small machine takes a while
_RECREATE_EVERY_S = 2.0


class Asked:
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
        self._pending: ray.ObjectRef | None = None
        self._asked_at = 0.0
        self._created_at = 0.0

    def ask(self, now: float) -> ray.ObjectRef:
        """The question that is under way, asked if there is none.

        Args:
            now: monotonic seconds.
        """
        if self._pending is None:
            self._pending = self.handle.report.remote()
            self._asked_at = now
        return self._pending

    def absorb(self, now: float) -> None:
        """Take in the answer, where it has come.

        Args:
            now: monotonic seconds.
        """
        if self._pending is None:
            return
        if not ray.wait([self._pending], timeout=0)[0]:
            patience_s = _PATIENCE_S if self.alive else _START_PATIENCE_S
            if now - self._asked_at > patience_s:
                _log.error("an actor has not answered for %.0f s and is started anew", patience_s)
                ray.kill(self.handle, no_restart=False)
                self._pending = None
                self._note_death(now)  # or it would be killed again while it starts
            return
        pending, self._pending = self._pending, None
        try:
            self.report = ray.get(pending)
            self.alive, self.died_at = True, None
        except RayError as error:
            self._note_death(now)
            if isinstance(error, ActorDiedError) and now - self._created_at > _RECREATE_EVERY_S:
                self._recreate(now)

    def _note_death(self, now: float) -> None:
        self.alive, self.report = False, None
        self.died_at = self.died_at or now

    def _recreate(self, now: float) -> None:
        self._created_at = now
        try:
            self.handle = self._create()
        except (RayError, ValueError) as error:  # ValueError: Ray has not let go of the name yet
            _log.warning("an actor that is gone could not be created yet: %s", error)
