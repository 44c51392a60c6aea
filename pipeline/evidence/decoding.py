"""Pictures out of kept packets, or out of a clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt

from pipeline.errors import VideoError
from pipeline.evidence.packets import KeptPacket, KeptStream
from pipeline.video.images import ImageError, decode_image
from pipeline.video.opening import open_file
from pipeline.video.orientation import orientation_of

_NEAR_S = 0.0005  # media times are compared that passed through a container's milliseconds


def picture_at(
    packets: Sequence[tuple[KeptStream, KeptPacket]], media_s: float
) -> tuple[npt.NDArray[np.uint8], float] | None:
    """The picture that is shown at a media time, or the one nearest to it.

    Args:
        packets: in the order of decoding, from a keyframe at or before that time on.
        media_s: media time in seconds.

    Returns:
        uint8, shape (H, W, 3), RGB, upright, at its full size, and its media time; None where there is none.
    """
    found: tuple[KeptStream, float, av.VideoFrame] | None = None
    for stream, shown_s, frame in _frames(_group_of(packets, media_s)):
        if found is None or abs(shown_s - media_s) < abs(found[1] - media_s):
            found = stream, shown_s, frame
    if found is None:
        return None
    stream, shown_s, frame = found
    return stream.orientation.apply(frame.to_ndarray(format="rgb24")), shown_s


def picture_in_clip(clip: Path, time_s: float) -> npt.NDArray[np.uint8] | None:
    """The picture that a clip shows at a time.

    Args:
        clip: the file.
        time_s: seconds since its beginning.

    Returns:
        uint8, shape (H, W, 3), RGB, upright; None where nothing can be decoded.

    Raises:
        VideoError: it cannot be opened.
    """
    found: av.VideoFrame | None = None
    with open_file(clip, clip.name) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        try:
            if time_s > 0.0 and stream.time_base:
                container.seek(int(time_s / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if found is not None and frame.time is not None and frame.time > time_s + _NEAR_S:
                    break
                found = frame
        except av.error.FFmpegError as error:
            if found is None:
                raise VideoError(f"{clip.name}: expected a clip that can be decoded, got none") from error
    return None if found is None else orientation_of(found).apply(found.to_ndarray(format="rgb24"))


def _group_of(
    packets: Sequence[tuple[KeptStream, KeptPacket]], media_s: float
) -> Iterator[tuple[KeptStream, KeptPacket]]:
    """From the last keyframe at or before a media time to the next one after it, which may lead to pictures before."""
    begins = 0
    for at, (_, packet) in enumerate(packets):
        if packet.is_keyframe and packet.media_s is not None and packet.media_s <= media_s + _NEAR_S:
            begins = at
    for at in range(begins, len(packets)):
        stream, packet = packets[at]
        if stream is not packets[begins][0] or (
            at > begins and packet.is_keyframe and (packet.media_s or -math.inf) > media_s + 1.0
        ):
            return
        yield stream, packet


class Pictures:
    """Decodes kept packets of one stream after another; damaged ones are passed over, as whoever watches does."""

    def __init__(self) -> None:
        self._decoder: av.VideoCodecContext | None = None
        self._times: dict[int, float] = {}

    def of(self, stream: KeptStream, packet: KeptPacket) -> Iterator[tuple[KeptStream, float, av.VideoFrame]]:
        """Pictures that come with the next packet, with their media times."""
        if not stream.codec:
            yield from _image(stream, packet)
            return
        if self._decoder is None:
            self._decoder = stream.decoder()
        if packet.media_s is not None:
            self._times[packet.order] = packet.media_s
        unit = av.Packet(packet.data)
        unit.is_keyframe, unit.opaque, unit.pts = packet.is_keyframe, packet.order, packet.order
        yield from self._decoded(self._decoder, stream, unit)

    def rest(self, stream: KeptStream) -> Iterator[tuple[KeptStream, float, av.VideoFrame]]:
        """Pictures that the decoder still holds."""
        if self._decoder is not None:
            yield from self._decoded(self._decoder, stream, None)

    def _decoded(
        self, decoder: av.VideoCodecContext, stream: KeptStream, unit: av.Packet | None
    ) -> Iterator[tuple[KeptStream, float, av.VideoFrame]]:
        try:
            frames = decoder.decode(unit)
        except av.error.FFmpegError:
            return
        for frame in frames:
            number = frame.opaque
            shown_s = self._times.pop(number, None) if isinstance(number, int) else None
            if shown_s is not None:
                yield stream, shown_s, frame


def _frames(
    packets: Iterator[tuple[KeptStream, KeptPacket]],
) -> Iterator[tuple[KeptStream, float, av.VideoFrame]]:
    """Pictures with their media times, each as soon as it is there."""
    pictures, last = Pictures(), None
    for stream, packet in packets:
        last = stream
        yield from pictures.of(stream, packet)
    if last is not None:
        yield from pictures.rest(last)


def _image(stream: KeptStream, packet: KeptPacket) -> Iterator[tuple[KeptStream, float, av.VideoFrame]]:
    if packet.media_s is None:
        return
    try:
        image = decode_image(packet.data)
    except ImageError:
        return
    stream.orientation = orientation_of(image)
    yield stream, packet.media_s, image
