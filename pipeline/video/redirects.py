"""A camera's password goes to the server it was written for, and follows no redirect to another one.

Over HTTP FFmpeg sees to that itself (``tests/video/test_redirects.py`` watches it). Its RTSP client takes user and
password along wherever it is sent, no option stops it, and asking the server beforehand would not bind it to its
answer. But it says in its log where it goes before it goes there, and PyAV passes that to Python's logging in the very
thread that opens. While that thread is kept waiting nothing leaves it; once the time for opening is up FFmpeg, which
asks before every byte whether it may go on, gives up.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av.error
import av.logging

from pipeline.addresses import split_address
from pipeline.errors import RefusedError

_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "satip": 554}
_GOES_ON = re.compile(r"Status \d+: Redirecting to (?P<location>.*)", re.DOTALL)


@dataclass(slots=True)
class WatchedOpening:
    """One opening of an address with a password.

    Attributes:
        scheme: of the address, in lower case.
        server: ``host:port`` of it, in lower case.
        timeout_s: after which FFmpeg is interrupted.
        elsewhere: the server that a refused redirect led to.
    """

    scheme: str
    server: str
    timeout_s: float
    elsewhere: str | None = None


@contextlib.contextmanager
def password_stays(url: str, label: str, *, timeout_s: float) -> Iterator[None]:
    """Refuse redirects to another server while an address with a password is opened by this thread.

    Another port, or another scheme, is another server. An address without user and password may lead anywhere.

    Args:
        url: what is opened within.
        label: what errors call it, redacted.
        timeout_s: the time for opening that PyAV was given, or more.

    Raises:
        RefusedError: there was a redirect to another server; it got nothing.
    """
    address = split_address(url)
    if address is None or not address.user_info:
        yield
        return
    watch = WatchedOpening(address.scheme, _with_port(address.server, address.scheme), timeout_s)
    try:
        with _log_tap.open(watch):
            yield
    except av.error.FFmpegError:
        if watch.elsewhere is None:
            raise
        raise RefusedError(
            f"{label}: expected a video stream, got a redirect to {watch.elsewhere}; user and password are for "
            f"{watch.server} alone: write the new address into the config if they are for both"
        ) from None


class _FfmpegLogTap:
    """Reads in FFmpeg's log where its RTSP client goes, as long as anybody watches; FFmpeg is mute otherwise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[int, WatchedOpening] = {}
        self._libav, self._rtsp = logging.getLogger("libav"), logging.getLogger("libav.rtsp")
        self._restored: tuple[int | None, bool, int] = (None, True, logging.WARNING)
        # Not a filter or a handler: whatever configures logging could switch those off.
        self._log = self._rtsp.log
        self._rtsp.log = self._on_log

    @contextlib.contextmanager
    def open(self, watch: WatchedOpening) -> Iterator[None]:
        thread = threading.get_ident()
        with self._lock:
            if not self._watches:
                self._begin()
            self._watches[thread] = watch
        try:
            yield
        finally:
            with self._lock:
                del self._watches[thread]
                if not self._watches:
                    self._end()

    def _begin(self) -> None:
        level = av.logging.get_level()
        self._restored = level, av.logging.get_skip_repeated(), self._libav.level
        av.logging.set_level(max(level or 0, av.logging.INFO))
        av.logging.set_skip_repeated(False)  # the second attempt says what the first one said
        if level is None:
            self._libav.setLevel(logging.CRITICAL + 1)  # mute for all others, as it was

    def _end(self) -> None:
        level, skip_repeated, libav_level = self._restored
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip_repeated)
        self._libav.setLevel(libav_level)

    def _on_log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Called by FFmpeg's log in the thread that opens."""
        watch, goes_on = self._watches.get(threading.get_ident()), _GOES_ON.match(str(msg))
        if watch is None or goes_on is None:
            self._log(level, msg, *args, **options)
        elif not is_home(watch, goes_on["location"]):
            watch.elsewhere = _server_of(goes_on["location"])
            time.sleep(watch.timeout_s)


def is_home(watch: WatchedOpening, location: str) -> bool:
    """Whether a redirect leads to the server that the password is for; in doubt it does not.

    Args:
        watch: the opening that is redirected.
        location: where to, as the server said it.
    """
    address = split_address(location)
    return (
        address is not None
        and address.user_info is None
        and address.scheme == watch.scheme
        and _with_port(address.server, watch.scheme) == watch.server
    )


def _server_of(location: str) -> str:
    """A redirect's scheme, host and port to show; its path or query may hold secrets."""
    address = split_address(location)
    if address is None or not address.server.isprintable():
        return "something that is no address"
    return f"{address.scheme}://{address.server}"


def _with_port(server: str, scheme: str) -> str:
    has_port = re.search(r":\d+\Z", server) or scheme not in _DEFAULT_PORTS
    return (server if has_port else f"{server}:{_DEFAULT_PORTS[scheme]}").lower()


_log_tap = _FfmpegLogTap()
