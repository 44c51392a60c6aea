"""What a coded picture's own header says: how it is coded, how large it is, whether it ends."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The first bytes decide, not a file's ending: a PNG that is called .jpg decodes as what it is.
_CODEC_BY_SIGNATURE = (
    (b"\xff\xd8\xff", "mjpeg"),
    (_PNG_SIGNATURE, "png"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)
_BMP_OS2_HEADER_BYTES = 12
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TIFF_SHORT = 3
_SOI, _EOI, _SOS, _PROGRESSIVE = 0xD8, 0xD9, 0xDA, 0xC2
_MARKER = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")  # in a scan: neither a byte of 255 nor a restart
_FRAME_HEADERS = frozenset({0xC0, 0xC1, _PROGRESSIVE})


def codec_of(data: bytes) -> str | None:
    """FFmpeg's name of what a still image is coded with; None for what is no image of a known kind."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((codec for signature, codec in _CODEC_BY_SIGNATURE if data.startswith(signature)), None)


def size_px(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a still image as its header states them; None where that cannot be read."""
    try:
        return _SIZES[codec_of(data) or ""](data)
    except (KeyError, struct.error, TypeError):
        return None


def jpeg_frame_header(data: bytes) -> bytes | None:
    """Precision, height, width and components from a JPEG's frame header; None where there is none."""
    return next(
        (data[at + 4 : at + 2 + size] for marker, at, size in _segments(data) if marker in _FRAME_HEADERS), None
    )


def lacks_its_end(data: bytes) -> bool:
    """Whether a JPEG that comes in several scans ends before its end marker.

    Each scan may be whole, so that no decoder complains, and others missing. One that comes in a single scan needs no
    end marker, and some cameras send none.
    """
    components, has_scans = 0, False
    for marker, at, _ in _segments(data):
        if marker == _EOI:
            return False
        if marker in _FRAME_HEADERS:
            components, has_scans = int.from_bytes(data[at + 9 : at + 10]), marker == _PROGRESSIVE
        if marker == _SOS and not has_scans:
            has_scans = int.from_bytes(data[at + 4 : at + 5]) < components
            if not has_scans:
                return False
    return has_scans


def without_colour_profile(data: bytes) -> bytes:
    """A PNG whose colour profile is called something that decoders pass over; of the same length.

    FFmpeg changes no pixel by it, but hangs its name on the picture's side data, and PyAV, when anybody looks at those
    (for the orientation), frees that name a second time, which ends the process.
    """
    at = len(_PNG_SIGNATURE)
    while at + 8 <= len(data):
        if data[at + 4 : at + 8] == b"iCCP":
            data = data[: at + 4] + b"icCP" + data[at + 8 :]
        at += 12 + int.from_bytes(data[at : at + 4])
    return data


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and length of a JPEG's segments, up to its end marker; what comes behind may look like anything."""
    at = max(data.find(b"\xff\xd8"), 0) + 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # padding
            at += 1
            continue
        yield marker, at, size
        at += 2 + size
        if marker == _SOS:
            follows = _MARKER.search(data, at)
            at = follows.start() if follows else len(data)
        elif marker == _EOI:
            return


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    header = jpeg_frame_header(data)
    return None if header is None else struct.unpack_from(">HH", header, 1)


def _png_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == _BMP_OS2_HEADER_BYTES else "<ii", data, 18)
    # A height below 0: from the top down.
    return abs(height), abs(width)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", data, 26))
    return height, width


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, directory)
    sizes: dict[int, int] = {}
    for number in range(entries):
        at = directory + 2 + 12 * number
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        (sizes[tag],) = struct.unpack_from(f"{order}{'H' if kind == _TIFF_SHORT else 'I'}", data, at + 8)
    return (sizes[_TIFF_HEIGHT], sizes[_TIFF_WIDTH]) if {_TIFF_HEIGHT, _TIFF_WIDTH} <= sizes.keys() else None


_SIZES = {"mjpeg": _jpeg_size, "png": _png_size, "bmp": _bmp_size, "webp": _webp_size, "tiff": _tiff_size}
