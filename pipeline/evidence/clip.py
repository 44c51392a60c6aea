"""A clip out of kept packets: remuxed as they are where a container takes them, as motion JPEG where none does."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.container import OutputContainer
from av.video.stream import VideoStream

from pipeline.errors import VideoError
from pipeline.evidence.decoding import Pictures
from pipeline.evidence.packets import KeptPacket, KeptStream
from pipeline.evidence.store import SUFFIXES
from pipeline.video.opening import ffmpeg_message
from pipeline.video.segment import DISK_ERRORS

_TICK = Fraction(1, 1000)
_FORMATS = {".mp4": ("mp4", {"movflags": "+faststart"}), ".mkv": ("matroska", dict[str, str]())}
_USUAL_STEP_MS = 40
_JPEG_QUALITY = "4"  # FFmpeg's scale, 2 is best


class Clip:
    """A file that packets of one camera go into; belongs to one thread at a time.

    Its first packet is shown at time 0. What is shown before it refers to what was not kept, and is left out.

    Args:
        folder: where it is written, as ``clip`` and one of ``SUFFIXES``.
        packets: the first packets, those of a second or so, from which it is seen how far pictures change places.

    Raises:
        VideoError: nothing can be made of such packets.
        OSError: the disk is full, or cannot be written.

    Attributes:
        path: the file.
        first_s: media time of its first picture.
        last_s: media time of its newest picture.
        size: bytes of the packets in it.
    """

    def __init__(self, folder: Path, packets: Sequence[tuple[KeptStream, KeptPacket]]) -> None:
        first_s = next((packet.media_s for _, packet in packets if packet.media_s is not None), None)
        if first_s is None:
            raise VideoError("expected packets whose times are known, got none")
        self.first_s = self.last_s = first_s
        self.size = 0
        self._kept = packets[0][0]
        self._times = _DecodingTimes(_most_reordered([packet for _, packet in packets]))
        self._media_ms, self._encoded_ms = 0, -1
        self._pictures: Pictures | None = None
        self.path, self._container, self._stream = self._opened(folder)

    def write(self, packets: Sequence[tuple[KeptStream, KeptPacket]]) -> int:
        """Add packets, up to the first that does not go on with those before; returns how many those were.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        for number, (stream, packet) in enumerate(packets):
            if not self._kept.goes_on_with(stream):
                return number
            self._write(packet)
        return len(packets)

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        try:
            if self._pictures is not None:
                self._encode(self._pictures.rest(self._kept))
                self._container.mux(self._stream.encode(None))
            self._container.close()
        except av.error.FFmpegError as error:
            raise _failed(self.path, error) from None

    def abandon(self) -> None:
        """Close it, whatever the disk says: it is to be deleted."""
        try:
            self._container.close()
        except av.error.FFmpegError:
            return

    def _opened(self, folder: Path) -> tuple[Path, OutputContainer, VideoStream]:
        kept = self._kept
        for suffix in SUFFIXES if kept.template is not None else ():
            path = folder / f"clip{suffix}"
            container = _opened_file(path)
            try:
                assert kept.template is not None
                stream = container.add_stream_from_template(kept.template, opaque=True)
                context = stream.codec_context
                context.height, context.width = kept.size_px
                container.start_encoding()
                return path, container, stream
            except (ValueError, av.error.FFmpegError):  # a codec that it does not hold
                container.close()
                path.unlink(missing_ok=True)
        self._pictures = Pictures()
        path = folder / f"clip{SUFFIXES[0]}"
        container = _opened_file(path)
        stream = container.add_stream("mjpeg", rate=round(1 / _TICK))
        height, width = kept.size_px[::-1] if kept.orientation.transposed else kept.size_px
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt, stream.time_base, stream.codec_context.time_base = "yuvj420p", _TICK, _TICK
        stream.options = {"qmin": _JPEG_QUALITY, "qmax": _JPEG_QUALITY}
        return path, container, stream

    def _write(self, packet: KeptPacket) -> None:
        if packet.media_s is not None:
            self._media_ms = round((packet.media_s - self.first_s) * 1000)
        else:
            self._media_ms += 1  # a damaged one: nobody can say more, and later ones may refer to it
        if self._media_ms < 0:
            return
        try:
            if self._pictures is not None:
                self._encode(self._pictures.of(self._kept, packet))
            else:
                self._copy(packet)
        except av.error.FFmpegError as error:
            if error.errno in DISK_ERRORS:
                raise _failed(self.path, error) from None
            return  # too damaged to be stored
        self.last_s = max(self.last_s, packet.media_s or self.last_s)
        self.size += len(packet.data)

    def _copy(self, packet: KeptPacket) -> None:
        unit = av.Packet(packet.data)
        unit.stream, unit.time_base, unit.is_keyframe = self._stream, _TICK, packet.is_keyframe
        unit.dts, unit.pts = self._times.next_packet(self._media_ms)
        self._container.mux_one(unit)

    def _encode(self, pictures: Iterable[tuple[KeptStream, float, av.VideoFrame]]) -> None:
        for stream, shown_s, picture in pictures:
            shown_ms = round((shown_s - self.first_s) * 1000)
            if shown_ms <= self._encoded_ms:
                continue
            self._encoded_ms = shown_ms
            upright = stream.orientation.apply(picture.to_ndarray(format="rgb24"))
            frame = av.VideoFrame.from_ndarray(upright, format="rgb24")
            frame = frame.reformat(width=self._stream.width, height=self._stream.height, format="yuvj420p")
            frame.time_base, frame.pts = _TICK, shown_ms
            self._container.mux(self._stream.encode(frame))


class _DecodingTimes:
    """Rising decoding times, each at or before the time at which its picture is shown. Pure.

    Args:
        reordered: how many pictures may be shown before one that is decoded before them.
    """

    def __init__(self, reordered: int) -> None:
        self._reordered, self._begun = reordered, 0
        self._shown: list[int] = []
        self._last_ms: int | None = None

    def next_packet(self, shown_ms: int) -> tuple[int, int]:
        """Decoding and showing time of the next packet, in milliseconds."""
        heapq.heappush(self._shown, shown_ms)
        self._begun += 1
        if self._begun <= self._reordered:
            wished_ms = (self._begun - 1 - self._reordered) * _USUAL_STEP_MS
        else:
            wished_ms = heapq.heappop(self._shown)
        decoded_ms = min(wished_ms, shown_ms)
        if self._last_ms is not None:
            decoded_ms = max(decoded_ms, self._last_ms + 1)
        self._last_ms = decoded_ms
        return decoded_ms, max(shown_ms, decoded_ms)


def _most_reordered(packets: Sequence[KeptPacket]) -> int:
    """The most pictures that are shown before one that was decoded before them."""
    times = [packet.media_s for packet in packets if packet.media_s is not None]
    within = range(len(times))
    return max((sum(later < times[at] for later in times[at + 1 : at + 18]) for at in within), default=0)


def _opened_file(path: Path) -> OutputContainer:
    name, options = _FORMATS[path.suffix]
    try:
        return av.open(str(path), "w", format=name, options=options)
    except av.error.FFmpegError as error:
        raise _failed(path, error) from None


def _failed(path: Path, error: av.error.FFmpegError) -> OSError:
    """That the disk takes no more, or (a ``VideoError``) that nothing can be made of what the camera sent."""
    if error.errno in DISK_ERRORS:
        return OSError(error.errno, ffmpeg_message(error), str(path))
    return VideoError(f"expected packets of which a clip can be made, got {ffmpeg_message(error)}")
