"""A time limit for what is done over one connection, however slowly the other side answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any


class TimeLimit:
    """Shuts the connection of an HTTP client whose time for something is up.

    httpx limits every read alone: who sends a byte now and then would hold a request for days.

    Attributes:
        is_over: whether the time was up for what was limited last.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._lock = threading.Lock()  # guards the rest
        self._limited = 0
        self._socket: socket.socket | None = None  # of the newest connection, which is the one in use

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Limit what is done in the block; one at a time."""
        with self._lock:
            self._limited += 1
            self.is_over = False
            timer = threading.Timer(seconds, self._end, [self._limited])
            timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._limited += 1  # a timer that has gone off by now comes too late

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn of new connections: httpx calls this with whatever it does (extension ``trace``)."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self.is_over:
                    self._shut()

    def _end(self, limited: int) -> None:
        with self._lock:
            if limited == self._limited:
                self.is_over = True
                self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                # Without TLS's farewell, which would take away what another thread is reading.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
