"""Opening and decoding a stream: a video file, a folder of images, or a live camera, all to frames of one size.

Training, replay and live use this one way, so that a score means the same everywhere: FFmpeg's decoder on one thread,
then swscale's area averaging straight to RGB at the model's input size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from pipeline.addresses import is_live, scheme_of
from pipeline.camera_settings import CameraSettings
from pipeline.errors import VideoError
from pipeline.redaction import redact
from pipeline.types import PreviousLuma
from pipeline.video.container import ContainerFeed, Feed, RawFrame
from pipeline.video.images import ImageFeed, refuse_rate
from pipeline.video.live_clock import LiveClock
from pipeline.video.opening import open_file, open_live
from pipeline.video.packet_tap import PacketTap
from pipeline.video.pairs import EarlierFrames
from pipeline.video.resizer import Resizer
from pipeline.video.stand_in import StandInFeed

SkipReason = Literal["sampling", "corrupt", "decode_error"]
"""Why a frame that came has no image: nobody wanted it, it is damaged, or it could not be decoded."""


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One frame.

    Attributes:
        pts: presentation time stamp in ticks of ``time_base``; starts anywhere.
        time_base: seconds per tick.
        image: uint8, shape (H, W, 3), RGB at the asked size; owns its memory.
        previous: the other half of its pair, as ``pipeline.video.pairs`` chooses it; None without one, or where pairs
            are not asked for.
    """

    pts: int
    time_base: Fraction
    image: npt.NDArray[np.uint8]
    previous: PreviousLuma | None = None


def open_source(
    url: str,
    size_px: tuple[int, int] | None,
    *,
    gap_s: float | None = None,
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 3.0,
    name: str | None = None,
    sample_fps: float | None = None,
    clock: LiveClock | None = None,
    loop: bool = False,
    image_fps: float | None = None,
    tap: PacketTap | None = None,
) -> VideoSource:
    """Open a video file, a folder of images or a live stream.

    Args:
        url: path or address.
        size_px: (height, width) of the frames that come out, whatever comes in; None leaves them as they come.
        gap_s: how much earlier the other half of a frame's pair is to be, in seconds; None makes no pairs.
        open_timeout_s: bounds each step of opening a live stream.
        read_timeout_s: bounds the wait for a live stream's packet; FFmpeg notices a stall after twice that.
        name: what errors call it beside its address, such as the camera's id.
        sample_fps: how often a camera that answers with one picture is asked, per second; None: once.
        clock: times a live camera's frames over all of its sessions; None takes a new one.
        loop: whether a file or folder stands in for a live stream.
        image_fps: how many images of a folder were filmed per second; None takes 10 (``FOLDER_FPS``).
        tap: is told of what comes, before and after it was decoded.

    Raises:
        RefusedError: access is refused, there is no such stream, or a redirect would take the password elsewhere.
        VideoError: it cannot be opened; one line that names it, without credentials.
    """
    live = is_live(url)
    label = _label(url, name)
    if live:
        timeouts_s = {"open_timeout_s": open_timeout_s, "read_timeout_s": read_timeout_s}
        container = open_live(url, label, **timeouts_s, sample_fps=sample_fps)
        feed = ContainerFeed(container, live=True, label=label, clock=clock, tap=tap)
        return VideoSource(feed, size_px, gap_s=gap_s, live=True, label=label, tap=tap)
    path = file_path(url)
    if loop:
        stand_in = StandInFeed(lambda: file_feed(path, label, image_fps, tap), label)
        return VideoSource(stand_in, size_px, gap_s=gap_s, live=True, label=label, tap=tap)
    feed = file_feed(path, label, image_fps, tap)
    return VideoSource(feed, size_px, gap_s=gap_s, live=False, label=label, tap=tap)


def open_camera(
    camera: CameraSettings,
    size_px: tuple[int, int] | None,
    *,
    gap_s: float | None = None,
    clock: LiveClock | None = None,
    tap: PacketTap | None = None,
) -> VideoSource:
    """Open a camera, or the file that stands in for one, as its settings say.

    Args:
        camera: the camera.
        size_px: as of ``open_source``.
        gap_s: as of ``open_source``.
        clock: as of ``open_source``.
        tap: as of ``open_source``.

    Raises:
        RefusedError: as of ``open_source``.
        VideoError: it cannot be opened.
    """
    return open_source(
        camera.url.get_secret_value(),
        size_px,
        gap_s=gap_s,
        open_timeout_s=camera.open_timeout_s,
        read_timeout_s=camera.read_timeout_s,
        name=camera.id,
        sample_fps=camera.sample_fps,
        clock=clock,
        loop=camera.loop,
        image_fps=camera.image_fps,
        tap=tap,
    )


def file_path(url: str) -> Path:
    """The file or folder that an address leads to, which is no live stream."""
    return Path(unquote(url[len("file://") :]) if scheme_of(url) else url)


def file_feed(path: Path, label: str, image_fps: float | None = None, tap: PacketTap | None = None) -> Feed:
    """Frames of a file or a folder of images, once.

    Args:
        path: the file or folder.
        label: what errors call it.
        image_fps: as of ``open_source``.
        tap: as of ``open_source``; of what goes into the decoder.

    Raises:
        VideoError: it cannot be opened.
    """
    try:
        folder = path.is_dir()
    except OSError as error:  # such as a name that is too long
        raise VideoError(f"{label}: expected a readable file or folder, got: {error.strerror}") from error
    refuse_rate(path, image_fps, label)
    if folder:
        return ImageFeed(path, label, image_fps, tap)
    return ContainerFeed(open_file(path, label), live=False, label=label, tap=tap)


def _label(url: str, name: str | None) -> str:
    """What errors call a stream: one line without credentials, and with nothing that cannot be printed."""
    text = redact(url)
    text = text if text.isprintable() else repr(text)
    return f"{name} ({text})" if name else text


class VideoSource:
    """Decoded frames of one connection, to be iterated once; a context manager that closes the stream.

    The thread that iterates is the one that closes: FFmpeg crashes when another does.

    A file ends when it ends. The end of a live stream is a disconnect, and what to do then is the caller's business.

    Attributes:
        live: whether it is a live stream.
        tap: what is told of what comes; None where nothing is.
        frame_rate_fps: frames per second that the stream states, or None.
        codec: what it is encoded with, by FFmpeg's name.
        size_px: (height, width) of the newest frame as it came; a live stream's may change. None before the first.
        decoded: sound frames so far; frame i of an undamaged file is the i-th one yielded, from 0.
        corrupt: frames that are damaged, or predicted from such ones, or whose pixels cannot be converted; passed over.
        decode_errors: packets that could not be decoded; passed over.
    """

    def __init__(
        self,
        feed: Feed,
        size_px: tuple[int, int] | None,
        *,
        gap_s: float | None = None,
        live: bool,
        label: str,
        tap: PacketTap | None = None,
    ) -> None:
        self.live, self.tap = live, tap
        self.frame_rate_fps = feed.frame_rate_fps
        self.codec = feed.codec
        self.size_px: tuple[int, int] | None = None
        self.decoded = 0
        self.corrupt = 0
        self.decode_errors = 0
        self._feed = feed
        self._label = label
        self._resize = Resizer(size_px)
        self._earlier = None if gap_s is None else EarlierFrames(gap_s, self._resize)

    @property
    def untimed(self) -> str:
        """Why a live camera's frames are timed by their arrival; empty where they bring their times."""
        return self._feed.untimed

    @property
    def expected_frames(self) -> int | None:
        """Frames that the file promises (images in the folder); None where nothing is known."""
        return self._feed.expected_frames

    @property
    def before_keyframe(self) -> int:
        """Pictures passed over so far since a live stream was joined between two keyframes."""
        return self._feed.before_keyframe

    def missing(self) -> int:
        """Frames that were promised and did not come, or came damaged, once iteration has ended; 0 if none is known."""
        return max((self.expected_frames or 0) - self.decoded, 0)

    def __iter__(self) -> Iterator[DecodedFrame]:
        """Decode to the end, passing over what is damaged.

        Raises:
            VideoError: a live stream failed or stalled; or not one frame of a file could be decoded.
        """
        for arrival in self.arrivals():
            if isinstance(arrival, DecodedFrame):
                yield arrival

    def arrivals(
        self, wanted: Callable[[float], bool] = lambda media_time_s: True
    ) -> Iterator[DecodedFrame | SkipReason | None]:
        """Decode to the end, telling of every frame that came, and of packets that brought none (as None).

        Args:
            wanted: asked with the media time (seconds) of every sound frame; only wanted ones are resized, which costs
                as much as decoding them.

        Raises:
            VideoError: a live stream failed or stalled; or not one frame of a file could be decoded.
        """
        for raw in self._feed.frames():
            arrival = self._converted(raw, wanted) if isinstance(raw, RawFrame) else raw
            self.corrupt += arrival == "corrupt"
            self.decode_errors += arrival == "decode_error"
            self.decoded += arrival == "sampling" or isinstance(arrival, DecodedFrame)
            del raw  # whoever takes the arrival may let us wait, and a still may fill hundreds of megabytes
            yield arrival
        if not self.live and not self.decoded:
            promised = f" of {self.expected_frames}" if self.expected_frames else ""
            reason = f": {self._feed.first_unreadable}" if self._feed.first_unreadable else ""
            raise VideoError(f"{self._label}: expected frames, got none{promised} that can be decoded{reason}")

    def _converted(self, raw: RawFrame, wanted: Callable[[float], bool]) -> DecodedFrame | SkipReason:
        size_px, media_time_s = (raw.frame.height, raw.frame.width), float(raw.pts * raw.time_base)
        if self.tap is not None:
            self.tap.shown(raw.frame, media_time_s)
        if self._earlier is not None and (raw.cut or self.size_px not in {None, size_px}):
            self._earlier.forget()
        self.size_px = size_px
        if not self._feed.is_thinned and not wanted(media_time_s):
            if self._earlier is not None:
                self._earlier.add(media_time_s, raw.frame)
            return "sampling"
        image = self._resize(raw.frame)
        if image is None:
            return "corrupt"
        previous = None if self._earlier is None else self._earlier.add_wanted(media_time_s, image)
        return DecodedFrame(raw.pts, raw.time_base, image, previous)

    def close(self) -> None:
        """Close the stream; harmless when it is closed already."""
        if self._earlier is not None:
            self._earlier.forget()
        self._feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
