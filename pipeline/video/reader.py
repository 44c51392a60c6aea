"""One camera's endless task: open, decode, thin, hand over, and start again when a live stream ends."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Literal

from pipeline.config import CameraSettings
from pipeline.errors import VideoError
from pipeline.redaction import redact
from pipeline.runtime.backoff import Backoff
from pipeline.runtime.buffer import FrameBuffers
from pipeline.types import Frame, FrameHeader
from pipeline.video.sampling import PtsSampler
from pipeline.video.source import VideoSource, is_live, open_source

State = Literal["opening", "streaming", "waiting", "finished", "failed", "stopped"]
ENDED: frozenset[State] = frozenset({"finished", "failed", "stopped"})


@dataclass(frozen=True, slots=True)
class ReaderStatus:
    """What a reader has done so far.

    Attributes:
        state: ``waiting`` is the pause before a live camera is tried again.
        live: whether it is a live stream, which reconnects; a file ends.
        session: number of the current connection.
        decoded: frames that left the decoder, over all sessions.
        dropped: frames that were decoded and never handed over, by reason.
        corrupt_packets: packets that did not decode to a frame.
        missing: frames that the file promised and that never came.
        error: why the last connection failed or ended, redacted; empty when all is well.
    """

    state: State
    live: bool
    session: int
    decoded: int
    dropped: dict[str, int]
    corrupt_packets: int
    missing: int
    error: str

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more."""
        return self.state in ENDED


class CameraReader:
    """Reads one camera into its buffer until it ends or is stopped; run it in a thread of its own.

    Args:
        settings: the camera.
        size_px: (height, width) of the frames.
        buffers: where frames go; the camera's buffer is opened here.
        first_session: number of the first connection.
    """

    def __init__(
        self, settings: CameraSettings, size_px: tuple[int, int], buffers: FrameBuffers, first_session: int = 0
    ) -> None:
        self._settings = settings
        self._size_px = size_px
        self._buffers = buffers
        self._url = settings.url.get_secret_value()
        self._live = is_live(self._url)
        self._stop = threading.Event()
        self._state: State = "opening"
        self._session = first_session
        self._decoded = 0
        self._dropped = {"sampling": 0, "shutdown": 0}  # all keys from the start: status() reads it from another thread
        self._corrupt_packets = 0
        self._missing = 0
        self._error = ""
        buffers.add_camera(settings.id, settings.buffer_frames, "drop_oldest" if self._live else "block")

    def run(self) -> None:
        """Read until the file ends, the camera is stopped, or an error that no retry mends."""
        backoff = Backoff()
        while not self._stop.is_set():
            frames_before = self._decoded
            self._read_session()
            if not self._live:
                self._state = "failed" if self._error else "finished"
                return
            if self._decoded > frames_before:
                backoff.succeeded()
            self._session += 1
            self._state = "waiting"
            self._stop.wait(backoff.failed())
        self._state = "stopped"

    def stop(self) -> None:
        """Ask the reader to end; it closes its own stream."""
        self._stop.set()

    def status(self) -> ReaderStatus:
        """Counts as of now."""
        # The decoded count is read last: a frame must never seem dropped before it was decoded.
        overloaded = self._buffers.overloaded(self._settings.id)
        dropped = {reason: n for reason, n in {**self._dropped, "overload": overloaded}.items() if n}
        return ReaderStatus(
            state=self._state,
            live=self._live,
            session=self._session,
            dropped=dropped,
            corrupt_packets=self._corrupt_packets,
            missing=self._missing,
            error=self._error,
            decoded=self._decoded,
        )

    def _read_session(self) -> None:
        """One connection, from opening to its end."""
        self._state = "opening"
        try:
            with open_source(
                self._url,
                self._size_px,
                open_timeout_s=self._settings.open_timeout_s,
                read_timeout_s=self._settings.read_timeout_s,
                name=self._settings.id,
            ) as source:
                self._error = ""
                try:
                    self._drain(source)
                finally:
                    self._corrupt_packets += source.corrupt
                if self._stop.is_set():
                    return
                if self._live:
                    self._error = f"camera {self._settings.id}: the stream ended"
                else:
                    self._missing = source.missing()
        except VideoError as error:
            self._error = redact(error)

    def _drain(self, source: VideoSource) -> None:
        """Hand over the wanted frames of an open stream."""
        sampler = PtsSampler(self._settings.sample_fps)
        self._state = "streaming"
        for index, decoded in enumerate(source):
            self._decoded += 1
            header = FrameHeader(
                camera_id=self._settings.id,
                session=self._session,
                index=index,
                pts=decoded.pts,
                time_base=decoded.time_base,
                captured_at_s=time.time(),
            )
            if not sampler.wants(header.media_time_s):
                self._dropped["sampling"] += 1
            elif not self._buffers.put(Frame(header, decoded.image)):
                self._dropped["shutdown"] += 1
            if self._stop.is_set():
                return
