"""Reading a file: once, from its start to its end, of which no frame is dropped for another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pipeline.camera_settings import CameraSettings
from pipeline.logs import log_about
from pipeline.redaction import redact
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.frame_counters import FrameCounters
from pipeline.runtime.status import ENDED, ReaderState, ReaderStatus
from pipeline.types import Frame
from pipeline.video.arrivals import ArrivalCounter, is_sound
from pipeline.video.failures import explained
from pipeline.video.pace import PlaybackPacer
from pipeline.video.sampling import PtsSampler
from pipeline.video.source import DecodedFrame, SkipReason, VideoSource, open_camera


class FileReader:
    """Reads a file, or a folder of images, into its buffer until it ends or is stopped.

    Implements ``pipeline.video.reader.CameraReader``. A file that an earlier process had begun is read again from its
    start: frames that process dispatched and whose result is known are counted and left out, the others come again
    under the same numbers.

    Args:
        settings: the file as a camera.
        size_px: (height, width) of the frames.
        buffers: where frames go; the file's buffer is opened here, and the reader waits while it is full. Its callbacks
            count what they drop and dispatch.
        counters: the file's counters.
        gap_s: how much earlier the other half of a frame's pair is to be.
        start_thread: runs a task in a thread of its own, which must not die unnoticed.
        now: monotonic clock in seconds.
        unix_now: Unix time in seconds.
        wait: waits for an event, seconds at most.

    Attributes:
        live: False.
        paced: whether it is read at the speed at which it was filmed, instead of as fast as it goes; may be changed at
            any time.
    """

    live = False

    def __init__(
        self,
        settings: CameraSettings,
        size_px: tuple[int, int],
        buffers: FrameBuffers,
        counters: FrameCounters,
        *,
        gap_s: float,
        start_thread: Callable[[Callable[[], None]], None],
        now: Callable[[], float] = time.monotonic,
        unix_now: Callable[[], float] = time.time,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.paced = False
        self._pace = PlaybackPacer()
        self._settings, self._size_px, self._gap_s, self._counters = settings, size_px, gap_s, counters
        self._start_thread, self._now, self._wait = start_thread, now, wait
        self._arrivals = ArrivalCounter(settings, buffers, counters, unix_now=unix_now)
        self._started = False
        self._over = threading.Event()
        self._go = threading.Event()  # cleared while it is paused
        self._go.set()
        self._state: ReaderState = "opening"
        self._error = ""
        self._missing = 0
        self._wanted = 0  # frames that somebody wanted, whether or not they are new
        if counters.resumed:
            counters.restart_file()
        self._known_below = counters["confirmed"]
        buffers.add_camera(settings.id, settings.buffer_frames, "block")

    def start(self) -> None:
        """Begin to read; to be called once."""
        if self._state in ENDED:
            return
        self._started = True

        def read_camera() -> None:  # the thread's name, too
            log_about(camera=self._settings.id, session=self._counters["session"])
            self._read_to_end()

        self._start_thread(read_camera)

    def stop(self) -> None:
        """Ask it to end; it has once it has counted the frame that it was about to dispatch."""
        self._over.set()
        self._go.set()
        if not self._started:
            self._state = "stopped"

    def pause(self) -> None:
        """Stay in place until ``resume``; one that was asked to end goes on to its end."""
        if self._state not in ENDED and not self._over.is_set():
            self._go.clear()

    def resume(self) -> None:
        """Go on reading after a pause; otherwise nothing happens."""
        self._go.set()

    def check(self) -> None:
        """Nothing to do: a file's thread is never left to itself.

        It may well wait for room in the buffer, and reading the file a second time would count its frames twice.
        """

    def status(self) -> ReaderStatus:
        """Counts as of now."""
        state = self._state
        paused = state not in ENDED and not self._go.is_set()
        return self._arrivals.status(
            "paused" if paused else state, live=False, error=self._error, missing=self._missing
        )

    def _read_to_end(self) -> None:
        error = ""
        try:
            self._go.wait()
            with open_camera(self._settings, self._size_px, gap_s=self._gap_s) as source:
                if not self._over.is_set():
                    self._drain(source)
        except Exception as failure:
            label = f"{self._settings.id} ({redact(self._settings.url.get_secret_value())})"
            error = explained(label, failure)
        self._error = error
        self._state = "stopped" if self._over.is_set() else "failed" if error else "finished"

    def _drain(self, source: VideoSource) -> None:
        """Take in what the file brings, up to its end."""
        sampler = PtsSampler(self._settings.sample_fps)

        def wants(media_time_s: float) -> bool:
            self._keep_pace(media_time_s)
            return sampler.wants(media_time_s)

        for arrival in source.arrivals(wants):
            if self._over.is_set():
                return
            frame = None if arrival is None else self._count(arrival)
            if frame is not None and not self._arrivals.put(frame):
                self._over.set()
                return
            self._go.wait()
        self._missing = max((source.expected_frames or 0) - self._arrivals.count, 0)

    def _keep_pace(self, media_time_s: float) -> None:
        """Wait until a frame is due, before it counts as come; not for those that another process had read."""
        if not self.paced or self._wanted < self._known_below:
            self._pace.restart()
        elif (delay_s := self._pace.delay_s(media_time_s, self._now())) > 0.0:
            self._wait(self._over, delay_s)

    def _count(self, arrival: DecodedFrame | SkipReason) -> Frame | None:
        """Count a frame; returns it if it is wanted and new."""
        with self._arrivals.counted(arrival):
            if is_sound(arrival):
                self._state = "streaming"
            if isinstance(arrival, str):
                return None
            self._wanted += 1
            if self._wanted <= self._known_below:
                self._counters.add("dispatched")
                return None
            return self._arrivals.frame(arrival)
