"""Video files and live streams as FFmpeg opens them: options, limits, and what to say when it fails.

The options and the behaviour on faults were measured with PyAV 18.1 (FFmpeg 8.1).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.errors import RefusedError, VideoError
from pipeline.redaction import redact
from pipeline.video.access_units import AccessUnits
from pipeline.video.decoder import MAX_PIXELS, Decoder, FrameDamage
from pipeline.video.redirects import password_stays

_UNKNOWN_RATE_FPS = 25
_FASTEST_RATE_FPS = 1000  # above it the rate is a guess from the time base, not a camera's
# Demuxers of video files. Without a list FFmpeg would also read a still image, a playlist that points elsewhere...
_FILE_FORMATS = (
    "mov,mp4,avi,matroska,webm,mpegts,mpeg,mpegvideo,h264,hevc,vvc,av1,obu,ivf,m4v,mjpeg,flv,asf,ogg,mxf,nut,rm,dhav"
)
_FILE_OPTIONS = {"format_whitelist": _FILE_FORMATS, "protocol_whitelist": "file"}
# Probing costs RTSP 2 to 5 s, and RTSP announces its codec; without probing it opens in 0.1 s.
_RTSP_OPTIONS = {
    "rtsp_transport": "tcp",
    "allowed_media_types": "video",
    "analyzeduration": "0",
    "probesize": "32",
}
_OTHER_LIVE_OPTIONS = {"analyzeduration": "1000000", "fpsprobesize": "0"}

_log = logging.getLogger(__name__)


class RawFrame(NamedTuple):
    """A frame as it left the decoder, at its own size."""

    pts: int
    time_base: Fraction
    frame: av.VideoFrame


class Feed(Protocol):
    """Something that yields decoded frames in order.

    Attributes:
        frame_rate_fps: frames per second that it states, or None.
        codec: what it is encoded with, by FFmpeg's name.
        passed_over: one line on the first frame that could not be read, where something is known of it; else empty.
    """

    frame_rate_fps: float | None
    codec: str
    passed_over: str

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

    Raises:
        VideoError: no video stream, no decoder for it, or frames that are too large.

    Attributes:
        failure: what ended the reading of a file early, or None.
    """

    def __init__(self, container: InputContainer, *, live: bool, label: str) -> None:
        self._container, self._live, self._label = container, live, label
        try:
            self._stream = _video_stream(container, label)
        except VideoError:
            container.close()
            raise
        context = self._stream.codec_context
        self.frame_rate_fps = frame_rate(self._stream)
        self.codec = context.codec.name
        self.passed_over = ""
        self.failure: av.error.FFmpegError | None = None
        # Read now: what a PyAV stream says once its container is closed comes from memory that was freed.
        self._declared = 0 if live else self._stream.frames
        self._units = AccessUnits(self._stream)
        self._decoder = Decoder(self._stream, self._units)
        self._discarded = 0
        self._next_pts = 0
        # Who joins a live stream between keyframes gets packets that refer to what was sent before.
        self._awaits_keyframe = live

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
                units = self._access_units(packet) if packet.stream.index == self._stream.index else []
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
        self._discarded += packet.is_discard
        units = self._units.push(packet) if packet.size else [*self._units.flush(), packet]
        while self._awaits_keyframe and units and not units[0].is_keyframe:
            del units[0]
        self._awaits_keyframe = self._awaits_keyframe and not units
        return units

    def _decoded(self, packet: av.Packet | None) -> Iterator[RawFrame | FrameDamage | None]:
        for came in self._decoder.decode(packet):
            yield self._stamped(came) if isinstance(came, av.VideoFrame) else came

    def _stamped(self, frame: av.VideoFrame) -> RawFrame:
        """Give the frame a time stamp: its own, else its packet's, else one frame after the last."""
        base = frame.time_base or self._stream.time_base
        time_base = base or Fraction(1, _UNKNOWN_RATE_FPS)
        pts = frame.pts if frame.pts is not None else frame.dts
        if pts is None:
            pts = self._next_pts
        self._next_pts = pts + max(round(1 / (time_base * Fraction(self.frame_rate_fps or _UNKNOWN_RATE_FPS))), 1)
        return RawFrame(pts, time_base, frame)

    def close(self) -> None:
        """Close the container; only the thread that reads may (another thread's close crashes the process)."""
        self._container.close()


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


def open_live(url: str, label: str, *, open_timeout_s: float, read_timeout_s: float) -> InputContainer:
    """Open a live stream, waiting no longer than about twice ``open_timeout_s`` (FFmpeg arms the limit twice).

    Raises:
        RefusedError: access is refused, there is no such stream, or a redirect would take the password elsewhere.
        VideoError: nobody answers, or what answers is no video stream.
    """
    scheme = url.split(":", 1)[0].lower()
    options = _RTSP_OPTIONS if scheme in {"rtsp", "rtsps"} else _OTHER_LIVE_OPTIONS
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


def _video_stream(container: InputContainer, label: str) -> VideoStream:
    """First video stream that is footage, not the cover picture of a sound file."""
    footage = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not footage:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        raise VideoError(f"{label}: expected a video stream, got only: {kinds}")
    context = footage[0].codec_context
    if context is None:
        raise VideoError(f"{label}: expected video that FFmpeg can decode, got an unknown codec")
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(
            f"{label}: expected frames of at most {MAX_PIXELS:,} pixels, got {context.width} x {context.height}"
        )
    return footage[0]


def frame_rate(stream: VideoStream) -> float | None:
    """Average frame rate in frames/s that the container states or FFmpeg guessed, where it is plausible."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate.numerator / rate.denominator <= _FASTEST_RATE_FPS:
            return rate.numerator / rate.denominator
    return None
