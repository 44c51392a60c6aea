"""Counting what one camera's connections bring, and giving what is wanted of it to the camera's buffer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.config import CameraSettings
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.ledger import CameraLedger
from pipeline.runtime.status import ReaderState, ReaderStatus
from pipeline.types import Frame, FrameHeader
from pipeline.video.source import DecodedFrame, Omission


class ArrivalCounter:
    """Counts every frame that comes from one camera, and makes frames for detectors of those that are wanted.

    One thread at a time counts; any thread may ask for the status.

    Args:
        settings: the camera.
        buffers: where frames go. Its callbacks count what they drop and hand over.
        ledger: the camera's counters.
        unix_now: Unix time in seconds.

    Attributes:
        count: frames that came in this connection, damaged ones included.
        last_frame_at_s: Unix time of the newest sound frame; None before the first.
    """

    def __init__(
        self,
        settings: CameraSettings,
        buffers: FrameBuffers,
        ledger: CameraLedger,
        *,
        unix_now: Callable[[], float] = time.time,
    ) -> None:
        self._camera_id = settings.id
        self._buffers, self._ledger, self._unix_now = buffers, ledger, unix_now
        self.count = 0
        self.last_frame_at_s: float | None = None

    def restart(self) -> None:
        """Count from 0 again: a new connection."""
        self.count = 0

    @contextmanager
    def counted(self, came: DecodedFrame | Omission) -> Iterator[None]:
        """Count a frame that came; should what is done with it here fail, as a ``decode_error``: it goes no further."""
        self._ledger.add("decoded")
        self.count += 1
        try:
            if is_sound(came):
                self.last_frame_at_s = self._unix_now()
            yield
        except Exception:
            self._ledger.add("decode_error")
            raise
        if isinstance(came, str):
            self._ledger.add(came)

    def frame(self, decoded: DecodedFrame) -> Frame:
        """The newest frame that was counted, as detectors get it."""
        header = FrameHeader(
            camera_id=self._camera_id,
            session=self._ledger["session"],
            index=self.count - 1,
            pts=decoded.pts,
            time_base=decoded.time_base,
            captured_at_s=self.last_frame_at_s or self._unix_now(),
        )
        return Frame(header, decoded.image)

    def put(self, frame: Frame) -> bool:
        """Give a frame to the buffer; False when it is closed: no frame will be wanted any more."""
        if self._buffers.put(frame):
            return True
        self._ledger.add("shutdown")
        return False

    def status(
        self,
        state: ReaderState,
        *,
        live: bool,
        error: str,
        missing: int = 0,
        conditions: frozenset[str] = frozenset(),
    ) -> ReaderStatus:
        """Counts as of now, with what the reader says of itself.

        Args:
            state: read before the counts, so that those of a reader that has ended are its last.
            live: whether it is a live stream.
            error: as in ``ReaderStatus``.
            missing: as in ``ReaderStatus``.
            conditions: as in ``ReaderStatus``.
        """
        # The decoded count is read last: a frame must never seem dropped or handed over before it came.
        dropped, handed = self._ledger.dropped(), self._ledger["handed"]
        return ReaderStatus(
            state=state,
            live=live,
            book=self._ledger.book,
            session=self._ledger["session"],
            handed=handed,
            dropped=dropped,
            missing=missing,
            error=error,
            last_frame_at_s=self.last_frame_at_s,
            conditions=conditions,
            decoded=self._ledger["decoded"],
        )


def is_sound(came: DecodedFrame | Omission) -> bool:
    """Whether a frame came undamaged, wanted or not."""
    return not isinstance(came, str) or came == "sampling"
