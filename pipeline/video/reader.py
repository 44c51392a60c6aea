"""One camera's endless task behind one face, whether it is a file or a live stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from pipeline.camera_settings import CameraSettings
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.frame_counters import FrameCounters
from pipeline.runtime.status import ReaderStatus
from pipeline.video.file_reader import FileReader
from pipeline.video.live_reader import ImageMonitor, LiveReader
from pipeline.video.packet_tap import PacketKeeper


class CameraReader(Protocol):
    """Reads one camera into its buffer, in a thread of its own, until it ends or is stopped.

    Whoever owns it calls its methods one at a time, and ``check`` a few times per second. None waits for the network.

    Attributes:
        paced: whether a file is read at the speed at which it was filmed, instead of as fast as it goes; may be changed
            at any time. Without meaning for a live camera.
    """

    paced: bool

    @property
    def live(self) -> bool:
        """Whether it is a live stream, which is connected to again and again; a file ends."""
        ...

    def start(self) -> None:
        """Begin to read; to be called once."""
        ...

    def stop(self) -> None:
        """Ask it to end; it closes its own stream.

        A live camera has stopped at once. A file has once it has counted the frame that it was about to dispatch.
        """
        ...

    def pause(self) -> None:
        """Read no more until ``resume``: a live camera's connection is closed, a file stays where it is."""
        ...

    def resume(self) -> None:
        """Go on reading after a pause; otherwise nothing happens."""
        ...

    def check(self) -> None:
        """Leave a live camera's thread to itself, and start another, when it is stuck in FFmpeg."""
        ...

    def status(self) -> ReaderStatus:
        """Counts as of now."""
        ...


def make_reader(
    settings: CameraSettings,
    size_px: tuple[int, int],
    buffers: FrameBuffers,
    counters: FrameCounters,
    *,
    gap_s: float,
    make_watch: Callable[[], ImageMonitor | None],
    make_keeper: Callable[[], PacketKeeper | None] = lambda: None,
    start_thread: Callable[[Callable[[], None]], None],
    now: Callable[[], float] = time.monotonic,
    unix_now: Callable[[], float] = time.time,
    wait: Callable[[threading.Event, float], object] = threading.Event.wait,
) -> CameraReader:
    """The reader that a camera's address asks for; its buffer is opened.

    Args:
        settings: the camera.
        size_px: (height, width) of the frames.
        buffers: where frames go. Its callbacks count what they drop and dispatch.
        counters: the camera's counters.
        gap_s: how much earlier the other half of a frame's pair is to be, as the model's ``motion.gap_s`` says.
        make_watch: makes what looks at the pictures of a live camera, if anything is to.
        make_keeper: makes what keeps the packets of a live camera, if anything is to; told of files, too.
        start_thread: runs a task in a thread of its own, which must not die unnoticed.
        now: monotonic clock in seconds.
        unix_now: Unix time in seconds.
        wait: waits for an event, seconds at most.
    """
    keeper = make_keeper()
    if not settings.is_live:
        return FileReader(
            settings,
            size_px,
            buffers,
            counters,
            gap_s=gap_s,
            start_thread=start_thread,
            now=now,
            unix_now=unix_now,
            wait=wait,
        )
    return LiveReader(
        settings,
        size_px,
        buffers,
        counters,
        gap_s=gap_s,
        watch=make_watch(),
        keeper=keeper,
        start_thread=start_thread,
        now=now,
        unix_now=unix_now,
    )
