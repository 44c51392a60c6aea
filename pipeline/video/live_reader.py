"""Reading a live camera: connected to again and again; its oldest frames are dropped for newer ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.camera_settings import CameraSettings
from pipeline.errors import VideoError
from pipeline.logs import log_about
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.frame_counters import FrameCounters
from pipeline.runtime.status import ReaderStatus
from pipeline.types import Frame
from pipeline.video.arrivals import ArrivalCounter, is_sound
from pipeline.video.live_clock import LiveClock
from pipeline.video.live_connection import LiveConnection, ReadLease
from pipeline.video.packet_tap import PacketKeeper
from pipeline.video.sampling import PtsSampler
from pipeline.video.source import DecodedFrame, SkipReason, VideoSource, open_camera

_KEYFRAME_PATIENCE = 10
"""How many times ``stall_timeout_s`` a first keyframe is waited for while other pictures come."""

_TELL_AFTER_S = 2.0  # keyframes mostly come every second or two


class ImageMonitor(Protocol):
    """What looks at a live camera's pictures for signs that it is out of order."""

    def update(self, image: npt.NDArray[np.uint8], now: float) -> frozenset[str]:
        """Look at a picture, uint8 (H, W, 3), RGB; returns what holds: ``frozen``, ``dark``, ``moved``."""
        ...

    def reset(self) -> None:
        """Forget the pictures so far: another connection, or another picture size."""
        ...


@dataclass(slots=True)
class _Newest:
    """The newest sound frame of a connection.

    Attributes:
        at_s: its monotonic time, or that of the opening.
        size_px: its (height, width) as it came; None before the first.
        packets_since: packets and damaged frames since then.
        before_keyframe: pictures of the connection so far that wait for its first keyframe with it.
        picture_at_s: monotonic time of the newest of those.
    """

    at_s: float
    size_px: tuple[int, int] | None = None
    packets_since: int = 0
    before_keyframe: int = 0
    picture_at_s: float = -math.inf


class LiveReader:
    """Reads a live camera into its buffer until it is stopped; every connection that opens is a new session.

    Implements ``pipeline.video.reader.CameraReader``. It goes on counting where an earlier process stopped.

    Args:
        settings: the camera.
        size_px: (height, width) of the frames.
        buffers: where frames go; the camera's buffer is opened here. Its callbacks count what they drop and dispatch.
        counters: the camera's counters.
        gap_s: how much earlier the other half of a frame's pair is to be.
        watch: looks at the pictures.
        keeper: keeps what comes for clips of it; None where none are wanted.
        start_thread: runs a task in a thread of its own, which must not die unnoticed.
        now: monotonic clock in seconds.
        unix_now: Unix time in seconds.

    Attributes:
        live: True.
        paced: without meaning: a camera sets the pace itself.
    """

    live = True

    def __init__(
        self,
        settings: CameraSettings,
        size_px: tuple[int, int],
        buffers: FrameBuffers,
        counters: FrameCounters,
        *,
        gap_s: float,
        watch: ImageMonitor | None = None,
        keeper: PacketKeeper | None = None,
        start_thread: Callable[[Callable[[], None]], None],
        now: Callable[[], float] = time.monotonic,
        unix_now: Callable[[], float] = time.time,
    ) -> None:
        self.paced = False
        self._settings, self._size_px, self._gap_s = settings, size_px, gap_s
        self._counters, self._watch, self._keeper, self._now = counters, watch, keeper, now
        self._arrivals = ArrivalCounter(settings, buffers, counters, unix_now=unix_now)
        self._connection = LiveConnection(
            settings, self._open, self._read, brings="frames", start_thread=start_thread, now=now
        )
        self._clock = LiveClock()
        self._conditions: frozenset[str] = frozenset()
        self._session_is_used = False
        if counters.resumed:
            counters.count_lost()
            counters.add("session")
        buffers.add_camera(settings.id, settings.buffer_frames, "drop_oldest", settings.max_frame_age_s)

    def start(self) -> None:
        """Begin to read; to be called once."""
        self._connection.start()

    def stop(self) -> None:
        """Stop at once; the thread closes its own stream."""
        self._connection.stop()

    def pause(self) -> None:
        """Close the connection until ``resume``."""
        self._connection.pause()
        self._conditions = frozenset()

    def resume(self) -> None:
        """Connect again after a pause; otherwise nothing happens."""
        self._connection.resume()

    def check(self) -> None:
        """Leave the thread to itself, and start another, when it is stuck."""
        self._connection.check()

    def status(self) -> ReaderStatus:
        """Counts as of now."""
        connection = self._connection
        return self._arrivals.status(
            "paused" if connection.paused else connection.state,
            live=True,
            error=connection.error,
            conditions=self._conditions,
            untimed=self._clock.reason,
        )

    def _open(self) -> VideoSource:
        tap = None if self._keeper is None else self._keeper.connect()
        return open_camera(self._settings, self._size_px, gap_s=self._gap_s, clock=self._clock, tap=tap)

    def _read(self, lease: ReadLease, source: VideoSource) -> None:
        """Take in what an open stream brings, up to its end.

        Raises:
            VideoError: it fails, or brings no sound frame for ``stall_timeout_s``.
        """
        if not self._begin_session(lease, source):
            return
        newest = _Newest(self._now())
        for arrival in source.arrivals(PtsSampler(self._settings.sample_fps).wants):
            if not self._take_in(lease, arrival, newest, source.size_px):
                return
            self._check_patience(lease, newest, source.before_keyframe)

    def _check_patience(self, lease: ReadLease, newest: _Newest, before_keyframe: int) -> None:
        """Leave a stream that brings no frames, but not one whose pictures come and wait for a keyframe.

        Some cameras send one every minute, and connecting again would not bring it any sooner.

        Raises:
            VideoError: it brings none for too long.
        """
        now, stall_timeout_s = self._now(), self._settings.stall_timeout_s
        waited_s = now - newest.at_s
        if before_keyframe > newest.before_keyframe:
            newest.before_keyframe, newest.picture_at_s = before_keyframe, now
            self._tell_of_wait(lease, waited_s, before_keyframe)
        if waited_s <= stall_timeout_s:
            return
        if now - newest.picture_at_s > stall_timeout_s or waited_s > _KEYFRAME_PATIENCE * stall_timeout_s:
            raise VideoError(
                f"{self._connection.label}: expected a frame within {stall_timeout_s:g} s (stall_timeout_s), "
                f"got {newest.packets_since} packets that make none: no keyframe, or all damaged"
            )

    def _tell_of_wait(self, lease: ReadLease, waited_s: float, pictures: int) -> None:
        """Say why no frames come, though the camera is connected."""
        if waited_s < min(_TELL_AFTER_S, self._settings.stall_timeout_s):
            return
        with self._connection.lock:
            if self._connection.holds(lease):
                self._connection.error = (
                    f"{self._connection.label}: expected a keyframe, got {pictures} pictures in {waited_s:.0f} s that "
                    "refer to an earlier one: the next keyframe is waited for"
                )

    def _begin_session(self, lease: ReadLease, source: VideoSource) -> bool:
        with self._connection.lock:
            if not self._connection.may_go_on(lease):
                return False
            if self._session_is_used:
                self._counters.add("session")
            self._session_is_used = True
            log_about(session=self._counters["session"])
            if source.tap is not None:
                source.tap.begin_session(self._counters["session"])
            self._arrivals.restart()
            self._forget_pictures()
            return True

    def _take_in(
        self,
        lease: ReadLease,
        arrival: DecodedFrame | SkipReason | None,
        newest: _Newest,
        size_px: tuple[int, int] | None,
    ) -> bool:
        """Count what came, and put it into the buffer if it is wanted; False when the thread is to end."""
        with self._connection.lock:
            if not self._connection.may_go_on(lease):
                return False
            newest.packets_since += 1
            if arrival is None:
                return True
            frame = self._count(arrival, newest, size_px)
            if frame is not None and not self._arrivals.put(frame):
                lease.over.set()
                return False
            return True

    def _count(
        self, arrival: DecodedFrame | SkipReason, newest: _Newest, size_px: tuple[int, int] | None
    ) -> Frame | None:
        """Count a frame; returns it if it is wanted."""
        with self._arrivals.counted(arrival):
            if is_sound(arrival):
                self._note_sound_frame(newest, size_px)
            if isinstance(arrival, str):
                return None
            if self._watch is not None:
                self._conditions = self._watch.update(arrival.image, newest.at_s)
            return self._arrivals.frame(arrival)

    def _note_sound_frame(self, newest: _Newest, size_px: tuple[int, int] | None) -> None:
        newest.at_s, newest.packets_since = self._now(), 0
        self._connection.streams()
        self._connection.succeeded()
        if newest.size_px not in {None, size_px}:
            self._forget_pictures()
        newest.size_px = size_px

    def _forget_pictures(self) -> None:
        self._conditions = frozenset()
        if self._watch is not None:
            self._watch.reset()
