"""Whole coded pictures from packets that hold parts of them.

FFmpeg's parser ends an access unit of H.264 or HEVC in front of parameter sets, delimiters and messages. Cameras and
servers repeat those before every slice of a picture, against the standard. A picture of two slices then comes as two
packets, each of which a decoder takes for a picture with half of it missing; of HEVC the second one also holds the
picture that follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.video.stream import VideoStream

_START_CODE = b"\0\0\1"
_ANNEX_B = b"\0" + _START_CODE
_HOLE = bytes(32)  # disks leave larger ones
# What is held back has limits, whatever a stream says of itself: what comes before a picture (parameter sets,
# delimiters, messages), a picture's slices (HEVC allows 600), and their bytes (half a byte for each pixel of 8K).
_MOST_BEFORE_PICTURE = 64
_MOST_SLICES = 1_000
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class _Codec:
    """How a codec's NAL units are told apart.

    Attributes:
        header_bytes: length of their header; the first bit after it tells a picture's first slice from the others.
        type_shift, type_mask: where in the first byte their type is.
        slices, key_slices: types of slices, and of those that a decoder can begin with.
        lengths_from: mp4's and RTMP's extradata begins with this or more, what holds start codes with less; HEVC's was
            at version 0 before the standard was out.
        extradata_length_at: where mp4's and RTMP's extradata says how long the lengths before NAL units are.
    """

    header_bytes: int
    type_shift: int
    type_mask: int
    slices: frozenset[int]
    key_slices: frozenset[int]
    lengths_from: bytes
    extradata_length_at: int


_CODECS = {
    "h264": _Codec(1, 0, 0x1F, frozenset({1, 2, 5}), frozenset({5}), b"\1", 4),
    "hevc": _Codec(2, 1, 0x3F, frozenset(range(22)), frozenset(range(16, 22)), b"\0\0\2", 21),
}


class AccessUnits:
    """Puts packets of one connection together; other codecs' packets pass as they come.

    Only the next packet tells whether another part follows. Waiting for it costs a frame's time, so a stream pays that
    for its first keyframe, and for all of its pictures once one has come in parts. Packets in which no picture can be
    told (encrypted ones, layers above the base) pass as they come once 64 have waited for one.

    Args:
        stream: whose packets come.
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self._codec = _CODECS.get(context.name)
        self._length_bytes = _length_bytes(self._codec, bytes(context.extradata or b""))
        self._parts: list[av.Packet] = []
        self._held_bytes = 0
        self._has_picture = self._expects_none = False
        self._come_in_parts = False
        self._keyframes_are_whole = False

    def push(self, packet: av.Packet) -> list[av.Packet]:
        """Take the next packet; returns access units that are whole, in their order."""
        if self._codec is None:
            return [packet]
        data = bytes(packet)
        found = self._slices_of(data, self._codec)
        first = next(found, None)
        if first is None or first.is_first:
            return self._add(packet, begins=first is not None)
        self._come_in_parts = True
        slices = [first, *found]
        follows = next((number for number, piece in enumerate(slices) if piece.is_first), None)
        if follows is None:
            return self._add(packet, begins=False, continues=True)
        end = slices[follows].starts_at
        rest = _piece(packet, data[:end], any(piece.is_key for piece in slices[:follows]))
        rest.pts, rest.dts = packet.pts, packet.dts
        # The time of what follows, if the demuxer knows it, comes with its second part.
        following = _piece(packet, data[end:], any(piece.is_key for piece in slices[follows:]))
        return self._add(rest, begins=False, continues=True) + self._add(following, begins=True)

    def flush(self) -> list[av.Packet]:
        """What waits; to be called at the end of the connection."""
        parts = self._taken()
        if not self._come_in_parts and any(part.is_keyframe for part in parts):
            self._keyframes_are_whole = True
        return [_joined(parts)] if parts else []

    def holds_picture(self, unit: av.Packet) -> bool:
        """Whether there is a picture, or a part of one, in an access unit; of other codecs, always."""
        return self._codec is None or next(self._slices_of(bytes(unit), self._codec), None) is not None

    def has_hole(self, unit: av.Packet) -> bool:
        """Whether an access unit reads as zeros where there was something else, as files do that were copied in part.

        A decoder takes them for data, HEVC's without a word. No slice holds even three in a row, but careless muxers
        leave a few at its end.
        """
        if self._codec is None:
            return False
        data = bytes(unit)
        length_bytes = 0 if _has_start_codes(data) else self._length_bytes
        return any(
            data[header] >> self._codec.type_shift & self._codec.type_mask in self._codec.slices
            and 0 <= data.find(_HOLE, header, after) < header + len(data[header:after].rstrip(b"\0"))
            for _, header, after in _nal_units(data, length_bytes)
        )

    def _slices_of(self, data: bytes, codec: _Codec) -> Iterator[_Slice]:
        return _slices(data, codec, 0 if _has_start_codes(data) else self._length_bytes)

    def _taken(self) -> list[av.Packet]:
        parts, self._parts = self._parts, []
        self._held_bytes, self._has_picture = 0, False
        return parts

    def _add(self, part: av.Packet, *, begins: bool, continues: bool = False) -> list[av.Packet]:
        """Take a part that begins a picture, goes on with it, or does neither: then it belongs to the next one."""
        whole = self.flush() if self._has_picture and not continues else []
        self._parts.append(part)
        self._held_bytes += part.size
        self._has_picture = self._has_picture or begins or continues
        self._expects_none = not self._has_picture and (self._expects_none or self._is_full(_MOST_BEFORE_PICTURE))
        if self._expects_none:
            return whole + self._taken()
        may_go_on = self._come_in_parts or (not self._keyframes_are_whole and any(p.is_keyframe for p in self._parts))
        if not self._has_picture or (may_go_on and not self._is_full(_MOST_SLICES)):
            return whole
        return whole + self.flush()

    def _is_full(self, most_parts: int) -> bool:
        return len(self._parts) >= most_parts or self._held_bytes >= _MOST_BYTES


def parameter_sets_once(extradata: bytes) -> bytes:
    """Parameter sets between start codes, without those that come again: every slice may have brought them along."""
    first, *rest = extradata.split(_START_CODE)
    # A zero before a start code belongs to the start code.
    return first + b"".join(_START_CODE + unit for unit in dict.fromkeys(unit.rstrip(b"\0") for unit in rest))


@dataclass(frozen=True, slots=True)
class _Slice:
    """A slice in a packet.

    Attributes:
        starts_at: where it, or what precedes it since the slice before, begins.
        is_first: whether it begins a picture.
        is_key: whether a decoder can begin with it.
    """

    starts_at: int
    is_first: bool
    is_key: bool


def _slices(data: bytes, codec: _Codec, length_bytes: int) -> Iterator[_Slice]:
    starts_at: int | None = None
    for start, header, after in _nal_units(data, length_bytes):
        kind = data[header] >> codec.type_shift & codec.type_mask
        starts_at = start if starts_at is None else starts_at
        if kind in codec.slices and header + codec.header_bytes < after:
            yield _Slice(starts_at, data[header + codec.header_bytes] >= 0x80, kind in codec.key_slices)
            starts_at = None


def _nal_units(data: bytes, length_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Start, header and end of every NAL unit, after a start code or, with ``length_bytes``, after its length."""
    at = 0
    while length_bytes and at + length_bytes < len(data):
        header = at + length_bytes
        after = min(header + int.from_bytes(data[at:header]), len(data))
        if header < after:
            yield at, header, after
        at = after
    at = -1 if length_bytes else data.find(_START_CODE)
    while at >= 0:
        header = at + len(_START_CODE)
        following = data.find(_START_CODE, header)
        after = len(data) if following < 0 else following
        if header < after:
            yield at - (at > 0 and data[at - 1] == 0), header, after
        at = following


def _length_bytes(codec: _Codec | None, extradata: bytes) -> int:
    if codec is None or extradata < codec.lengths_from or len(extradata) <= codec.extradata_length_at:
        return 0
    return (extradata[codec.extradata_length_at] & 3) + 1


def _has_start_codes(data: bytes) -> bool:
    """Whether a packet holds start codes where its stream announced lengths; FFmpeg's decoder tells by the same."""
    return data.startswith(_ANNEX_B) and int.from_bytes(data[5:9]) > len(data)


def _piece(packet: av.Packet, data: bytes, is_keyframe: bool) -> av.Packet:
    piece = av.Packet(data)
    if packet.time_base:
        piece.time_base = packet.time_base
    piece.duration, piece.is_keyframe, piece.is_corrupt = packet.duration, is_keyframe, packet.is_corrupt
    return piece


def _joined(parts: list[av.Packet]) -> av.Packet:
    if len(parts) == 1:
        return parts[0]
    unit = _piece(parts[0], b"".join(map(bytes, parts)), any(part.is_keyframe for part in parts))
    unit.is_corrupt = any(part.is_corrupt for part in parts)
    # A stream's first packet has no time, though the rest of its picture has.
    unit.pts = next((part.pts for part in reversed(parts) if part.pts is not None), None)
    unit.dts = next((part.dts for part in reversed(parts) if part.dts is not None), None)
    for part in parts:
        if part.has_sidedata("new_extradata"):
            unit.set_sidedata(part.get_sidedata("new_extradata"))
    return unit
