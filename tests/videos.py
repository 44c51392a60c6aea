"""Real footage made on the spot, tiny and deterministic: every frame carries its own number, readable after decoding.

Made with PyAV and Pillow, so that what the tests read went through a real encoder and a real container.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

SIZE_PX = (48, 64)
_BITS = 10  # frame numbers up to 1023


def numbered_frame(number: int, size_px: tuple[int, int] = SIZE_PX) -> np.ndarray:
    """An RGB frame: its number as black and white bars in the upper half, a coloured ramp below."""
    height, width = size_px
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(40, 220, width)
    image[..., 1] = np.linspace(60, 180, height)[:, None]
    image[..., 2] = 90
    for bit, (left, right) in enumerate(_bars(width)):
        image[: height // 2, left:right] = 235 if number >> bit & 1 else 20
    return image


def frame_number(image: np.ndarray) -> int:
    """The number that ``numbered_frame`` drew, read from a decoded image of any size."""
    height, width = image.shape[:2]
    number = 0
    for bit, (left, right) in enumerate(_bars(width)):
        middle = (left + right) // 2
        number |= int(image[height // 8 : height // 3, middle - 1 : middle + 1].mean() > 128) << bit
    return number


def _bars(width: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, width, _BITS + 1).astype(int)
    return [(int(left), int(right)) for left, right in itertools.pairwise(edges)]


def write_video(
    path: Path,
    frames: int | Iterable[np.ndarray] = 30,
    *,
    size_px: tuple[int, int] = SIZE_PX,
    fps: int = 25,
    codec: str = "libx264",
    gop: int = 10,
    b_frames: int = 0,
    slices: int = 1,
    first_pts: int = 0,
    audio: bool = False,
    container_format: str | None = None,
) -> Path:
    """Encode footage; an mp4 has its index in front, so that a truncated one can still be opened.

    Args:
        path: the file to write; its ending chooses the container unless ``container_format`` does.
        frames: RGB frames, or how many numbered frames to draw.
        size_px: (height, width) of drawn frames.
        fps: frame rate.
        codec: an encoder of FFmpeg's: ``libx264``, ``mpeg4``, ``msmpeg4v2``...
        gop: frames from one keyframe to the next.
        b_frames: frames between two reference frames that are predicted from both.
        slices: parts of each picture that decode on their own, of ``libx264`` and ``libx265``.
        first_pts: time stamp of the first frame, in frames.
        audio: whether a silent audio stream goes with it.
        container_format: FFmpeg's name of the container, such as ``h264`` for a raw stream.

    Returns:
        ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = (numbered_frame(i, size_px) for i in range(frames)) if isinstance(frames, int) else frames
    movflags = {"movflags": "+faststart"} if path.suffix == ".mp4" and container_format is None else {}
    with av.open(str(path), "w", format=container_format, options=movflags) as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size_px
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        if codec == "libx264":
            stream.options = {
                "crf": "12",
                "preset": "veryfast",
                "bf": str(b_frames),
                "threads": "1",
                "sc_threshold": "0",
                "x264-params": f"slices={slices}",
            }
        elif codec == "libx265":
            # Small coding tree units, or a picture this small could not be cut.
            parameters = (
                f"log-level=none:pools=1:frame-threads=1:ctu=16:bframes={b_frames}:keyint={gop}:slices={slices}"
            )
            stream.options = {"crf": "4", "x265-params": parameters}
        else:
            stream.codec_context.bit_rate = 2_000_000
        sound = container.add_stream("aac", rate=16_000) if audio else None
        count = 0
        for count, image in enumerate(drawn, start=1):
            if count == 1:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = first_pts + count - 1
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _silence(container, sound, seconds=max(count / fps, 0.5))
    return path


def audio_only(path: Path, seconds: float = 1.0) -> Path:
    """Write a file that holds sound and no picture."""
    with av.open(str(path), "w") as container:
        _silence(container, container.add_stream("aac", rate=16_000), seconds)
    return path


def _silence(container, stream, seconds: float) -> None:
    step = 1024
    for start in range(0, int(seconds * 16_000), step):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, step), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def truncate(path: Path, out: Path | None = None, *, fraction: float = 0.5) -> Path:
    """Write the first part of a file's bytes, as a full disk or a cut copy leaves it."""
    data = path.read_bytes()
    target = path if out is None else out
    target.write_bytes(data[: int(len(data) * fraction)])
    return target


def write_images(
    folder: Path,
    frames: int | Iterable[np.ndarray] = 10,
    *,
    suffix: str = ".png",
    size_px: tuple[int, int] = SIZE_PX,
    name: str = "{:03d}",
    first: int = 1,
) -> Path:
    """Write a folder of images, one per frame, numbered from ``first``.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = (numbered_frame(i, size_px) for i in range(frames)) if isinstance(frames, int) else frames
    for i, image in enumerate(drawn, start=first):
        Image.fromarray(image).save(folder / (name.format(i) + suffix))
    return folder
