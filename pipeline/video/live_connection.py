"""One live camera kept connected: tried again and again, watched for threads that get stuck, paused and stopped."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, Literal, TypeVar

from pipeline.backoff import Backoff
from pipeline.camera_settings import CameraSettings
from pipeline.errors import RefusedError
from pipeline.logs import log_about
from pipeline.redaction import redact
from pipeline.video.failures import explained

ConnectionState = Literal["opening", "streaming", "waiting", "stopped"]
"""``opening`` until something of use comes; ``waiting`` is the pause before the camera is tried again."""

MAX_STUCK_THREADS = 4
"""Threads of one camera that are left to themselves at most: what hangs again and again must not eat up the machine."""

_REFUSED_PATIENCE = 10
"""How many times longer than after other failures the pause is when a server says no: cameras lock users out."""

_LOCK_PATIENCE_S = 0.05  # who holds the lock for longer is stuck with it, such as on a disk

OpenedT = TypeVar("OpenedT")

_log = logging.getLogger(__name__)


class ReadLease:
    """One thread's right to read a camera, until it is revoked; who has lost it counts and keeps nothing.

    Attributes:
        over: set when the thread is to end.
        returned: whether it has.
        progress_at_s: monotonic time at which something last came back from FFmpeg.
        limit_s: how long the next thing may take before the thread counts as stuck.
    """

    __slots__ = ("limit_s", "over", "progress_at_s", "returned")

    def __init__(self, now: float) -> None:
        self.over = threading.Event()
        self.returned = False
        self.progress_at_s = now
        self.limit_s = math.inf

    def is_stuck(self, now: float) -> bool:
        """Whether nothing has come back for longer than it may take.

        Args:
            now: monotonic seconds.
        """
        return now - self.progress_at_s > self.limit_s


class LiveConnection(Generic[OpenedT]):
    """Connects to a live camera again and again, one connection at a time, each opened, read and closed by one thread.

    Whoever owns it calls ``check`` a few times per second. No call waits for the network.

    Args:
        settings: the camera.
        open_stream: opens the stream within the camera's own limits.
        read: reads an open stream to its end; it asks ``may_go_on`` whenever something came, and returns when it may
            not. Its ``VideoError``, and whatever else nobody foresaw, ends the connection; ``RunError`` and
            ``MemoryError`` end the thread.
        brings: what comes from the camera, for messages, such as ``frames``.
        start_thread: runs a task in a thread of its own.
        on_revoke: called under the lock whenever a thread's lease has been revoked.
        now: monotonic clock in seconds.

    Attributes:
        label: what messages call the camera: its id and its address, redacted.
        lock: held where leases are granted and revoked; who counts or writes for a lease holds it, too.
        state: how the connection stands, pauses aside.
        error: why the last connection failed or ended, redacted, one line; empty while the camera streams.
        paused: whether the camera is not to be connected to at present.
    """

    def __init__(
        self,
        settings: CameraSettings,
        open_stream: Callable[[], AbstractContextManager[OpenedT]],
        read: Callable[[ReadLease, OpenedT], None],
        *,
        brings: str,
        start_thread: Callable[[Callable[[], None]], None],
        on_revoke: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._open_stream, self._read = open_stream, read
        self._brings = brings
        self._start_thread, self._on_revoke, self._now = start_thread, on_revoke, now
        self.label = f"{settings.id} ({redact(settings.url.get_secret_value())})"
        self.lock = threading.Lock()
        self.state: ConnectionState = "opening"
        self.error = ""
        self.paused = False
        self._backoff = Backoff(cap_s=settings.reconnect_max_s)
        self._lease: ReadLease | None = None
        self._stuck: list[ReadLease] = []
        self._started = False
        self._ending = False

    def start(self) -> None:
        """Begin to connect; to be called once."""
        with self.lock:
            self._started = True
            if self.state != "stopped" and not self.paused:
                self._grant()

    def pause(self) -> None:
        """Leave the camera until ``resume``."""
        with self.lock:
            if self.paused or self.state == "stopped":
                return
            self.paused, self.error = True, ""
            self._revoke("opening")

    def resume(self) -> None:
        """Connect again after a pause; otherwise nothing happens."""
        with self.lock:
            if self.paused:
                self.paused = False
                if self._started:
                    self._grant()

    def request_stop(self) -> None:
        """Ask the thread to end with what comes next, which it may still keep; never waits."""
        self._ending = True
        lease = self._lease
        if lease is not None:
            lease.over.set()

    def stop(self, timeout_s: float = -1.0) -> bool:
        """Stop at once: the thread, whatever it waits for, keeps nothing any more and closes its own stream.

        Args:
            timeout_s: longest wait for the lock; negative: without a limit.

        Returns:
            False when somebody held the lock all that time, so that ``on_revoke`` could not be called.
        """
        self._ending = True
        has_lock = self.lock.acquire(timeout=timeout_s)
        try:
            self.paused = False
            self._revoke("stopped", tell=has_lock)
        finally:
            if has_lock:
                self.lock.release()
        return has_lock

    def check(self) -> None:
        """Leave the thread to itself when FFmpeg's own limits do not end what it waits for, and start another.

        The stuck one cannot be ended from outside: closing its stream would crash the process. With
        ``MAX_STUCK_THREADS`` of them no other is started until one returns.
        """
        lease = self._lease
        if lease is None or self._ending or not lease.is_stuck(self._now()):
            return
        error = f"{self.label}: expected an answer within {lease.limit_s:g} s, got none: its thread is stuck"
        if not self.lock.acquire(timeout=_LOCK_PATIENCE_S):
            self.error = error
            return
        try:
            if lease is self._lease and lease.is_stuck(self._now()):
                self.error = error
                self._replace(lease)
        finally:
            self.lock.release()

    def may_go_on(self, lease: ReadLease) -> bool:
        """Note a thread's progress; False when it is to end. Who counts by the answer holds the lock."""
        lease.progress_at_s = self._now()
        return self.holds(lease) and not (lease.over.is_set() or self._ending)

    def holds(self, lease: ReadLease) -> bool:
        """Whether a lease has not been revoked. Who writes by the answer holds the lock."""
        return lease is self._lease

    def streams(self) -> None:
        """Note that the camera sends something of use; under the lock.

        Nothing changes once it was stopped: whoever stopped it may have waited for the lock in vain.
        """
        if self.state != "stopped":
            self.state, self.error = "streaming", ""

    def succeeded(self) -> None:
        """Forget earlier failures: after the next one the camera is tried again soon; under the lock."""
        self._backoff.succeeded()

    def _replace(self, lease: ReadLease) -> None:
        """Start another thread in the place of a stuck one, unless too many are stuck already."""
        self._stuck = [stuck for stuck in self._stuck if not stuck.returned]
        if len(self._stuck) >= MAX_STUCK_THREADS:
            return
        _log.warning("%s", self.error, extra={"camera": self._settings.id})
        self._stuck.append(lease)
        self._revoke("opening")
        if not self._ending:
            self._grant()

    def _grant(self) -> None:
        lease = self._lease = ReadLease(self._now())
        self.state = "opening"

        def read_camera() -> None:  # the thread's name, too
            log_about(camera=self._settings.id)
            try:
                self._keep_connected(lease)
            finally:
                lease.returned = True

        self._start_thread(read_camera)

    def _revoke(self, state: ConnectionState, *, tell: bool = True) -> None:
        lease, self._lease, self.state = self._lease, None, state
        if lease is not None:
            lease.over.set()
            if tell:
                self._on_revoke()

    def _keep_connected(self, lease: ReadLease) -> None:
        while self._may_open(lease):
            error, patience = self._connect(lease)
            with self.lock:
                if not self.may_go_on(lease):
                    break
                lease.limit_s = math.inf
                self.state, self.error = "waiting", error
                pause_s = patience * self._backoff.failed()
            lease.over.wait(pause_s)
        with self.lock:
            if self.holds(lease):  # nobody revoked it: the thread was asked to end
                self._lease, self.state = None, "stopped"

    def _connect(self, lease: ReadLease) -> tuple[str, int]:
        """One connection from its opening to its end; returns why it ended and how long to wait, in usual pauses."""
        try:
            with self._open_stream() as opened:
                if self._has_opened(lease):
                    self._read(lease, opened)
        except Exception as failure:
            patience = _REFUSED_PATIENCE if isinstance(failure, RefusedError) else 1
            return explained(self.label, failure), patience
        return f"{self.label}: expected more {self._brings}, got the end of the stream", 1

    def _may_open(self, lease: ReadLease) -> bool:
        with self.lock:
            if not self.may_go_on(lease):
                return False
            lease.limit_s = 2 * self._settings.open_timeout_s + self._settings.stall_timeout_s
            self.state = "opening"
            return True

    def _has_opened(self, lease: ReadLease) -> bool:
        """Set the limit for what comes from an open stream; False where it opened too late."""
        with self.lock:
            if not self.may_go_on(lease):
                return False
            lease.limit_s = 2 * self._settings.read_timeout_s + self._settings.stall_timeout_s
            return True
