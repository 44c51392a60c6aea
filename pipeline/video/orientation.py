"""How a decoded picture must be turned and mirrored to be upright: its display matrix.

FFmpeg makes one of whatever says so: an mp4's or a Matroska track's header, the EXIF of a JPEG, PNG, WebP or TIFF, a
message in H.264 or HEVC. It decodes all the same what was filmed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import SideData, SideDataContainer, Type

_MATRIX = struct.Struct("=9i")


class Orientation(NamedTuple):
    """What is to be done to a picture, in this order; the eight combinations are EXIF's eight orientations.

    Attributes:
        transposed: rows become columns.
        mirrored: left becomes right.
        upside_down: top becomes bottom.
    """

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    def apply(self, image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The upright image.

        Args:
            image: uint8, shape (H, W, 3).

        Returns:
            uint8, shape (H, W, 3), or (W, H, 3) if it was transposed; in C order, with memory of its own.
        """
        upright = image.swapaxes(0, 1) if self.transposed else image
        upright = upright[:, ::-1] if self.mirrored else upright
        upright = upright[::-1] if self.upside_down else upright
        return np.array(upright, dtype=np.uint8, order="C")


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """What a frame's display matrix asks for, to the nearest quarter turn; nothing where it has none."""
    matrix = next((bytes(entry) for entry in _side_data(frame) if entry.type is Type.DISPLAYMATRIX), b"")
    if len(matrix) != _MATRIX.size:
        return Orientation()
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d, *_ = _MATRIX.unpack(matrix)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, mirrored=c < 0, upside_down=b < 0)
    return Orientation(False, mirrored=a < 0, upside_down=d < 0)


def _side_data(frame: av.VideoFrame) -> Iterator[SideData]:
    # Not frame.side_data: a frame that was asked for it refers to itself, and waits for the garbage collector.
    container: Any = SideDataContainer
    yield from container(frame)


def _unknown_type(cls: type[Any], value: object) -> Any:
    """A member for a kind of side data that PyAV has no name for, such as EXIF.

    PyAV refuses to show any of a frame's side data, the display matrix included, when it does not know all of it.
    """
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


Type._missing_ = classmethod(_unknown_type)  # pyright: ignore[reportAttributeAccessIssue]
