"""Video files and live streams as FFmpeg opens them: options, limits, and what to say when it fails.

The options and the behaviour on faults were measured with PyAV 18.1 (FFmpeg 8.1).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import av
import av.error
from av.container import InputContainer
from av.container.streams import StreamContainer
from av.format import ContainerFormat, Flags
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pipeline.addresses import ffmpeg_address
from pipeline.errors import RefusedError, VideoError
from pipeline.redaction import redact
from pipeline.video.access_units import AccessUnits
from pipeline.video.live_clock import LiveClock
from pipeline.video.redirects import password_stays
from pipeline.video.stated import stated_frames

MAX_PIXELS = 9_000_000
"""Largest frame that is decoded: a little above 3840 x 2160. Bounds the memory that a damaged header can ask for."""

_UNKNOWN_RATE_FPS = 25
_ARRIVAL_TICK = Fraction(1, 90_000)  # RTP's
_MOST_UNTOLD = 3  # frames in a row of a live stream whose time is guessed
_FASTEST_RATE_FPS = 1000  # above it the rate is a guess from the time base, not a camera's
# Demuxers of video files. Without a list FFmpeg would also read a still image, a playlist that points elsewhere...
_FILE_FORMATS = (
    "mov,mp4,avi,matroska,webm,mpegts,mpeg,mpegvideo,h264,hevc,vvc,av1,obu,ivf,m4v,mjpeg,flv,asf,ogg,mxf,nut,rm,dhav,"
    "dv,yuv4mpegpipe"
)
_FILE_OPTIONS = {"format_whitelist": _FILE_FORMATS, "protocol_whitelist": "file"}
# Probing costs RTSP 2 to 5 s, and RTSP announces its codec; without probing it opens in 0.1 s. Over UDP pictures get
# lost: only where a camera refuses TCP.
_RTSP_OPTIONS = {
    "rtsp_transport": "tcp+udp+udp_multicast",
    "rtsp_flags": "prefer_tcp",
    "buffer_size": "1048576",  # UDP's: a large keyframe comes in one burst
    "allowed_media_types": "video",
    "analyzeduration": "0",
    "probesize": "32",
}
_OTHER_LIVE_OPTIONS = {"analyzeduration": "1000000", "fpsprobesize": "0"}
# RFC 6874 writes the zone of a link-local address as %25eth0; FFmpeg, and most people, as %eth0.
_ENCODED_ZONE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?\[[0-9A-Fa-f:.]+%)25(?=[^\]/?#]+\])")

FrameDamage = Literal["corrupt", "decode_error"]
"""What is wrong with a frame that came: the decoder marked it as damaged, or could make nothing of its packet."""

_log = logging.getLogger(__name__)


class RawFrame(NamedTuple):
    """A frame as it left the decoder, at its own size."""

    pts: int
    time_base: Fraction
    frame: av.VideoFrame


class LiveContainer(Protocol):
    """A live stream, demuxed by FFmpeg or by ourselves; the thread that reads is the one that closes."""

    @property
    def streams(self) -> StreamContainer:
        """Its streams."""
        ...

    @property
    def format(self) -> ContainerFormat:
        """What FFmpeg knows of its nature."""
        ...

    @property
    def size(self) -> int:
        """Its bytes where they are known, else something negative."""
        ...

    def demux(self, *streams: Stream) -> Iterator[av.Packet | None]:
        """Packets as they come; None stands for something that came and makes none."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


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

    Raises:
        VideoError: no video stream, no decoder for it, or frames that are too large.

    Attributes:
        failure: what ended the reading of a file early, or None.
    """

    def __init__(self, container: LiveContainer, *, live: bool, label: str, clock: LiveClock | None = None) -> None:
        self._container, self._live, self._label = container, live, label
        self._clock = begun_clock(container, clock) if live else None
        self._arrived_s = 0.0  # monotonic time at which the newest packet came
        try:
            self._stream = main_stream(container.streams, label)
            _check_size(self._stream.codec_context, label)
        except VideoError:
            container.close()
            raise
        context = self._stream.codec_context
        self._stream.thread_type = "SLICE"  # frame threads add latency; sixteen cameras share the cores anyway
        context.thread_count = 1
        context.options = {"max_pixels": str(MAX_PIXELS)}  # FFmpeg ignores it among the options of av.open
        self.frame_rate_fps = frame_rate(self._stream)
        self.codec = context.codec.name
        self.failure: av.error.FFmpegError | None = None
        # Read now: what a PyAV stream says once its container is closed comes from memory that was freed.
        self._declared = 0 if live else stated_frames(container, self._stream)
        self._units = AccessUnits(self._stream)
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
        try:
            frames = self._stream.codec_context.decode(packet)
        except av.error.FFmpegError:
            # What only empties the decoder, a missing or empty packet, was no frame.
            yield "decode_error" if packet is not None and packet.size else None
            return
        if not frames:
            yield None
        for frame in frames:
            yield "corrupt" if frame.is_corrupt else self._stamped(frame)

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


def open_file(path: Path, label: str) -> InputContainer:
    """Open a video file.

    Raises:
        VideoError: it cannot be read, or is no video file; its cause is what the system or FFmpeg said.
    """
    head = _head(path, label)
    try:
        # "file:" keeps a name with a colon or a percent sign in it from meaning something else to FFmpeg.
        return av.open(f"file:{path}", options=_FILE_OPTIONS, metadata_errors="replace")
    except av.error.FFmpegError as error:
        if head[4:8] == b"ftyp":
            detail = "an mp4 without its index (moov): it was cut off before the recorder finished it"
        else:
            detail = f"something else ({ffmpeg_message(error)})"
        raise VideoError(f"{label}: expected a video file, got {detail}") from error


def open_live(
    url: str, label: str, *, open_timeout_s: float, read_timeout_s: float, sample_fps: float | None = None
) -> LiveContainer:
    """Open a live stream, waiting no longer than about twice ``open_timeout_s`` (FFmpeg arms the limit twice).

    A camera that answers with one picture is asked ``sample_fps`` times per second (once, if that is None).

    Raises:
        RefusedError: access is refused, there is no such stream, or a redirect would take the password elsewhere.
        VideoError: nobody answers, or what answers is no video stream.
    """
    url = ffmpeg_address(url)
    scheme = url.split(":", 1)[0].lower()
    options = _RTSP_OPTIONS if scheme in {"rtsp", "rtsps"} else _OTHER_LIVE_OPTIONS
    url = _ENCODED_ZONE.sub(r"\1", scheme + url[len(scheme) :])  # FFmpeg knows schemes in small letters alone
    if scheme in {"http", "https"}:
        from pipeline.video.http_camera import open_http  # httpx only where there are such cameras

        timeouts_s = {"open_timeout_s": open_timeout_s, "read_timeout_s": read_timeout_s}
        opened = open_http(url, label, **timeouts_s, sample_fps=sample_fps, options=options)
        if opened is not None:
            return opened
    try:
        with password_stays(url, label, timeout_s=open_timeout_s):
            return av.open(url, options=options, timeout=(open_timeout_s, read_timeout_s), metadata_errors="replace")
    except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError) as error:
        code = 401 if isinstance(error, av.error.HTTPUnauthorizedError) else 403
        raise RefusedError(
            f"{label}: expected a video stream, got: access is refused ({code}): check user and password"
        ) from None
    except av.error.HTTPNotFoundError:
        raise RefusedError(f"{label}: expected a video stream, got: no such stream (404)") from None
    except av.error.HTTPOtherClientError:
        raise VideoError(
            f"{label}: expected a video stream, got another refusal (4xx): too many viewers, or no video at present"
        ) from None
    except UnicodeEncodeError:
        raise VideoError(f"{label}: expected an address, got half of a surrogate pair in it") from None
    except av.error.InvalidDataError:  # FFmpeg's answer to silence, too
        raise VideoError(f"{label}: expected a video stream, got no answer in time, or none that is video") from None
    except av.error.FFmpegError as error:
        raise VideoError(f"{label}: expected a video stream, got {ffmpeg_message(error)}") from None


def ffmpeg_message(error: av.error.FFmpegError) -> str:
    """What FFmpeg says of an error, in one line without the address (which may hold a password)."""
    if isinstance(error, av.error.ExitError):  # the interrupt that bounds a wait
        return "no answer in time"
    return redact(" ".join(str(error.strerror or error.__class__.__name__).split()))


def _head(path: Path, label: str) -> bytes:
    """The file's first bytes, read to tell an unreadable or empty file from a damaged one."""
    if not path.exists():
        raise VideoError(f"{label}: expected a video file or a folder of images, got nothing there")
    if not path.is_file():
        raise VideoError(f"{label}: expected a video file or a folder of images, got neither")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise VideoError(f"{label}: expected a readable file, got: {error.strerror}") from error
    if not head:
        raise VideoError(f"{label}: expected a video file, got an empty file")
    return head


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
