"""A folder of images as a stream: one image is one frame, decoded by the very decoders that FFmpeg uses for video."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error

from pipeline.errors import VideoError
from pipeline.video.container import RawFrame
from pipeline.video.decoder import MAX_PIXELS, FrameDamage, configure
from pipeline.video.packet_tap import PacketTap
from pipeline.video.picture_header import codec_of, lacks_its_end, size_px, without_colour_profile

FOLDER_FPS = 10.0
"""Rate of a folder of images of which nobody says how it was filmed. It shapes media time, never which frames come."""

_KINDS = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
}

_log = logging.getLogger(__name__)


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


def refuse_rate(path: Path, image_fps: float | None, label: str) -> None:
    """Refuse a rate for a file: a video states its own.

    Args:
        path: of what is opened.
        image_fps: how fast a folder of images is to play, or None.
        label: what errors call the stream.

    Raises:
        VideoError: there is a rate, and a file.
    """
    if image_fps is not None and path.is_file():
        raise VideoError(f"{label}: image_fps: expected a folder of images, got a file, whose frames have times")


class ImageFeed:
    """Frames of an image folder; the time stamp of a frame is its place in the folder.

    Args:
        folder: where the images lie.
        label: what errors call the stream.
        image_fps: how many of them were filmed per second; None takes ``FOLDER_FPS``.
        tap: is told of every image that was read.

    Raises:
        VideoError: there are no images, or images of several kinds.
    """

    def __init__(self, folder: Path, label: str, image_fps: float | None = None, tap: PacketTap | None = None) -> None:
        self._label, self._tap = label, tap
        self._paths = list_images(folder)
        if not self._paths:
            endings = ", ".join(sorted(_KINDS))
            raise VideoError(f"{label}: expected a folder of images ({endings}), got a folder without any")
        self.frame_rate_fps: float | None = image_fps or FOLDER_FPS
        self._step_s = 1 / Fraction(self.frame_rate_fps)
        self.codec = "images"
        self.before_keyframe = 0
        self.first_unreadable = ""

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
        """Decode image by image; a fault stands for one that is damaged or too large."""
        if self._tap is not None:
            self._tap.begin(None)
        for index, path in enumerate(self._paths):
            yield self._frame(index, path)  # and keep nothing of it: it may fill hundreds of megabytes

    def close(self) -> None:
        """Nothing stays open between images."""

    def _frame(self, index: int, path: Path) -> RawFrame | FrameDamage:
        try:
            data = path.read_bytes()
            if self._tap is not None:
                image = av.Packet(data)
                image.is_keyframe = True
                self._tap.add(image)
            return RawFrame(index, self._step_s, decode_image(data))
        except OSError as error:
            return self._pass_over(path, "decode_error", f"expected a readable image, got: {error.strerror}")
        except ImageError as error:
            return self._pass_over(path, error.damage, str(error))

    def _pass_over(self, path: Path, damage: FrameDamage, reason: str) -> FrameDamage:
        """Count an image as damaged; of the first one it is said why."""
        if not self.first_unreadable:
            self.first_unreadable = f"{path.name}: {reason}"
            _log.warning("%s: passed over, as are others that cannot be read: %s", self._label, self.first_unreadable)
        return damage


class ImageError(ValueError):
    """An image that is not to be used; its text says why, in one line.

    Attributes:
        damage: as what it counts.
    """

    def __init__(self, damage: FrameDamage, reason: str) -> None:
        super().__init__(reason)
        self.damage: FrameDamage = damage


def decode_image(data: bytes) -> av.VideoFrame:
    """Decode one image with a decoder of its own, so that no image depends on the one before it.

    Raises:
        ImageError: it is no image of a known kind, too large, or damaged.
    """
    codec = codec_of(data)
    if codec is None:
        raise ImageError("decode_error", f"expected an image ({', '.join(sorted(set(_KINDS.values())))}), got none")
    height, width = size_px(data) or (0, 0)
    if height * width > MAX_PIXELS:
        raise ImageError("decode_error", f"expected at most {MAX_PIXELS:,} pixels, got {width} x {height}")
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    configure(context)
    packet = av.Packet(without_colour_profile(data) if codec == "png" else data)
    packet.is_keyframe = True  # FFmpeg's PNG decoder lays anything else over the previous picture
    try:
        frames = context.decode(packet) or context.decode(None)
    except av.error.FFmpegError:
        frames = []
    if not frames or frames[0].is_corrupt or (codec == "mjpeg" and lacks_its_end(data)):
        raise ImageError("corrupt", "expected a whole image, got one that is damaged or cut off")
    return frames[0]
