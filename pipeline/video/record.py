"""Recording live cameras, packet by packet and without decoding, to train on what they normally show."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Literal

import av
import av.error
from av.video.stream import VideoStream

from pipeline.camera_settings import CameraSettings
from pipeline.errors import RunError, VideoError
from pipeline.video.access_units import AccessUnits
from pipeline.video.container import begun_clock, main_stream, tell_of
from pipeline.video.live_clock import LiveClock
from pipeline.video.live_connection import LiveConnection, ReadLease
from pipeline.video.opening import LiveContainer, ffmpeg_message, open_live
from pipeline.video.packet_timeline import TimedPacket, packet_timeline
from pipeline.video.recordings import RecordingFolder
from pipeline.video.segment import VideoFormatReader
from pipeline.video.segment_writer import SegmentWriter
from pipeline.video.source import file_path
from pipeline.video.stand_in import StandInPackets

RecorderState = Literal["opening", "recording", "waiting", "stopped"]

_TICK_S = 0.25
_PATIENCE_S = 2.0
_LOCK_PATIENCE_S = 0.05  # whoever holds a recorder's lock is writing a packet


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """What a recorder has done so far.

    Attributes:
        camera_id: the camera.
        scene: under whose name its segments are kept.
        state: ``waiting`` is the pause before it is tried again.
        segments: whole segments.
        recorded_s: media time in them and in the one in the making.
        recorded_bytes: bytes of the packets in them.
        reconnects: connections after the first.
        gaps: places where time leapt within a connection.
        left_out: packets that no player could use: before a first keyframe, or damaged.
        unreadable: segments in which nothing could be decoded when they were read back; they are not kept.
        error: why the last connection failed or ended, redacted, one line; empty while packets come.
    """

    camera_id: str
    scene: str
    state: RecorderState
    segments: int
    recorded_s: float
    recorded_bytes: int
    reconnects: int
    gaps: int
    left_out: int
    unreadable: int
    error: str


class CameraRecorder:
    """Records one camera, in a thread of its own, until it is stopped; connects again and again, whatever goes wrong.

    Only a disk that fails ends it (``failure``), since it fails the others, too. Whoever owns it calls ``check`` a few
    times per second.

    Args:
        settings: a live camera.
        folder: where segments go.
        segment_s: media time after which the next keyframe begins a new segment.

    Attributes:
        failure: what ended it, if anything has.
    """

    def __init__(self, settings: CameraSettings, folder: RecordingFolder, segment_s: float) -> None:
        self._settings = settings
        self._connection = LiveConnection(
            settings,
            self._open,
            self._record,
            brings="packets",
            start_thread=self._start_thread,
            on_revoke=lambda: self._guard(self._writer.end),
        )
        self._label = self._connection.label
        self._writer = SegmentWriter(
            folder,
            settings.scene_name,
            segment_s=segment_s,
            unreadable_s=settings.stall_timeout_s,
            label=self._label,
        )
        self._clock = LiveClock()
        self._thread: threading.Thread | None = None
        self._connections = self._gaps = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin; to be called once."""
        self._connection.start()

    def check(self) -> None:
        """Leave the thread to itself, and start another, when it is stuck in FFmpeg; what it has recorded is kept."""
        self._connection.check()

    def stop(self) -> None:
        """Ask it to end; it does after the next packet."""
        self._connection.request_stop()

    def finish(self, timeout_s: float) -> None:
        """Wait for its end and publish what it has, even if a silent camera holds its thread.

        Args:
            timeout_s: longest wait for the thread.
        """
        self.stop()
        if self._thread is not None:
            self._thread.join(max(timeout_s, 0.0))
        if not self._connection.stop(max(timeout_s, _LOCK_PATIENCE_S)):
            # A packet is stuck on its way to the disk; the next run keeps what is there.
            self._connection.error = (
                f"{self._label}: expected to write a packet, got no answer from the disk or from FFmpeg"
            )

    def status(self) -> RecorderStatus:
        """How it stands."""
        state = self._connection.state
        return RecorderStatus(
            camera_id=self._settings.id,
            scene=self._settings.scene_name,
            state="recording" if state == "streaming" else state,
            segments=self._writer.segments,
            recorded_s=self._writer.recorded_s,
            recorded_bytes=self._writer.recorded_bytes,
            reconnects=max(self._connections - 1, 0),
            gaps=self._gaps,
            left_out=self._writer.left_out,
            unreadable=self._writer.unreadable,
            error=self._connection.error,
        )

    def _start_thread(self, task: Callable[[], None]) -> None:
        name = f"record-{self._settings.id}"
        self._thread = threading.Thread(target=lambda: self._guard(task), name=name, daemon=True)
        self._thread.start()

    def _guard(self, task: Callable[[], None]) -> None:
        """Keep what goes wrong, for whoever started the recording; the first error says most."""
        try:
            task()
        except Exception as error:
            self.failure = self.failure or error
            self._connection.request_stop()

    def _open(self) -> AbstractContextManager[LiveContainer]:
        settings = self._settings
        if settings.loop:
            path = file_path(settings.url.get_secret_value())
            return closing(StandInPackets(path, self._label, image_fps=settings.image_fps))
        container = open_live(
            settings.url.get_secret_value(),
            self._label,
            open_timeout_s=settings.open_timeout_s,
            read_timeout_s=settings.read_timeout_s,
            sample_fps=settings.sample_fps,
        )
        return closing(container)

    def _record(self, lease: ReadLease, container: LiveContainer) -> None:
        """Record an open stream to its end.

        Raises:
            VideoError: it fails, brings no picture for ``stall_timeout_s``, or cannot be kept.
            RunError: the disk is full, or cannot be written.
        """
        segments = self._writer.segments
        try:
            self._write_segments(lease, container)
        finally:
            with self._connection.lock:
                if self._connection.holds(lease):
                    self._writer.end()
                    if self._writer.segments > segments:
                        self._connection.succeeded()

    def _write_segments(self, lease: ReadLease, container: LiveContainer) -> None:
        stream = main_stream(container.streams, self._label)
        self._connections += 1
        self._writer.begin_connection()
        clock = begun_clock(container, self._clock)
        timeline, format_reader = packet_timeline(stream, clock), VideoFormatReader(stream)
        error: VideoError | None = None
        try:
            for unit in self._units(lease, container, stream):
                gaps = timeline.gaps
                for stamped in timeline.push(unit, lease.progress_at_s):
                    self._take(lease, stamped, stream, format_reader)
                self._gaps += timeline.gaps - gaps
                tell_of(self._clock, self._label)
        except VideoError as failure:
            error = failure
        except av.error.FFmpegError as failure:
            error = VideoError(f"{self._label}: expected more packets, got {ffmpeg_message(failure)}")
        for stamped in timeline.flush():
            self._take(lease, stamped, stream, format_reader)
        if error is not None:
            raise error

    def _units(self, lease: ReadLease, container: LiveContainer, stream: VideoStream) -> Iterator[av.Packet]:
        """The stream's access units, until it ends, none comes or the recorder is stopped."""
        units, newest_at = AccessUnits(stream), time.monotonic()
        # All streams: FFmpeg's own limit starts afresh with every packet, of sound, too.
        for packet in container.demux():
            if not self._connection.may_go_on(lease):
                return  # what waits may be half a picture
            is_video = packet is not None and packet.stream_index == stream.index and packet.size
            whole = units.push(packet) if packet is not None and is_video else []
            yield from whole
            if whole:
                newest_at = lease.progress_at_s
            elif lease.progress_at_s - newest_at > self._settings.stall_timeout_s:
                raise VideoError(
                    f"{self._label}: expected a picture within {self._settings.stall_timeout_s:g} s (stall_timeout_s), "
                    "got none"
                )
        yield from units.flush()

    def _take(
        self, lease: ReadLease, stamped: TimedPacket, stream: VideoStream, format_reader: VideoFormatReader
    ) -> None:
        """Write an access unit, unless ``finish`` or ``check`` was here."""
        with self._connection.lock:
            if not self._connection.holds(lease):
                return
            if self._writer.write(stamped, stream, format_reader):
                self._connection.streams()
            else:
                self._connection.error = f"{self._label}: {self._writer.waits_for}"


def record_cameras(
    recorders: Sequence[CameraRecorder],
    *,
    duration_s: float | None,
    stop: threading.Event,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Run recorders until the time is up, the disk fails or ``stop`` is set; whatever happens, whole segments are kept.

    Args:
        recorders: of different cameras, not started.
        duration_s: how long; None records until ``stop``.
        stop: ends it early.
        tick: called a few times per second.

    Raises:
        RunError: the disk is full, or cannot be written.
    """
    deadline = None if duration_s is None else time.monotonic() + duration_s
    try:
        for recorder in recorders:
            recorder.start()
        while not stop.wait(_TICK_S if deadline is None else min(_TICK_S, max(deadline - time.monotonic(), 0.0))):
            tick()
            for recorder in recorders:
                recorder.check()
            if any(recorder.failure for recorder in recorders):
                break
            if deadline is not None and time.monotonic() >= deadline:
                break
    finally:
        for recorder in recorders:
            recorder.stop()
        patience_until = time.monotonic() + _PATIENCE_S
        for recorder in recorders:
            recorder.finish(patience_until - time.monotonic())
    failures = [recorder.failure for recorder in recorders if recorder.failure is not None]
    if failures:
        raise next((failure for failure in failures if isinstance(failure, RunError)), failures[0])
