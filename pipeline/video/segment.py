"""One recorded segment: a camera's packets, as they came, in a Matroska file that begins with a keyframe at time 0.

Matroska, because a file that was cut off anywhere can still be read up to there (an mp4 without its index is lost), and
because it holds whatever cameras send. Its ticks are milliseconds.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.bitstream import BitStreamFilterContext
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pipeline.errors import RunError, VideoError
from pipeline.video.access_units import parameter_sets_once
from pipeline.video.decoder import MAX_PIXELS
from pipeline.video.opening import ffmpeg_message
from pipeline.video.packet_timeline import TimedPacket
from pipeline.video.picture_header import jpeg_frame_header

SUFFIX = ".mkv"

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.ENOENT})
"""Errors of the system after which no camera can be recorded."""

_TICK = Fraction(1, 1000)
# A killed process loses what has not left the muxer: up to a second, not FFmpeg's five. All packets share one stream,
# so the muxer has nothing to shift.
_MUXER_OPTIONS = {"cluster_time_limit": "1000", "flush_packets": "1", "avoid_negative_ts": "disabled"}


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
