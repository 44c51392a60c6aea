"""Packets that were kept, and what they are packets of."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pipeline.video.decoder import configure
from pipeline.video.orientation import Orientation

_MOST_REORDERED = 17  # H.264 and HEVC never keep more than 16 pictures back: what is unknown after them stays so


@dataclass(slots=True, eq=False)
class KeptPacket:
    """One access unit, or one whole image.

    Attributes:
        order: rises by one from packet to packet of a camera.
        data: as it came.
        is_keyframe: whether a decoder can begin with it.
        number: what its decoder called it; None where it did not look at it.
        media_s: when its picture is shown, in the media time that everybody else knows it by; None as long as it has
            not been, and for good where it is damaged.
    """

    order: int
    data: bytes
    is_keyframe: bool
    number: int | None
    media_s: float | None = None


@dataclass(slots=True, eq=False)
class KeptStream:
    """What packets are packets of: one connection, or one round of a file that stands in for a camera.

    Attributes:
        session: of the camera.
        codec: by the name of its decoder; empty where each packet is a whole image that says itself what it is.
        extradata: what its decoder must know beforehand, or None.
        template: what a container is told of them; None where none can hold them as they are.
        pixels: format of its pixels where it was known beforehand, or None.
        size_px: (height, width) of its newest picture as it was decoded; (0, 0) before the first.
        orientation: how its pictures are turned upright.
    """

    session: int
    codec: str = ""
    extradata: bytes | None = None
    template: VideoStream | None = None
    pixels: str | None = None
    size_px: tuple[int, int] = (0, 0)
    orientation: Orientation = field(default_factory=Orientation)
    _holder: Any = None

    @classmethod
    def of(cls, session: int, stream: VideoStream | None, before: KeptStream | None = None) -> KeptStream:
        """Describe a stream that is open; nothing of it is needed once it is closed.

        Args:
            session: of the camera.
            stream: as ``PacketTap.begin`` is told.
            before: the one before it, whose template serves again where it is alike: a file of one picture may be
                played a hundred times a second.
        """
        if stream is None:
            return cls(session)
        context = stream.codec_context
        found = (context.name, context.extradata, context.pix_fmt)
        if before is not None and found == (before.codec, before.extradata, before.pixels):
            size_px = (context.height, context.width)
            return cls(session, *found[:2], before.template, found[2], size_px, _holder=before._holder)
        # A container in memory, into which nothing is ever written, keeps what FFmpeg has to know of the stream.
        holder = av.open(io.BytesIO(), "w", format="matroska")
        try:
            template = holder.add_stream_from_template(stream, opaque=True)
        except Exception:  # whatever FFmpeg has against it: its camera is to be read all the same
            template = None
        size_px, extradata = (context.height, context.width), context.extradata
        pixels = context.pix_fmt
        return cls(session, context.name, extradata, template, pixels, size_px, _holder=holder)

    def goes_on_with(self, other: KeptStream) -> bool:
        """Whether one clip can hold the packets of both."""
        mine = (self.session, self.codec, self.extradata, self.size_px)
        return mine == (other.session, other.codec, other.extradata, other.size_px)

    def decoder(self) -> VideoCodecContext:
        """A decoder for its packets; not for images."""
        context = av.CodecContext.create(self.codec, "r")
        assert isinstance(context, VideoCodecContext)
        configure(context)
        context.height, context.width = self.size_px
        if self.pixels is not None:
            context.pix_fmt = self.pixels
        if self.extradata:
            context.extradata = self.extradata
        return context


@dataclass(slots=True)
class Cut:
    """Packets in the order in which they were decoded, from a keyframe on.

    Attributes:
        packets: each with its stream.
        reaches_back: whether they begin as early as was asked for.
        is_late: whether they do not although there once were earlier ones.
    """

    packets: list[tuple[KeptStream, KeptPacket]]
    reaches_back: bool = True
    is_late: bool = False

    def timed(self) -> list[tuple[KeptStream, KeptPacket]]:
        """The first of them, as many as have their final time: pictures come out in another order than they went in."""
        known = [packet.media_s is not None for _, packet in self.packets]
        newest = max((at for at, is_known in enumerate(known) if is_known), default=-1)
        end = next((at for at, is_known in enumerate(known) if not is_known and at > newest - _MOST_REORDERED), None)
        return self.packets[:end]
