"""Frames of video files and live streams, as they leave the decoder."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple, Protocol, cast

import av
import av.error
from av.container import InputContainer
from av.container.streams import StreamContainer
from av.format import Flags
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pipeline.errors import VideoError
from pipeline.video.access_units import AccessUnits
from pipeline.video.decoder import MAX_PIXELS, Decoder, FrameDamage
from pipeline.video.live_clock import LiveClock
from pipeline.video.opening import LiveContainer, ffmpeg_message
from pipeline.video.packet_tap import PacketTap
from pipeline.video.stated import stated_frames

_UNKNOWN_RATE_FPS = 25
_ARRIVAL_TICK = Fraction(1, 90_000)  # RTP's
_MOST_UNTOLD = 3  # frames in a row of a live stream whose time is guessed
_FASTEST_RATE_FPS = 1000  # above it the rate is a guess from the time base, not a camera's
_log = logging.getLogger(__name__)


class RawFrame(NamedTuple):
    """A frame as it left the decoder, at its own size.

    Attributes:
        pts: presentation time stamp in ticks of ``time_base``.
        time_base: seconds per tick.
        frame: the picture.
        cut: whether it does not continue what came before, though the time goes on.
    """

    pts: int
    time_base: Fraction
    frame: av.VideoFrame
    cut: bool = False


class Feed(Protocol):
    """Something that yields decoded frames in order.

    Attributes:
        frame_rate_fps: frames per second that it states, or None.
        codec: what it is encoded with, by FFmpeg's name.
        before_keyframe: pictures passed over since they refer to what was sent before a live stream was joined.
    """

    frame_rate_fps: float | None
    codec: str
    before_keyframe: int

    @property
    def first_unreadable(self) -> str:
        """One line on the first frame that could not be read, where something is known of it; else empty."""
        ...

    @property
    def is_thinned(self) -> bool:
        """Whether no more frames come than are wanted, so that none need be left out."""
        ...

    @property
    def untimed(self) -> str:
        """Why frames are timed by their arrival; empty where they bring their times."""
        ...

    @property
    def expected_frames(self) -> int | None:
        """Frames that should come, where that is known."""
        ...

    def frames(self) -> Iterator[RawFrame | FrameDamage | None]:
        """Decode; a fault stands for a frame that came damaged, None for a packet that brought no frame."""
        ...

    def close(self) -> None:
        """Close files and sockets."""
        ...


class ContainerFeed:
    """Frames of the first video stream of a file or a live stream.

    Args:
        container: as ``open_file`` or ``open_live`` opened it; closed with the feed.
        live: whether a failing read is an error (a live stream) or the end (a file).
        label: what errors call the stream.
        clock: times the frames of a live stream, over all of its camera's sessions; None takes a new one.
        tap: is told of what goes into the decoder.

    Raises:
        VideoError: no video stream, no decoder for it, or frames that are too large.

    Attributes:
        failure: what ended the reading of a file early, or None.
    """

    def __init__(
        self,
        container: LiveContainer,
        *,
        live: bool,
        label: str,
        clock: LiveClock | None = None,
        tap: PacketTap | None = None,
    ) -> None:
        self._container, self._live, self._label, self._tap = container, live, label, tap
        self._clock = begun_clock(container, clock) if live else None
        self._arrived_s = 0.0  # monotonic time at which the newest packet came
        try:
            self._stream = main_stream(container.streams, label)
            _check_size(self._stream.codec_context, label)
        except VideoError:
            container.close()
            raise
        context = self._stream.codec_context
        self.frame_rate_fps = frame_rate(self._stream)
        self.codec = context.codec.name
        self.first_unreadable = ""
        self.failure: av.error.FFmpegError | None = None
        # Read now: what a PyAV stream says once its container is closed comes from memory that was freed.
        self._declared = 0 if live else stated_frames(cast(InputContainer, container), self._stream)
        self._units = AccessUnits(self._stream)
        self._decoder = Decoder(self._stream, self._units)
        self._discarded = 0
        self._next_slot = 0 if container.format.name == "avi" else None
        self._next_pts = self._untold = self.before_keyframe = 0
        self._awaits_keyframe = live

    @property
    def is_thinned(self) -> bool:
        """Whether no more frames come than are wanted: a camera that is asked for each."""
        return getattr(self._container, "is_thinned", False)

    @property
    def untimed(self) -> str:
        """Why frames are timed by their arrival; empty where they bring their times."""
        return "" if self._clock is None else self._clock.reason

    @property
    def expected_frames(self) -> int | None:
        """Frames that the container's header promises; None where it does not say."""
        # An edit list marks frames that exist only to decode later ones; the decoder never shows them.
        return max(self._declared - self._discarded, 0) if self._declared else None

    def frames(self) -> Iterator[RawFrame | FrameDamage | None]:
        """Decode packet by packet, so that a damaged one costs only itself; a live stream from its first keyframe on.

        At least one value comes per packet (None where it brings no frame), so that whoever iterates can keep time.

        Raises:
            VideoError: a live stream failed or stalled.
        """
        if self._tap is not None:
            self._tap.begin(self._stream)
        try:
            # Of a live one all streams: each packet, of sound, too, starts FFmpeg's limit for silence anew, and whoever
            # iterates would wait for ever for video that does not come.
            streams = () if self._live else (self._stream,)
            for packet in self._container.demux(*streams):
                self._arrived_s = time.monotonic()
                is_video = packet is not None and packet.stream.index == self._stream.index
                units = self._access_units(packet) if packet is not None and is_video else []
                if not units:
                    yield None
                for unit in units:
                    yield from self._decoded(unit)
        except av.error.FFmpegError as error:
            if self._live:
                raise VideoError(f"{self._label}: expected more packets, got {ffmpeg_message(error)}") from None
            self.failure = error
            _log.warning("%s: reading ended early: %s", self._label, ffmpeg_message(error))
            for unit in [*self._units.flush(), None]:  # what waits here, and what the decoder still holds
                yield from self._decoded(unit)

    def _access_units(self, packet: av.Packet) -> list[av.Packet]:
        """What is to be decoded next: whole pictures, from the first keyframe on."""
        self._discarded += packet.is_discard + self._empty_slots(packet)
        units = self._units.push(packet) if packet.size else [*self._units.flush(), packet]
        while self._awaits_keyframe and units and not units[0].is_keyframe:
            self.before_keyframe += bool(units[0].size)
            del units[0]
        self._awaits_keyframe = self._awaits_keyframe and not units
        return units

    def _empty_slots(self, packet: av.Packet) -> int:
        """Of an AVI, which states the ticks of its clock instead of frames: those without a frame before a packet."""
        if self._next_slot is None or packet.dts is None:
            return 0
        empty, self._next_slot = max(packet.dts - self._next_slot, 0), packet.dts + 1
        return empty

    def _decoded(self, packet: av.Packet | None) -> Iterator[RawFrame | FrameDamage | None]:
        untold = self._tap if packet is not None and packet.size else None
        for came in self._decoder.decode(packet):
            if untold is not None and packet is not None:  # now that the decoder has numbered it
                untold.add(packet)
                untold = None
            yield self._stamped(came) if isinstance(came, av.VideoFrame) else came

    def _stamped(self, frame: av.VideoFrame) -> RawFrame:
        """Give the frame a time stamp: its own, else its packet's, else one frame after the last."""
        base = frame.time_base or self._stream.time_base
        time_base = base or Fraction(1, _UNKNOWN_RATE_FPS)
        pts = frame.pts if frame.pts is not None else frame.dts
        self._untold = self._untold + 1 if pts is None else 0
        if pts is None and (self._clock is None or self._untold <= _MOST_UNTOLD):
            pts = self._next_pts
        if pts is not None:
            interval = 1 / (time_base * Fraction(self.frame_rate_fps or _UNKNOWN_RATE_FPS))
            self._next_pts = pts + max(round(interval), 1)
        if self._clock is not None:
            return RawFrame(*timed(self._clock, pts, time_base, self._arrived_s, self._label), frame)
        assert pts is not None
        return RawFrame(pts, time_base, frame)

    def close(self) -> None:
        """Close the container; only the thread that reads may (another thread's close crashes the process)."""
        self._container.close()


def begun_clock(container: LiveContainer, clock: LiveClock | None) -> LiveClock | None:
    """The clock of a live stream at the beginning of a session; None for one that keeps its own time in any case.

    That is a file which a server sends as fast as it can, or a playlist of such: its size is known.

    Args:
        container: the stream.
        clock: of its camera; None takes a new one.
    """
    if container.size > 0:
        return None
    clock = clock or LiveClock()
    clock.restart(has_clock=not Flags(container.format.flags) & Flags.no_timestamps)
    return clock


def timed(clock: LiveClock, pts: int | None, time_base: Fraction, arrived_s: float, label: str) -> tuple[int, Fraction]:
    """Time stamp and time base of a live picture: its own, unless its clock is no good, which is said once.

    Args:
        clock: of its camera.
        pts: in ticks of ``time_base``, or None.
        time_base: seconds per tick.
        arrived_s: monotonic time at which it came.
        label: what messages call the stream.
    """
    media_s = None if pts is None else float(pts * time_base)
    time_s = clock.time_s(media_s, arrived_s)
    tell_of(clock, label)
    if pts is not None and time_s == media_s:
        return pts, time_base
    return round(time_s / _ARRIVAL_TICK), _ARRIVAL_TICK


def tell_of(clock: LiveClock, label: str) -> None:
    """Say once why a camera's pictures are timed by their arrival, if they are.

    Args:
        clock: of the camera.
        label: what messages call it.
    """
    if news := clock.news():
        _log.warning("%s: %s: its pictures are timed by their arrival", label, news)


def main_stream(streams: StreamContainer, label: str) -> VideoStream:
    """The video stream that shows most, and the first of equals; not the cover picture of a sound file.

    Some cameras and recorders send a small picture beside the large one. RTSP may leave sizes to the first keyframe;
    then it is the first that is no JPEG: thumbnails are.

    Args:
        streams: of a file or a live stream.
        label: what errors call it.

    Raises:
        VideoError: there is none, or no decoder for it.
    """
    footage = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
    if not footage:
        kinds = ", ".join(sorted({stream.type for stream in streams})) or "none"
        raise VideoError(f"{label}: expected a video stream, got only: {kinds}")
    known = [stream for stream in footage if stream.codec_context is not None]
    if not known:
        raise VideoError(f"{label}: expected video that FFmpeg can decode, got an unknown codec")
    pixels = [stream.codec_context.width * stream.codec_context.height for stream in known]
    if all(pixels):
        return known[pixels.index(max(pixels))]
    return next((stream for stream in known if stream.codec_context.name != "mjpeg"), known[0])


def _check_size(context: VideoCodecContext, label: str) -> None:
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(
            f"{label}: expected frames of at most {MAX_PIXELS:,} pixels, got {context.width} x {context.height}"
        )


def frame_rate(stream: VideoStream) -> float | None:
    """Average frame rate in frames/s that the container states or FFmpeg guessed, where it is plausible."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate.numerator / rate.denominator <= _FASTEST_RATE_FPS:
            return rate.numerator / rate.denominator
    return None
