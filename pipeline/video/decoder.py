"""Pictures from packets, and which of them are damaged.

What FFmpeg's decoders say of damage differs: those of H.264, MPEG-4 and MPEG-2 mark pictures that they repaired, that
of AV1 fails, that of JPEG fills what is missing with grey and only logs it, and that of VP9 notices nothing. Most go on
predicting from what is damaged. What no decoder notices, such as other values in HEVC's data, stays unnoticed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal

import av
import av.error
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.stream import VideoStream

from pipeline.video.access_units import AccessUnits
from pipeline.video.orientation import Orientation, orientation_of
from pipeline.video.picture_header import jpeg_frame_header, lacks_its_end, without_colour_profile

MAX_PIXELS = 50 << 20
"""Largest picture that is decoded: a still of 50 megapixels (8192 x 6144), more than any 8K video. Bounds the memory
that a damaged header can ask for."""

FrameDamage = Literal["corrupt", "decode_error"]
"""What is wrong with a frame that came: it is damaged, or the decoder could make nothing of its packet."""

# Its decoder shows what is left of a damaged picture, unless it is told to fail. Others are not told: H.264's would no
# longer mark what it repairs, and fail on messages that are merely odd, as TIFF's does on tags.
_FAIL_ON_DAMAGE = frozenset({"mjpeg"})
# It notices damage, and shows nothing from there to the next keyframe. Sound video comes out the same to the last bit.
_WATCHFUL = {"vp9": "libvpx-vp9"}
_WATCHFUL_BITS = 8  # PyAV's libvpx is built for no more
_KEYFRAMES_TO_RENEW = 2
_REMEMBERED = 64  # pictures; H.264 and HEVC never keep more than 16 back


def configure(context: VideoCodecContext) -> None:
    """Set a decoder up that is not open yet: one thread, no gigantic pictures, and no damage shown as a picture."""
    context.thread_type = "SLICE"  # frame threads add latency; sixteen cameras share the cores anyway
    context.thread_count = 1
    options = {"max_pixels": str(MAX_PIXELS)}  # FFmpeg ignores it among the options of av.open
    if context.name in _FAIL_ON_DAMAGE:
        options["err_detect"] = "explode"
    context.options = options
    context.flags |= Flags.copy_opaque  # by which a frame is told from others, whatever their times


class Decoder:
    """Decodes one connection's packets; a damaged one costs its picture and those that are predicted from it.

    Args:
        stream: whose packets come.
        units: puts the packets together.
    """

    def __init__(self, stream: VideoStream, units: AccessUnits) -> None:
        self._context, self._units = stream.codec_context, units
        self._is_jpeg, self._is_png = self._context.name == "mjpeg", self._context.name == "png"
        self._watchful = _WATCHFUL.get(self._context.name)
        self._damage = _Damage()
        # Their decoders pass over what refers to a lost picture, and say nothing.
        self._counts_skipped = self._context.name in {"h264", "hevc"}
        self._awaited: list[int] = []  # time stamps of pictures that may be passed over
        configure(self._context)

    def decode(self, unit: av.Packet | None) -> Iterator[av.VideoFrame | FrameDamage | None]:
        """Decode an access unit, or with None what the decoder still holds.

        Args:
            unit: whole, as ``AccessUnits`` made it; one without data empties the decoder, too.

        Yields:
            Sound pictures; what is wrong with others; None where nothing came.
        """
        if unit is None or not unit.size:
            yield from self._frames(unit, on_failure=None)
            yield from self._skipped()
            return
        on_failure: FrameDamage = "decode_error"
        if self._is_jpeg:
            data = bytes(unit)
            if lacks_its_end(data):
                yield "corrupt"
                return
            on_failure = "corrupt" if jpeg_frame_header(data) else "decode_error"
        if self._is_png:
            unit.update(without_colour_profile(bytes(unit)))
        self._damage.note_packet(unit)
        if self._units.has_hole(unit):
            self._damage.begin()
        is_to_come = self._counts_skipped and self._damage.lasts and not unit.is_discard
        if is_to_come and unit.pts is not None and self._units.holds_picture(unit):
            self._awaited.append(unit.pts)
        yield from self._frames(unit, on_failure)

    def _frames(
        self, unit: av.Packet | None, on_failure: FrameDamage | None
    ) -> Iterator[av.VideoFrame | FrameDamage | None]:
        try:
            frames = self._context.decode(unit) if self._watchful is None else self._first_frames(unit, self._watchful)
        except av.error.FFmpegError:
            self._awaited = [pts for pts in self._awaited if unit is None or pts != unit.pts]
            # A message between pictures is none.
            if unit is not None and on_failure is not None and self._units.holds_picture(unit):
                self._damage.begin()
            yield on_failure
            return
        if not frames:
            yield None
        for frame in frames:
            if self._awaited and frame.pts is not None:
                yield from self._skipped(frame.pts)
            yield "corrupt" if self._damage.touches(frame) else frame

    def _skipped(self, before_pts: int | None = None) -> Iterator[FrameDamage]:
        """Pictures that were to be shown before this one, or at all, and were not."""
        for pts in [pts for pts in self._awaited if before_pts is None or pts < before_pts]:
            self._awaited.remove(pts)
            yield "decode_error"
        if before_pts in self._awaited:
            self._awaited.remove(before_pts)

    def _first_frames(self, unit: av.Packet | None, watchful: str) -> list[av.VideoFrame]:
        """Decode up to a keyframe, and choose the decoder by what FFmpeg's own makes of it.

        That one alone knows the container's display matrix, and reads more than 8 bits per colour.
        """
        frames = self._context.decode(unit)
        if unit is None or not frames or not unit.is_keyframe:
            return frames
        self._watchful = None
        if any(orientation_of(frame) != Orientation() or _bits(frame) > _WATCHFUL_BITS for frame in frames):
            return frames
        context = av.CodecContext.create(watchful, "r")
        assert isinstance(context, VideoCodecContext)
        configure(context)
        self._context = context
        return context.decode(unit)


def _bits(frame: av.VideoFrame) -> int:
    return max(component.bits for component in frame.format.components)


class _Damage:
    """Which pictures are damaged: from one that came so to the next that is predicted from none before it.

    A stream whose pictures are renewed bit by bit (intra refresh) has none such, but packets from which a renewal
    begins, and the second one after the damage comes when everything has been renewed.

    Pictures are told by their numbers, which rise in the order of decoding: what is shown before a damaged keyframe can
    be predicted from it.

    Attributes:
        lasts: whether there was damage from which not all has recovered.
    """

    def __init__(self) -> None:
        self._newest = 0
        self._keyframes: deque[int] = deque(maxlen=_REMEMBERED)
        self._damaged: deque[int] = deque(maxlen=_REMEMBERED)
        self._first = 0

    @property
    def lasts(self) -> bool:
        return bool(self._damaged)

    def note_packet(self, packet: av.Packet) -> None:
        """Number what goes into the decoder."""
        self._newest += 1
        packet.opaque = self._newest
        if packet.is_keyframe:
            self._keyframes.append(self._newest)

    def begin(self, number: int | None = None) -> None:
        """Note that a picture is damaged, or lost: the newest one if none is named."""
        number = self._newest if number is None else number
        self._first = min(self._first, number) if self.lasts else number
        self._damaged.append(number)

    def touches(self, frame: av.VideoFrame) -> bool:
        """Whether a frame, the next one that came out of the decoder, is damaged."""
        number = frame.opaque if isinstance(frame.opaque, int) else self._newest
        if frame.is_corrupt:
            self.begin(number)
            return True
        if not self.lasts or number < self._first:
            return False
        predicts_alone = frame.key_frame or frame.pict_type == PictureType.I or self._is_renewed(frame, number)
        if number in self._damaged or not predicts_alone:
            return True
        later = [damaged for damaged in self._damaged if damaged > number]
        self._damaged = deque(later, maxlen=_REMEMBERED)
        self._first = min(later, default=0)
        return False

    def _is_renewed(self, frame: av.VideoFrame, number: int) -> bool:
        # Not all decoders say what a keyframe's picture is.
        needed = 1 if frame.pict_type == PictureType.NONE else _KEYFRAMES_TO_RENEW
        return sum(max(self._damaged) < keyframe <= number for keyframe in self._keyframes) >= needed
