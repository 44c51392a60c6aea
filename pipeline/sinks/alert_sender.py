"""A sink that sends alerts one by one to somebody who may be away, refuse or be slow: in order per camera, until taken.

One daemon thread sends. A camera whose alert is refused waits for its next try alone; where nobody is there at all, or
asks for a pause, all wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from pipeline.backoff import Backoff
from pipeline.sinks.alert_queue import AlertCounts, AlertQueue, QueuedAlert
from pipeline.sinks.base import Outage, Reason, Sink
from pipeline.types import Trouble

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_ASKED_S = 600.0  # a receiver that asks for a longer pause is asked again after this one
_JOIN_S = 0.1
_UPKEEP = "upkeep"


class NotSentError(Exception):
    """Why an alert was not taken.

    Args:
        reason: without credentials.
        pause_s: how long the receiver asks to be left alone; None where it does not say.
    """

    def __init__(self, reason: Reason, pause_s: float | None = None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.pause_s = pause_s


class RefusedError(NotSentError):
    """It may be the alert's doing: those of other cameras are tried meanwhile."""


class AwayError(NotSentError):
    """Nobody can be sent anything: all wait."""


class NotYetError(Exception):
    """The alert is to wait, and those of its camera with it, though nothing is wrong.

    Args:
        wait_s: for how long at most; whatever is new in the outbox ends it.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"{wait_s:g} s")
        self.wait_s = wait_s


class AlertSender(Sink):
    """Sends what its end of the outbox holds. Any thread may call its methods; what begins with ``_`` is its own.

    Args:
        label: what is sent to, without credentials.
        alerts: where alerts come from; what is left there when this closes waits for the next run.
        retry_max_s: longest pause between two tries of an alert.
    """

    def __init__(self, label: str, alerts: AlertQueue, retry_max_s: float) -> None:
        self._label = label
        self._alerts = alerts
        self._retry_max_s = retry_max_s
        self._changed = threading.Condition()  # guards everything below
        self._receiver = Tries(label, retry_max_s)
        self._cameras: dict[str | None, Tries] = {}  # those whose oldest alert was refused
        self._waiting: dict[str | None, float] = {}  # those whose oldest alert is not to be sent yet; monotonic
        self._is_woken = False  # whether something has changed since an alert was last taken to be sent
        self._idle = False
        self._is_last_try = False
        self._closing = False
        self._writer = threading.Thread(target=self._run, name=f"{type(self).__name__}-writer", daemon=True)

    # What a kind of sink brings.

    def _send(self, alert: QueuedAlert) -> Sequence[QueuedAlert]:
        """Try an alert once.

        Returns:
            What was delivered by it: the alert, and others that were told with it.

        Raises:
            NotSentError: it was not taken.
            NotYetError: it is to wait.
        """
        raise NotImplementedError

    def _needs_upkeep(self) -> bool:
        """Whether there is something to be done beside sending; asked with the lock held."""
        return False

    def _upkeep(self) -> None:
        """Do it.

        Raises:
            AwayError: it cannot be done now.
        """

    def _release(self) -> None:
        """Let go of connections; the last thing that the thread does."""

    # A sink.

    @property
    def trouble(self) -> Trouble | None:
        """Why alerts wait at present, without credentials; None when all is well."""
        with self._changed:
            tries = [self._receiver, *self._cameras.values()]
            return next((each.outage.trouble for each in tries if each.outage.trouble is not None), None)

    @property
    def alert_counts(self) -> AlertCounts:
        """What became of the alerts."""
        return self._alerts.counts

    def wake(self) -> None:
        """Say that the outbox has new alerts."""
        with self._changed:
            self._rouse()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until the receiver has every alert; whether it has.

        Args:
            timeout_s: longest wait.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._alerts.counts.waiting == 0, timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Try once more what waits, as far as there is time, then stop.

        Args:
            timeout_s: longest time for it. What is on its way then may arrive, and is repeated by the next run.
        """
        if not self._writer.is_alive():
            return
        deadline = time.monotonic() + timeout_s
        with self._changed:
            for tries in (self._receiver, *self._cameras.values()):
                tries.not_before = 0.0
            self._is_last_try = True
            self._rouse()
            self._changed.wait_for(lambda: self._idle, timeout_s)
            self._closing = True
            self._changed.notify_all()
        self._writer.join(max(_JOIN_S, deadline - time.monotonic()))
        for line in self.unwritten():
            _log.error("%s", line)

    def unwritten(self) -> list[str]:
        """One line per thing that could not be written so far."""
        counts = self._alerts.counts
        lines: list[str] = []
        if counts.dropped:
            lines.append(f"{self._label}: dropped {counts.dropped} alerts")
        if counts.waiting:
            trouble = self.trouble
            why = f"{self._label}: still on their way" if trouble is None else trouble.text
            lines.append(f"{why}: {counts.waiting} alerts were not delivered; the next run delivers them")
        return lines

    def _rouse(self) -> None:
        """Have the writer look at everything again; with the lock held."""
        self._waiting.clear()
        self._is_woken = True
        self._idle = False
        self._changed.notify_all()

    # The writer thread.

    def _begin(self) -> None:
        """Start sending; to be called once all of the sink is there."""
        self._writer.start()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            try:
                if isinstance(work, QueuedAlert):
                    self._delivered(work, self._send(work))
                else:
                    self._upkeep()
                    with self._changed:
                        self._receiver.succeeded()
            except Exception as error:  # whatever it is: a writer that ended would lose every alert after it
                self._failed(work if isinstance(work, QueuedAlert) else None, error)
        self._release()

    def _next(self) -> QueuedAlert | str | None:
        """Wait for an alert that may be tried, or for upkeep to be due; None once the sink closes."""
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                paused = {camera_id: tries.not_before for camera_id, tries in self._cameras.items()} | self._waiting
                paused = {camera_id: at for camera_id, at in paused.items() if at > now}
                if self._receiver.not_before <= now:
                    if self._needs_upkeep():
                        return _UPKEEP
                    if (alert := self._alerts.take_next(paused)) is not None:
                        self._is_woken = False
                        return alert
                if self._alerts.counts.waiting == 0:
                    self._cameras.clear()  # what was refused was evicted from a full queue
                self._idle = True
                self._changed.notify_all()  # whoever closes
                later = [at for at in (self._receiver.not_before, *paused.values()) if at > now]
                self._changed.wait(min(later) - now if later else None)
            return None

    def _delivered(self, alert: QueuedAlert, delivered: Sequence[QueuedAlert]) -> None:
        self._alerts.ack(delivered)
        with self._changed:
            self._receiver.succeeded()
            if (tries := self._cameras.pop(alert.camera_id, None)) is not None:
                tries.succeeded()
            self._changed.notify_all()  # whoever flushes

    def _failed(self, alert: QueuedAlert | None, error: Exception) -> None:
        with self._changed:
            if alert is not None and isinstance(error, NotYetError):
                if not self._is_woken:  # or it may have decided before it could see what it waits for
                    self._waiting[alert.camera_id] = time.monotonic() + error.wait_s
                return
            why = error
            if not isinstance(why, NotSentError):
                why = RefusedError(Reason(f"could not be sent: {type(error).__name__}"))
            if alert is None or isinstance(why, AwayError):
                self._receiver.failed(why.reason, why.pause_s)
                return
            self._receiver.succeeded()
            self._tries_of(alert.camera_id).failed(why.reason, why.pause_s)

    def _tries_of(self, camera_id: str | None) -> Tries:
        whose = "the run" if camera_id is None else f"camera {camera_id}"
        return self._cameras.setdefault(camera_id, Tries(f"{self._label}: alerts of {whose}", self._retry_max_s))


class Tries:
    """When to try again, and why not sooner.

    Attributes:
        not_before: monotonic, seconds.
        outage: why the last try failed.

    Args:
        label: what is tried, without credentials.
        longest_s: longest pause between two tries.
        now: monotonic clock in seconds.
    """

    def __init__(self, label: str, longest_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.not_before = 0.0
        self.outage = Outage(label)
        self._backoff = Backoff(min(_FIRST_PAUSE_S, longest_s), longest_s)

    def failed(self, reason: Reason, pause_s: float | None = None) -> None:
        """Wait longer than last time, and as long as the receiver asked for."""
        self.outage.report(reason)
        asked_s = min(pause_s or 0.0, _LONGEST_ASKED_S)
        self.not_before = self._now() + max(self._backoff.failed(), asked_s)

    def succeeded(self) -> None:
        """Wait no longer."""
        self.outage.report(None)
        self.not_before = 0.0
        self._backoff.succeeded()
