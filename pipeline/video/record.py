"""Recording live cameras, packet by packet and without decoding, to train on what they normally show."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.config import CameraSettings
from pipeline.errors import RunError, VideoError
from pipeline.redaction import redact
from pipeline.runtime.backoff import Backoff
from pipeline.video.access_units import AccessUnits
from pipeline.video.container import RefusedError, open_live, said
from pipeline.video.read_back import is_readable
from pipeline.video.recordings import RecordingFolder
from pipeline.video.segment import PictureReader, Segment, Stamped, one_line, timeline_of, video_stream
from pipeline.video.turn import MAX_STUCK_THREADS, Turn, unexpected

State = Literal["opening", "recording", "waiting", "stopped"]

_READ_BACK_EVERY_S = 3.0  # the muxer holds up to a second back
_REFUSED_PATIENCE = 10  # cameras lock users out who ask too often
_TICK_S = 0.25
_PATIENCE_S = 2.0
_LOCK_PATIENCE_S = 0.05  # whoever holds a recorder's lock is writing a packet

_log = logging.getLogger(__name__)


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
    state: State
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
    """

    def __init__(self, settings: CameraSettings, folder: RecordingFolder, segment_s: float) -> None:
        self._settings, self._folder, self._segment_s = settings, folder, segment_s
        self._url = settings.url.get_secret_value()
        self._shown = f"{settings.id} ({redact(self._url)})"
        self._stop = threading.Event()
        # Guards turn and segment: ``finish`` and ``check`` may close it while the thread waits for packets.
        self._lock = threading.Lock()
        self._turn: Turn | None = None
        self._stuck: list[Turn] = []
        self._thread: threading.Thread | None = None
        self._backoff = Backoff(cap_s=settings.reconnect_max_s)
        self._segment: Segment | None = None
        self._read_back_s: float | None = 0.0  # media time at which the segment was last tried; None: it can be read
        self._state: State = "opening"
        self._segments = self._connections = self._gaps = self._left_out = self._unreadable = self._bytes = 0
        self._recorded_s = 0.0
        self._waits_for = ""
        self._error = ""
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin; to be called once."""
        with self._lock:
            self._begin_turn()

    def check(self) -> None:
        """Leave the thread to itself when FFmpeg's own limits do not end what it waits for, and begin another.

        What it has recorded is kept. It cannot be ended from outside: closing its stream would crash the process. After
        ``MAX_STUCK_THREADS`` no other is begun until one returns.
        """
        turn = self._turn
        if turn is None or not turn.is_stuck(time.monotonic()) or self._stop.is_set():
            return
        self._error = f"{self._shown}: expected an answer within {turn.limit_s:g} s, got none: its thread is stuck"
        self._stuck = [stuck for stuck in self._stuck if not stuck.returned]
        if len(self._stuck) >= MAX_STUCK_THREADS or not self._lock.acquire(blocking=False):
            return
        try:
            _log.warning("%s", self._error)
            turn.over.set()
            self._stuck.append(turn)
            self._guard(self._end_locked_segment)
            self._begin_turn()
        finally:
            self._lock.release()

    def stop(self) -> None:
        """Ask it to end; it does after the next packet."""
        self._stop.set()

    def finish(self, timeout_s: float) -> None:
        """Wait for its end and publish what it has, even if a silent camera holds its thread.

        Args:
            timeout_s: longest wait for the thread.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(max(timeout_s, 0.0))
        if not self._lock.acquire(timeout=max(timeout_s, _LOCK_PATIENCE_S)):
            self._state = "stopped"  # a packet is stuck on its way to the disk; the next run keeps what is there
            self._error = f"{self._shown}: expected to write a packet, got no answer from the disk or from FFmpeg"
            return
        try:
            self._state = "stopped"
            self._guard(self._end_locked_segment)
        finally:
            self._lock.release()

    def status(self) -> RecorderStatus:
        """How it stands."""
        segment = self._segment
        return RecorderStatus(
            camera_id=self._settings.id,
            scene=self._settings.trained_as,
            state=self._state,
            segments=self._segments,
            recorded_s=self._recorded_s + (segment.duration_s if segment else 0.0),
            recorded_bytes=self._bytes + (segment.payload_bytes if segment else 0),
            reconnects=max(self._connections - 1, 0),
            gaps=self._gaps,
            left_out=self._left_out + (segment.left_out if segment else 0),
            unreadable=self._unreadable,
            error=self._error,
        )

    def _begin_turn(self) -> None:
        turn = self._turn = Turn(time.monotonic())

        def run() -> None:
            try:
                self._guard(lambda: self._record(turn))
            finally:
                turn.returned = True

        self._thread = threading.Thread(target=run, name=f"record-{self._settings.id}", daemon=True)
        self._thread.start()

    def _guard(self, task: Callable[[], None]) -> None:
        """Keep what goes wrong, for whoever started the recording; the first error says most."""
        try:
            task()
        except Exception as error:
            self.failure = self.failure or error
            self._stop.set()

    def _record(self, turn: Turn) -> None:
        settings = self._settings
        while self._may_go_on(turn):
            turn.limit_s = 2 * settings.open_timeout_s + settings.stall_timeout_s
            self._state, before = "opening", self._segments
            error, patience = self._connect(turn)
            if not self._may_go_on(turn):
                return
            turn.limit_s = math.inf
            if self._segments > before:
                self._backoff.succeeded()
            self._state, self._error = "waiting", error
            self._stop.wait(patience * self._backoff.failed())

    def _connect(self, turn: Turn) -> tuple[str, int]:
        """One connection from its opening to its end; returns why it ended and how long to wait, in usual pauses.

        Raises:
            RunError: the disk is full, or cannot be written.
        """
        try:
            try:
                self._record_connection(turn)
            finally:
                self._end_segment(turn)
        except (RunError, MemoryError):
            raise
        except VideoError as failure:
            return one_line(failure), _REFUSED_PATIENCE if isinstance(failure, RefusedError) else 1
        except Exception as failure:  # whatever one camera's stream brings out, the others are recorded
            error = unexpected(self._shown, failure)
            _log.error("%s", error)
            return error, 1
        return f"{self._shown}: expected more packets, got the end of the stream", 1

    def _may_go_on(self, turn: Turn) -> bool:
        """Note a thread's progress; False when it is to end."""
        turn.progress_at_s = time.monotonic()
        return not (turn.over.is_set() or self._stop.is_set())

    def _record_connection(self, turn: Turn) -> None:
        settings = self._settings
        container = open_live(
            self._url, self._shown, open_timeout_s=settings.open_timeout_s, read_timeout_s=settings.read_timeout_s
        )
        with container:  # closed by this thread alone: FFmpeg crashes when another does
            if not self._may_go_on(turn):
                return
            turn.limit_s = 2 * settings.read_timeout_s + settings.stall_timeout_s
            stream = video_stream(container, self._shown)
            self._connections += 1
            self._waits_for = "waiting for a keyframe"
            timeline, pictures = timeline_of(stream), PictureReader(stream)
            error: VideoError | None = None
            try:
                for unit in self._units(turn, container, stream):
                    gaps = timeline.gaps
                    for stamped in timeline.push(unit):
                        self._take(turn, stamped, stream, pictures)
                    self._gaps += timeline.gaps - gaps
            except av.error.FFmpegError as failure:
                error = VideoError(f"{self._shown}: expected more packets, got {said(failure)}")
            for stamped in timeline.flush():
                self._take(turn, stamped, stream, pictures)
            if error is not None:
                raise error

    def _units(self, turn: Turn, container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
        """The stream's access units, until it ends, none comes or the recorder is stopped."""
        units, newest_at = AccessUnits(stream), time.monotonic()
        # All streams: FFmpeg's own limit starts afresh with every packet, of sound, too.
        for packet in container.demux():
            if not self._may_go_on(turn):
                return  # what waits may be half a picture
            whole = units.push(packet) if packet.stream_index == stream.index and packet.size else []
            yield from whole
            if whole:
                newest_at = turn.progress_at_s
            elif turn.progress_at_s - newest_at > self._settings.stall_timeout_s:
                raise VideoError(
                    f"{self._shown}: expected a picture within {self._settings.stall_timeout_s:g} s (stall_timeout_s), "
                    "got none"
                )
        yield from units.flush()

    def _take(self, turn: Turn, stamped: Stamped, stream: VideoStream, pictures: PictureReader) -> None:
        """Write an access unit, at a keyframe perhaps into a new segment."""
        with self._lock:
            if self._state == "stopped" or turn is not self._turn:  # ``finish`` or ``check`` was here
                return
            packet = stamped.packet
            if packet.is_keyframe and not packet.is_corrupt:
                self._turn_over(stamped, stream, pictures)
            if self._segment is None:
                self._left_out += 1
                self._error = f"{self._shown}: {self._waits_for}"
                return
            self._segment.write(stamped)
            self._read_back(self._segment)

    def _read_back(self, segment: Segment) -> None:
        """Try every few seconds whether a new segment can be decoded, until it can.

        Raises:
            VideoError: it cannot, for as long as a camera may go without a frame.
        """
        if self._read_back_s is None or segment.duration_s < self._read_back_s + _READ_BACK_EVERY_S:
            return
        readable = self._is_readable(segment)
        self._read_back_s = None if readable else segment.duration_s
        if readable is False and segment.duration_s >= self._settings.stall_timeout_s:
            raise VideoError(
                f"{self._shown}: expected a recording that can be read back, got {segment.duration_s:.0f} s in which "
                "nothing can be decoded: not kept"
            )

    def _is_readable(self, segment: Segment) -> bool | None:
        """Whether a segment can be read back; None, said in the log, where the system does not let anybody tell."""
        try:
            return is_readable(segment.path)
        except OSError as error:
            _log.warning("%s: a segment is kept, though it could not be read back: %s", self._shown, error.strerror)
            return None

    def _turn_over(self, stamped: Stamped, stream: VideoStream, pictures: PictureReader) -> None:
        """Begin a segment at a keyframe, if there is none, or if the one there is long enough or shows others."""
        segment, mark = self._segment, pictures.mark(stamped.packet)
        is_other = segment is not None and mark is not None and mark != segment.picture.mark
        if segment is not None and not is_other and segment.duration_s < self._segment_s:
            return
        picture = pictures.picture(stamped.packet, mark)
        if picture is None:  # the next keyframe will do
            self._waits_for = "waiting for a keyframe that can be decoded"
            return
        self._end_locked_segment()
        path = self._folder.stage(self._settings.trained_as)
        try:
            self._segment = Segment(path, stream, picture, stamped.pts_ms)
        except VideoError as error:
            raise VideoError(f"{self._shown}: {error}") from None
        self._read_back_s = 0.0
        self._state, self._error = "recording", ""

    def _end_segment(self, turn: Turn) -> None:
        with self._lock:
            if turn is self._turn:
                self._end_locked_segment()

    def _end_locked_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        segment.close()
        self._left_out += segment.left_out
        if not segment.packets:
            self._folder.discard(segment.path)
            return
        if self._read_back_s is not None and self._is_readable(segment) is False:
            self._folder.discard(segment.path)
            self._unreadable += 1
            _log.warning(
                "%s: a segment of %.1f s could not be read back and is not kept: nothing in it can be decoded",
                self._shown,
                segment.duration_s,
            )
            return
        self._folder.publish(segment.path)
        self._segments += 1
        self._recorded_s += segment.duration_s
        self._bytes += segment.payload_bytes


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
