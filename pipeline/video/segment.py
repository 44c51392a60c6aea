"""One recorded segment: a camera's packets, as they came, in a Matroska file that begins with a keyframe at time 0.

Matroska, because a file that was cut off anywhere can still be read up to there (an mp4 without its index is lost), and
because it holds whatever cameras send. Its ticks are milliseconds.
"""

from __future__ import annotations

import errno
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pipeline.errors import RunError, VideoError
from pipeline.video.access_units import parameter_sets_once
from pipeline.video.container import ffmpeg_message, frame_rate
from pipeline.video.decoder import MAX_PIXELS
from pipeline.video.picture_header import jpeg_frame_header

SUFFIX = ".mkv"

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT})
"""Errors of the system after which no camera can be recorded."""

_TICK = Fraction(1, 1000)
_UNKNOWN_INTERVAL_MS = 40.0
_REORDER_FRAMES = 16  # H.264 and HEVC never keep more pictures than that back
_GAP_MS = 1_000.0
_LEAP_MS = 600_000.0
# A killed process loses what has not left the muxer: up to a second, not FFmpeg's five. All packets share one stream,
# so the muxer has nothing to shift.
_MUXER_OPTIONS = {"cluster_time_limit": "1000", "flush_packets": "1", "avoid_negative_ts": "disabled"}


@dataclass(frozen=True, slots=True)
class TimedPacket:
    """A packet with its times on its connection's clock.

    Attributes:
        packet: as FFmpeg's demuxer gave it.
        pts_ms: when it is shown; no two packets of a connection share one.
        dts_ms: when it is decoded, where the stream says so.
    """

    packet: av.Packet
    pts_ms: int
    dts_ms: int | None


class PacketTimeline:
    """Gives every packet of one connection a time, whatever its stream says.

    RTSP's first packet has no time, some streams have none at all, and a camera that sets its clock leaps: after a leap
    backwards (or forwards by more than ten minutes) times go on one frame after the newest.

    Args:
        time_base: seconds per tick of the stream.
        frame_rate_fps: frames per second as the stream states them, or None.
        reorders: whether the stream is known to hold frames that are shown in another order than they are decoded.

    Attributes:
        gaps: leaps, and frames that came more than a second (and five frames) after the one before.
    """

    def __init__(self, time_base: Fraction, frame_rate_fps: float | None, *, reorders: bool = False) -> None:
        self.gaps = 0
        self._tick_ms = time_base * 1000
        self._interval_ms = 1000.0 / frame_rate_fps if frame_rate_fps else _UNKNOWN_INTERVAL_MS
        self._reorders = reorders
        self._shift_ms = 0
        self._newest_ms: int | None = None
        self._recent_ms: deque[int] = deque(maxlen=2 * _REORDER_FRAMES)
        self._held: list[av.Packet] = []  # packets that wait for the first time stamp

    def push(self, packet: av.Packet) -> list[TimedPacket]:
        """Take the next packet; returns those whose time is known, in their order."""
        if self._newest_ms is None and (self._held or packet.pts is None):
            self._held.append(packet)
            return self.flush() if len(self._held) > _REORDER_FRAMES else []
        return [self._stamp(packet, packet.pts)]

    def flush(self) -> list[TimedPacket]:
        """Packets that still wait; to be called at the end of the connection."""
        held, self._held = self._held, []
        known = sorted({packet.pts for packet in held if packet.pts is not None})
        steps = [later - earlier for earlier, later in pairwise(known)]
        step = max(round(median(steps) if steps else self._interval_ms / float(self._tick_ms)), 1)
        without = next((number for number, packet in enumerate(held) if packet.pts is not None), len(held))
        first = known[0] - without * step if known else 0
        # What comes first is a keyframe, which is shown before all others that could be of use.
        return [
            self._stamp(packet, first + number * step if number < without else packet.pts)
            for number, packet in enumerate(held)
        ]

    def _stamp(self, packet: av.Packet, pts: int | None) -> TimedPacket:
        if packet.pts is not None and packet.dts != packet.pts:
            self._reorders = True
        pts = packet.dts if pts is None else pts
        newest_ms = self._newest_ms
        if newest_ms is None:
            pts_ms = round((pts or 0) * self._tick_ms)
            self._newest_ms = pts_ms
        else:
            after_ms = newest_ms + max(round(self._interval_ms), 1)
            pts_ms = after_ms if pts is None else self._continued(round(pts * self._tick_ms), newest_ms, after_ms)
            self._newest_ms = max(newest_ms, pts_ms)
        self._recent_ms.append(pts_ms)
        dts_ms = None if packet.dts is None else round(packet.dts * self._tick_ms) + self._shift_ms
        return TimedPacket(packet, pts_ms, dts_ms)

    def _continued(self, raw_ms: int, newest_ms: int, after_ms: int) -> int:
        """A time stamp on the timeline: leaps are taken out, and no two are the same."""
        backwards_ms = max(_GAP_MS, _REORDER_FRAMES * self._interval_ms)
        pts_ms = raw_ms + self._shift_ms
        if not newest_ms - backwards_ms <= pts_ms <= newest_ms + _LEAP_MS:
            self._shift_ms += after_ms - pts_ms
            self.gaps += 1
            return after_ms
        self.gaps += pts_ms > newest_ms + max(_GAP_MS, 5 * self._interval_ms)
        if not self._reorders:
            return max(pts_ms, newest_ms + 1)
        while pts_ms in self._recent_ms:
            pts_ms += 1
        return pts_ms


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What a keyframe says of the pictures that follow.

    Attributes:
        mark: the codec's own description of them; another one means other pictures. None where there is none.
        extradata: what a decoder must know before the first packet, or None.
        size_px: (height, width).
    """

    mark: bytes | None
    extradata: bytes | None
    size_px: tuple[int, int]


class VideoFormatReader:
    """Reads off keyframes what pictures follow; belongs to one connection.

    Args:
        stream: the camera's.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._codec = stream.codec_context.name
        self._announced = stream.codec_context.extradata
        self._filter: BitStreamFilterContext | None = None
        # Length-prefixed H.264 and HEVC (RTMP, mp4) carry their parameter sets beside the packets, not in them.
        if not (self._codec in {"h264", "hevc"} and (self._announced or b"")[:1] == b"\x01"):
            try:
                self._filter = BitStreamFilterContext("extract_extradata", stream)
            except (av.error.FFmpegError, ValueError):
                self._filter = None  # a codec without any, such as MJPEG

    def mark(self, packet: av.Packet) -> bytes | None:
        """The description that comes with a keyframe, or None."""
        if packet.has_sidedata("new_extradata"):
            return bytes(packet.get_sidedata("new_extradata"))
        data = bytes(packet)
        if self._codec == "mjpeg":
            return jpeg_frame_header(data)
        if self._filter is None:
            return None
        try:
            filtered = self._filter.filter(av.Packet(data))  # a copy: the filter takes its packet's data away
        except av.error.FFmpegError:
            return None  # damaged
        found = [p.get_sidedata("new_extradata") for p in filtered if p.has_sidedata("new_extradata")]
        if not found:
            return None
        return parameter_sets_once(bytes(found[0])) if self._codec in {"h264", "hevc"} else bytes(found[0])

    def video_format(self, packet: av.Packet, mark: bytes | None) -> VideoFormat | None:
        """Decode a keyframe to see what it shows; None when it cannot be decoded.

        A recovery point of a stream whose pictures are renewed bit by bit (intra refresh), all that such a camera
        sends for a keyframe, shows nothing yet: its size is what its parameter sets say.
        """
        extradata = self._announced if mark is None or self._codec == "mjpeg" else mark
        decoder = av.CodecContext.create(self._codec, "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(MAX_PIXELS)}
        if extradata:
            decoder.extradata = extradata
        try:
            frames = [*decoder.decode(av.Packet(bytes(packet))), *decoder.decode(None)]
        except av.error.FFmpegError:
            return None
        if any(frame.is_corrupt for frame in frames):
            return None
        if not 0 < decoder.width * decoder.height <= MAX_PIXELS:
            return None
        return VideoFormat(mark, extradata, (decoder.height, decoder.width))


class Segment:
    """A file that packets go into; belongs to one thread at a time.

    Args:
        path: the file, on which nobody else relies before ``close``.
        stream: the camera's.
        video_format: what the first packet says.
        first_ms: the first packet's pts.

    Raises:
        VideoError: Matroska cannot hold such a stream.
        RunError: the disk is full, or cannot be written.

    Attributes:
        path: the file.
        video_format: what its packets show.
        packets: packets written.
        left_out: packets that no player could use: shown before the first keyframe, or too damaged to be stored.
        payload_bytes: bytes of the packets written.
        duration_s: media time from the first packet to the newest.
    """

    def __init__(self, path: Path, stream: VideoStream, video_format: VideoFormat, first_ms: int) -> None:
        self.path, self.video_format = path, video_format
        self.packets = self.left_out = self.payload_bytes = 0
        self.duration_s = 0.0
        self._first_ms = first_ms
        self._dts_ms = -1_000_000
        self._container = av.open(str(path), "w", format="matroska", options=_MUXER_OPTIONS)
        try:
            # "opaque" takes the decoder's name: there need not be an encoder for what is only copied.
            self._stream = self._container.add_stream_from_template(stream, opaque=True)
            context = self._stream.codec_context
            context.height, context.width = video_format.size_px
            if video_format.extradata:
                context.extradata = video_format.extradata
            self._container.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            self._raise_if_disk_failed(error)
            codec = stream.codec_context.name
            raise VideoError(f"expected video that Matroska can hold, got {codec}: {error}") from error

    def write(self, stamped: TimedPacket) -> None:
        """Add a packet.

        Raises:
            RunError: the disk is full, or cannot be written.
        """
        pts_ms = stamped.pts_ms - self._first_ms
        if pts_ms < 0:  # refers to frames before the first keyframe
            self.left_out += 1
            return
        packet = stamped.packet
        packet.stream = self._stream
        duration_ms = round((packet.duration or 0) * (packet.time_base or _TICK) * 1000)
        packet.duration, packet.time_base = max(duration_ms, 0), _TICK
        # Matroska stores no dts; the muxer wants them rising and below the pts all the same.
        wished_ms = self._dts_ms + 1 if stamped.dts_ms is None else stamped.dts_ms - self._first_ms
        dts_ms = max(self._dts_ms + 1, min(wished_ms, pts_ms))
        packet.pts, packet.dts = max(pts_ms, dts_ms), dts_ms
        size = packet.size
        try:
            self._container.mux_one(packet)
        except av.error.FFmpegError as error:
            self._raise_if_disk_failed(error)
            self.left_out += 1
            return
        self._dts_ms = dts_ms
        self.packets += 1
        self.payload_bytes += size
        self.duration_s = max(self.duration_s, (packet.pts or 0) / 1000)

    def close(self) -> None:
        """Finish the file.

        Raises:
            RunError: the disk is full, or cannot be written.
        """
        try:
            self._container.close()
        except av.error.FFmpegError as error:
            raise RunError(f"{self.path}: cannot be written: {ffmpeg_message(error)}") from None

    def _raise_if_disk_failed(self, error: Exception) -> None:
        """Raise if it is the disk that fails, not the packet."""
        if isinstance(error, av.error.FFmpegError) and error.errno in DISK_ERRORS:
            raise RunError(f"{self.path}: cannot be written: {ffmpeg_message(error)}") from None


def video_stream(container: InputContainer, label: str) -> VideoStream:
    """The stream of a camera that is recorded: its first with video.

    Raises:
        VideoError: there is none, or of an unknown codec.
    """
    if not container.streams.video or container.streams.video[0].codec_context is None:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        raise VideoError(f"{label}: expected a video stream of a known codec, got only: {kinds}")
    return container.streams.video[0]


def packet_timeline(stream: VideoStream) -> PacketTimeline:
    """An empty timeline for a stream's packets."""
    reorders = bool(stream.codec_context.has_b_frames)
    return PacketTimeline(stream.time_base or _TICK, frame_rate(stream), reorders=reorders)
