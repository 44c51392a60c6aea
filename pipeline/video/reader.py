"""One camera's endless task: open, decode, thin, hand over, and start again when a live stream ends."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.config import CameraSettings
from pipeline.errors import RefusedError, VideoError
from pipeline.redaction import redact
from pipeline.runtime.backoff import Backoff
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.ledger import CameraLedger
from pipeline.runtime.status import ENDED, ReaderState, ReaderStatus
from pipeline.types import Frame, FrameHeader
from pipeline.video.pace import Pace
from pipeline.video.sampling import PtsSampler
from pipeline.video.source import DecodedFrame, Omission, VideoSource, is_live, open_source
from pipeline.video.turn import MAX_STUCK_THREADS, Turn, unexpected

_REFUSED_PATIENCE = 10
"""How many times longer than after other failures the pause is when a server says no: cameras lock users out."""

_log = logging.getLogger(__name__)


class PictureWatch(Protocol):
    """What looks at a live camera's pictures for signs that it is out of order."""

    def update(self, image: npt.NDArray[np.uint8], now: float) -> frozenset[str]:
        """Look at a picture, uint8 (H, W, 3), RGB; returns what holds: ``frozen``, ``dark``, ``moved``."""
        ...

    def reset(self) -> None:
        """Forget the pictures so far: another connection, or another picture size."""
        ...


@dataclass(slots=True)
class _Session:
    """One connection.

    Attributes:
        framed_at_s: monotonic time of the newest sound frame, or of the opening.
        index: frames that came, damaged ones included.
        packets: packets and damaged frames since the newest sound frame.
        size_px: (height, width) of the newest sound frame as it came.
    """

    framed_at_s: float
    index: int = 0
    packets: int = 0
    size_px: tuple[int, int] | None = None


def _start_daemon(task: Callable[[], None]) -> None:
    threading.Thread(target=task, name=task.__name__, daemon=True).start()


class CameraReader:
    """Reads one camera into its buffer, in a thread of its own, until it ends or is stopped.

    A live camera is connected to again and again; every connection that opens is a new session. A file that an earlier
    process had begun is read again from its start: frames that process handed over and whose fate is known are counted
    and left out, the others come again under the same numbers.

    Whoever owns the reader calls ``check`` a few times per second. No call here waits for the network.

    Args:
        settings: the camera.
        size_px: (height, width) of the frames.
        buffers: where frames go; the camera's buffer is opened here. Its callbacks count what they drop and hand over.
        ledger: the camera's counters.
        watch: looks at the pictures of a live camera.
        start_thread: runs a task in a thread of its own, which must not die unnoticed.
        now: monotonic clock in seconds.
        unix_now: Unix time in seconds.
        wait: waits for an event, seconds at most.

    Attributes:
        paced: whether a file is read at the speed at which it was filmed, instead of as fast as it goes; may be changed
            at any time. Without meaning for a live camera, which sets the pace itself.
    """

    def __init__(
        self,
        settings: CameraSettings,
        size_px: tuple[int, int],
        buffers: FrameBuffers,
        ledger: CameraLedger,
        *,
        watch: PictureWatch | None = None,
        start_thread: Callable[[Callable[[], None]], None] = _start_daemon,
        now: Callable[[], float] = time.monotonic,
        unix_now: Callable[[], float] = time.time,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.paced = False
        self._pace = Pace()
        self._wait = wait
        self._settings, self._size_px = settings, size_px
        self._buffers, self._ledger = buffers, ledger
        self._start_thread = start_thread
        self._now, self._unix_now = now, unix_now
        self._url = settings.url.get_secret_value()
        self._shown = f"{settings.id} ({redact(self._url)})"
        self._live = is_live(self._url)
        self._watch = watch if self._live else None
        self._backoff = Backoff(cap_s=settings.reconnect_max_s)
        self._lock = threading.Lock()  # counting, and taking a turn away, exclude each other
        self._turn: Turn | None = None
        self._stuck: list[Turn] = []
        self._started = False
        self._paused = False
        self._go = threading.Event()  # cleared while a file is paused
        self._go.set()
        self._state: ReaderState = "opening"
        self._error = ""
        self._missing = 0
        self._last_frame_at_s: float | None = None
        self._conditions: frozenset[str] = frozenset()
        self._session_is_used = False
        self._wanted = 0  # frames of a file that somebody wanted, whether or not they are new
        self._resume()
        overflow, max_age_s = ("drop_oldest", settings.max_frame_age_s) if self._live else ("block", None)
        buffers.add_camera(settings.id, settings.buffer_frames, overflow, max_age_s)

    def start(self) -> None:
        """Begin to read; to be called once."""
        with self._lock:
            self._started = True
            if self._state not in ENDED and not (self._live and self._paused):
                self._begin_turn()

    def stop(self) -> None:
        """Ask it to end; it closes its own stream.

        A live camera has stopped at once. A file has once it has counted the frame that it was about to hand over.
        """
        with self._lock:
            turn, self._paused = self._turn, False
            if turn is not None:
                turn.over.set()
            self._go.set()
            if self._state not in ENDED and (self._live or turn is None):
                self._turn, self._state = None, "stopped"

    def pause(self) -> None:
        """Read no more until ``resume``: a live camera's connection is closed, a file stays where it is."""
        with self._lock:
            if self._paused or self._state in ENDED:
                return
            self._paused = True
            self._go.clear()
            self._conditions, self._error = frozenset(), ""
            if self._live and self._turn is not None:
                self._turn.over.set()
                self._turn, self._state = None, "opening"

    def resume(self) -> None:
        """Go on reading after a pause; otherwise nothing happens."""
        with self._lock:
            if not self._paused:
                return
            self._paused = False
            self._go.set()
            if self._live and self._started:
                self._begin_turn()

    def check(self) -> None:
        """Leave a live camera's thread to itself when FFmpeg's own limits do not end what it waits for.

        Another thread starts afresh then. The stuck one cannot be ended from outside: closing its stream would crash
        the process. A file is never left: its thread may well wait for room in the buffer, and reading it a second time
        would count its frames twice.
        """
        with self._lock:
            turn = self._turn
            if not self._live or turn is None or not turn.is_stuck(self._now()):
                return
            self._error = f"{self._shown}: expected an answer within {turn.limit_s:g} s, got none: its thread is stuck"
            self._stuck = [stuck for stuck in self._stuck if not stuck.returned]
            if len(self._stuck) >= MAX_STUCK_THREADS:
                return
            _log.warning("%s", self._error)
            turn.over.set()
            self._stuck.append(turn)
            self._begin_turn()

    def status(self) -> ReaderStatus:
        """Counts as of now."""
        # The decoded count is read last: a frame must never seem dropped or handed over before it came.
        dropped, handed = self._ledger.dropped(), self._ledger["handed"]
        state = self._state
        return ReaderStatus(
            state="paused" if self._paused and state not in ENDED else state,
            live=self._live,
            book=self._ledger.book,
            session=self._ledger["session"],
            handed=handed,
            dropped=dropped,
            missing=self._missing,
            error=self._error,
            last_frame_at_s=self._last_frame_at_s,
            conditions=self._conditions,
            decoded=self._ledger["decoded"],
        )

    def _resume(self) -> None:
        """Go on in the books of the process before this one, if there was one."""
        ledger = self._ledger
        if self._live and ledger.resumed:
            ledger.settle_lost()
            ledger.add("session")
        elif ledger.resumed:
            ledger.rewind()
        self._known_below = 0 if self._live else ledger["confirmed"]

    def _begin_turn(self) -> None:
        turn = self._turn = Turn(self._now())
        self._state = "opening"

        def read_camera() -> None:
            try:
                if self._live:
                    self._read_live(turn)
                else:
                    self._read_file(turn)
            finally:
                turn.returned = True

        self._start_thread(read_camera)

    def _read_file(self, turn: Turn) -> None:
        error = ""
        try:
            self._go.wait()
            self._read_session(turn)
        except Exception as failure:
            error = self._explain(failure)
        with self._lock:
            self._error = error
            self._state = "stopped" if turn.over.is_set() else "failed" if error else "finished"

    def _read_live(self, turn: Turn) -> None:
        while self._may_open(turn):
            patience = 1
            try:
                self._read_session(turn)
                error = f"{self._shown}: expected more frames, got the end of the stream"
            except Exception as failure:
                error = self._explain(failure)
                patience = _REFUSED_PATIENCE if isinstance(failure, RefusedError) else 1
            with self._lock:
                if turn is not self._turn:
                    return
                turn.limit_s = math.inf
                self._state, self._error = "waiting", error
                pause_s = patience * self._backoff.failed()
            turn.over.wait(pause_s)
        with self._lock:
            if turn is self._turn:  # nobody took the turn away: the buffer was closed
                self._turn, self._state = None, "stopped"

    def _explain(self, failure: Exception) -> str:
        """One line for what ended a connection. Whatever one camera's stream brings out, the others must go on."""
        if isinstance(failure, VideoError):
            return _one_line(failure)
        if isinstance(failure, MemoryError):  # not the camera's: the process ends, and starts afresh
            raise failure
        line = unexpected(self._shown, failure)
        _log.error("%s", line)
        return line

    def _may_open(self, turn: Turn) -> bool:
        with self._lock:
            if not self._may_go_on(turn):
                return False
            turn.limit_s = 2 * self._settings.open_timeout_s + self._settings.stall_timeout_s
            self._state = "opening"
            return True

    def _may_go_on(self, turn: Turn) -> bool:
        """Note a thread's progress, under the lock; False when it is to end."""
        turn.progress_at_s = self._now()
        return turn is self._turn and not turn.over.is_set()

    def _read_session(self, turn: Turn) -> None:
        """One connection, from opening to its end."""
        with open_source(
            self._url,
            self._size_px,
            open_timeout_s=self._settings.open_timeout_s,
            read_timeout_s=self._settings.read_timeout_s,
            name=self._settings.id,
        ) as source:
            if self._has_opened(turn):
                self._drain(turn, source)

    def _has_opened(self, turn: Turn) -> bool:
        """Count the connection; False where it came too late."""
        with self._lock:
            if not self._may_go_on(turn):
                return False
            turn.limit_s = 2 * self._settings.read_timeout_s + self._settings.stall_timeout_s
            if self._session_is_used:
                self._ledger.add("session")
            self._session_is_used = True
            self._forget_pictures()
            return True

    def _drain(self, turn: Turn, source: VideoSource) -> None:
        """Take in what an open stream brings, up to its end."""
        sampler = PtsSampler(self._settings.sample_fps)
        session = _Session(framed_at_s=self._now())

        def wants(media_time_s: float) -> bool:
            self._keep_pace(turn, media_time_s)
            return sampler.wants(media_time_s)

        for came in source.arrivals(sampler.wants if self._live else wants):
            if not self._take_in(turn, came, session, source.size_px):
                return
            if not self._live:
                self._go.wait()
            elif self._now() - session.framed_at_s > self._settings.stall_timeout_s:
                raise VideoError(
                    f"{self._shown}: expected a frame within {self._settings.stall_timeout_s:g} s (stall_timeout_s), "
                    f"got {session.packets} packets that make none: no keyframe, or all damaged"
                )
        self._missing = max((source.expected_frames or 0) - session.index, 0)

    def _keep_pace(self, turn: Turn, media_time_s: float) -> None:
        """Wait until a file's frame is due, before it counts as come; not for those that another process had read."""
        if not self.paced or self._wanted < self._known_below:
            self._pace.restart()
        elif (delay_s := self._pace.delay_s(media_time_s, self._now())) > 0.0:
            self._wait(turn.over, delay_s)

    def _take_in(
        self, turn: Turn, came: DecodedFrame | Omission | None, session: _Session, size_px: tuple[int, int] | None
    ) -> bool:
        """Count what came, and hand it over if it is wanted; False when the thread is to end."""
        with self._lock:
            if not self._may_go_on(turn):
                return False
            frame = self._count(came, session, size_px)
            if frame is None or self._live:
                return frame is None or self._put(turn, frame)
        return self._put(turn, frame)  # outside the lock: a file waits here for room in its buffer

    def _count(
        self, came: DecodedFrame | Omission | None, session: _Session, size_px: tuple[int, int] | None
    ) -> Frame | None:
        """Count what came; returns it if it is to be handed over."""
        session.packets += 1
        if came is None:
            return None
        self._ledger.add("decoded")
        session.index += 1
        try:
            return self._judge(came, session, size_px)
        except Exception:
            self._ledger.add("decode_error")  # it came and goes no further
            raise

    def _judge(self, came: DecodedFrame | Omission, session: _Session, size_px: tuple[int, int] | None) -> Frame | None:
        """Decide on a frame that was counted; returns it if it is to be handed over."""
        if not isinstance(came, str) or came == "sampling":
            self._note_sound_frame(session, size_px)
        if isinstance(came, str):
            self._ledger.add(came)
            return None
        if self._watch is not None:
            self._conditions = self._watch.update(came.image, session.framed_at_s)
        if not self._live:
            self._wanted += 1
            if self._wanted <= self._known_below:
                self._ledger.add("handed")
                return None
        return self._frame(came, session)

    def _note_sound_frame(self, session: _Session, size_px: tuple[int, int] | None) -> None:
        session.framed_at_s, session.packets = self._now(), 0
        self._last_frame_at_s = self._unix_now()
        if self._state == "opening":
            self._state, self._error = "streaming", ""
            self._backoff.succeeded()
        if session.size_px not in {None, size_px}:
            self._forget_pictures()
        session.size_px = size_px

    def _forget_pictures(self) -> None:
        self._conditions = frozenset()
        if self._watch is not None:
            self._watch.reset()

    def _frame(self, decoded: DecodedFrame, session: _Session) -> Frame:
        header = FrameHeader(
            camera_id=self._settings.id,
            session=self._ledger["session"],
            index=session.index - 1,
            pts=decoded.pts,
            time_base=decoded.time_base,
            captured_at_s=self._last_frame_at_s or self._unix_now(),
        )
        return Frame(header, decoded.image)

    def _put(self, turn: Turn, frame: Frame) -> bool:
        if self._buffers.put(frame):
            return True
        self._ledger.add("shutdown")
        turn.over.set()  # the buffer is closed: no frame will be wanted any more
        return False


def _one_line(error: VideoError) -> str:
    return " ".join(redact(error).split())
