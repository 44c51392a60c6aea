"""A detector's results for one scorer: sent at once, a few calls in flight, again and in order where one failed."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import ray
from ray.exceptions import RayError, RayTaskError

from actors.actor_client import ActorClient
from pipeline.types import Dropped, Prediction

_log = logging.getLogger(__name__)

_CALLS_IN_FLIGHT = 8  # unanswered batches at the scorer: bounds memory, keeps the device busy
_CONFIRM_EVERY_S = 0.05  # nobody waits for an answer, and waking up for each costs more than sending
_ANSWER_TIMEOUT_S = 30.0  # how long an answer of a living scorer may take on an overloaded machine
_RETRY_S = 0.1
_PATIENCE_S = 1.0  # for which a detector stands still for its only scorer: one that lives is never behind for so long

FrameResults = list[Prediction | Dropped]


class ResultSender:
    """Calls to a scorer that it has not answered yet. ``send`` for one thread, ``confirm`` for another.

    Results for which there is no call yet, since the scorer is behind, wait here. They are bounded by what the detector
    holds: whoever feeds it asks for no more of the scorer's cameras while ``is_behind``.

    Args:
        scorer: the scorer.
        model: fingerprint of the model that makes the predictions.
        on_confirmed: called with the results that the scorer has taken, in order, by the thread that confirms.
        is_only: whether the run has no other scorer, so that the detector may as well wait for this one.
    """

    def __init__(
        self, scorer: ActorClient, model: str, on_confirmed: Callable[[FrameResults], None], *, is_only: bool
    ) -> None:
        self._scorer, self._model = scorer, model
        self._patience_s, self._most_unsent = (_PATIENCE_S, 0) if is_only else (0.0, _CALLS_IN_FLIGHT)
        self._on_confirmed = on_confirmed
        self._changed = threading.Condition()  # guards the calls, and that they are sent in order
        self._unanswered: deque[_PendingCall] = deque()
        self._unsent: deque[FrameResults] = deque()
        self._is_behind = False

    @property
    def is_behind(self) -> bool:
        """Whether so many results wait here for the scorer that no more frames of its cameras should be asked for."""
        return self._is_behind

    def send(self, results: FrameResults) -> None:
        """Send results to the scorer, or keep them for it; for the only one it waits for a moment."""
        with self._changed:
            if not self._is_behind:
                self._changed.wait_for(self._has_room, self._patience_s)
            self._unsent.append(results)
            self._call()
            self._is_behind = self._is_behind or len(self._unsent) > self._most_unsent

    def confirm(self) -> None:
        """Take in answers, for ever."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._unanswered) >= _CALLS_IN_FLIGHT // 2, _CONFIRM_EVERY_S)
                waiting = len(self._unanswered)
            for _ in range(waiting):
                if not self._confirm_oldest():
                    break

    def _confirm_oldest(self) -> bool:
        """Wait for the oldest call; where it failed, send it and all after it again, in order.

        The scorer ignores frames it has seen, so a call that did arrive does no harm the second time.
        """
        oldest = self._unanswered[0]  # only this thread takes any away
        if oldest.is_confirmed():
            with self._changed:
                self._unanswered.popleft()
                self._call()
                self._changed.notify_all()
            self._on_confirmed(oldest.results)
            return True
        time.sleep(_RETRY_S)
        with self._changed:
            for call in self._unanswered:
                call.resend()
        return False

    def _has_room(self) -> bool:
        return len(self._unanswered) < _CALLS_IN_FLIGHT

    def _call(self) -> None:
        """Make calls with what waits, as far as there is room."""
        while self._unsent and self._has_room():
            self._unanswered.append(_PendingCall(self._scorer, self._unsent.popleft(), self._model))
        self._is_behind = self._is_behind and bool(self._unsent)
        if len(self._unanswered) >= _CALLS_IN_FLIGHT // 2:
            self._changed.notify_all()


class _PendingCall:
    """A call with results on their way to the scorer."""

    def __init__(self, scorer: ActorClient, results: FrameResults, model: str) -> None:
        self.results, self._model, self._scorer = results, model, scorer
        self.resend()

    def resend(self) -> None:
        """Send it (again)."""
        self.reference = self._scorer.submit("add", self.results, self._model)

    def is_confirmed(self) -> bool:
        """Wait, within bounds, until the scorer has taken it."""
        if self.reference is None:
            return False
        try:
            return bool(ray.get(self.reference, timeout=_ANSWER_TIMEOUT_S))
        except RayTaskError:  # it arrived and could not be scored; a second time it could not either
            _log.exception("the scorer failed on %d frames", len(self.results))
            return True
        except RayError:  # it is started again, or was lost with its node and made anew, which is another actor
            self._scorer.lose()
            return False
