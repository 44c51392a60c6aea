"""Counting what one camera's connections bring, and giving what is wanted of it to the camera's buffer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.camera_settings import CameraSettings
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.frame_counters import FrameCounters
from pipeline.runtime.status import ReaderState, ReaderStatus
from pipeline.types import Frame, FrameHeader
from pipeline.video.source import DecodedFrame, SkipReason


class ArrivalCounter:
    """Counts every frame that comes from one camera, and makes frames for detectors of those that are wanted.

    One thread at a time counts; any thread may ask for the status.

    Args:
        settings: the camera.
        buffers: where frames go. Its callbacks count what they drop and dispatch.
        counters: the camera's counters.
        unix_now: Unix time in seconds.

    Attributes:
        count: frames that came in this connection, damaged ones included.
        last_frame_at_s: Unix time of the newest sound frame; None before the first.
    """

    def __init__(
        self,
        settings: CameraSettings,
        buffers: FrameBuffers,
        counters: FrameCounters,
        *,
        unix_now: Callable[[], float] = time.time,
    ) -> None:
        self._camera_id = settings.id
        self._buffers, self._counters, self._unix_now = buffers, counters, unix_now
        self.count = 0
        self.last_frame_at_s: float | None = None

    def restart(self) -> None:
        """Count from 0 again: a new connection."""
        self.count = 0

    @contextmanager
    def counted(self, arrival: DecodedFrame | SkipReason) -> Iterator[None]:
        """Count a frame that came; should what is done with it here fail, as a ``decode_error``: it goes no further."""
        self._counters.add("decoded")
        self.count += 1
        try:
            if is_sound(arrival):
                self.last_frame_at_s = self._unix_now()
            yield
        except Exception:
            self._counters.add("decode_error")
            raise
        if isinstance(arrival, str):
            self._counters.add(arrival)

    def frame(self, decoded: DecodedFrame) -> Frame:
        """The newest frame that was counted, as detectors get it."""
        header = FrameHeader(
            camera_id=self._camera_id,
            session=self._counters["session"],
            index=self.count - 1,
            pts=decoded.pts,
            time_base=decoded.time_base,
            captured_at_s=self.last_frame_at_s or self._unix_now(),
        )
        return Frame(header, decoded.image, decoded.previous)

    def put(self, frame: Frame) -> bool:
        """Give a frame to the buffer; False when it is closed: no frame will be wanted any more."""
        if self._buffers.put(frame):
            return True
        self._counters.add("shutdown")
        return False

    def status(
        self,
        state: ReaderState,
        *,
        live: bool,
        error: str,
        missing: int = 0,
        conditions: frozenset[str] = frozenset(),
        untimed: str = "",
    ) -> ReaderStatus:
        """Counts as of now, with what the reader says of itself.

        Args:
            state: read before the counts, so that those of a reader that has ended are its last.
            live: whether it is a live stream.
            error: as in ``ReaderStatus``.
            missing: as in ``ReaderStatus``.
            conditions: as in ``ReaderStatus``.
            untimed: as in ``ReaderStatus``.
        """
        # The decoded count is read last: a frame must never seem dropped or dispatched before it came.
        dropped, dispatched = self._counters.dropped(), self._counters["dispatched"]
        return ReaderStatus(
            state=state,
            live=live,
            counter_id=self._counters.counter_id,
            session=self._counters["session"],
            dispatched=dispatched,
            dropped=dropped,
            missing=missing,
            error=error,
            last_frame_at_s=self.last_frame_at_s,
            conditions=conditions,
            untimed=untimed,
            decoded=self._counters["decoded"],
        )


def is_sound(arrival: DecodedFrame | SkipReason) -> bool:
    """Whether a frame came undamaged, wanted or not."""
    return not isinstance(arrival, str) or arrival == "sampling"
