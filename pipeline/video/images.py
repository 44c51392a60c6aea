"""A folder of images as a stream: one image is one frame, decoded by the very decoders that FFmpeg uses for video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error

from pipeline.errors import VideoError
from pipeline.video.container import MAX_PIXELS, FrameDamage, RawFrame

FOLDER_FPS = 10
"""Rate assumed for a folder of images, which states none. It only shapes media time, never which frames come."""

_KINDS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".bmp": "bmp", ".tif": "tiff", ".tiff": "tiff"}
# The file's first bytes decide, not its ending: a PNG that is called .jpg decodes as what it is.
_CODEC_BY_SIGNATURE = (
    (b"\xff\xd8\xff", "mjpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)


def is_image_name(path: Path) -> bool:
    """Whether a file is called like an image that can be decoded, and not hidden."""
    return not path.name.startswith(".") and path.suffix.lower() in _KINDS


def list_images(folder: Path) -> tuple[Path, ...]:
    """Images of a folder in the order of their frames: by name, numbers compared as numbers.

    Files that begin with a dot are passed over (``._001.tif`` and ``.DS_Store`` come with every archive made on a Mac).

    Raises:
        VideoError: the folder cannot be read, or holds images of more than one kind.
    """
    try:
        files = [path for path in folder.iterdir() if is_image_name(path)]
    except OSError as error:
        raise VideoError(f"{folder}: expected a folder of images, got {error.strerror}") from error
    kinds = sorted({_KINDS[path.suffix.lower()] for path in files})
    if len(kinds) > 1:
        raise VideoError(f"{folder}: expected images of one kind, got {' and '.join(kinds)}")
    return tuple(sorted(files, key=_natural_order))


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    """Sort key under which ``2.jpg`` comes before ``10.jpg``; zero-padded names keep their order."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdigit() and part.isascii() else part for part in parts], path.name


class ImageFeed:
    """Frames of an image folder; the time stamp of a frame is its place in the folder.

    Args:
        folder: where the images lie.
        label: what errors call the stream.

    Raises:
        VideoError: there are no images, or images of several kinds.
    """

    def __init__(self, folder: Path, label: str) -> None:
        self._paths = list_images(folder)
        if not self._paths:
            endings = ", ".join(sorted(_KINDS))
            raise VideoError(f"{label}: expected a folder of images ({endings}), got a folder without any")
        self.frame_rate_fps: float | None = float(FOLDER_FPS)
        self.codec = "images"
        self.before_keyframe = 0

    @property
    def is_thinned(self) -> bool:
        """False: all images come."""
        return False

    @property
    def untimed(self) -> str:
        """Empty: an image's place says its time."""
        return ""

    @property
    def expected_frames(self) -> int | None:
        """Images in the folder."""
        return len(self._paths)

    def frames(self) -> Iterator[RawFrame | FrameDamage | None]:
        """Decode image by image; a fault stands for one that is damaged."""
        for index, path in enumerate(self._paths):
            frame = _decode_image(path)
            yield frame if isinstance(frame, str) else RawFrame(index, Fraction(1, FOLDER_FPS), frame)

    def close(self) -> None:
        """Nothing stays open between images."""


def _decode_image(path: Path) -> av.VideoFrame | FrameDamage:
    """Decode one image with a decoder of its own, so that no image depends on the one before it."""
    try:
        data = path.read_bytes()
    except OSError:
        return "decode_error"
    codec = next((codec for signature, codec in _CODEC_BY_SIGNATURE if data.startswith(signature)), None)
    if codec is None:
        return "decode_error"
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS)}
    packet = av.Packet(data)
    packet.is_keyframe = True  # FFmpeg's PNG decoder lays anything else over the previous picture
    try:
        frames = context.decode(packet) or context.decode(None)
    except av.error.FFmpegError:
        return "decode_error"
    if not frames:
        return "decode_error"
    return "corrupt" if frames[0].is_corrupt else frames[0]
