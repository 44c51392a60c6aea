"""Footage for live cameras of benchmarks: a real camera's where it is at hand, else noise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.shared import ROOT as SHARED

SIZE_PX = (432, 768)
_REAL = SHARED / "data" / "cameras" / "one-by-one-person-detection.mp4"


def encode(path: Path, *, fps: int, skip: int = 0, seconds: int = 60) -> Path:
    """Write footage as cameras send it: H.264, with a keyframe every second.

    Args:
        path: the file.
        fps: frames per second.
        skip: frames of the footage to leave out at its start.
        seconds: length.

    Returns:
        ``path``.
    """
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = SIZE_PX
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # or x264 cuts frames in slices, which GStreamer's payloader tears apart
        stream.options = {"g": str(fps), "bf": "0", "preset": "veryfast", "crf": "30"}
        for number, frame in enumerate(itertools.islice(_frames(), skip, skip + seconds * fps)):
            frame.pts, frame.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _frames() -> Iterator[av.VideoFrame]:
    if _REAL.exists():
        with av.open(str(_REAL)) as source:
            for frame in source.decode(video=0):
                yield frame.reformat(format="yuv420p")
    noise = np.random.default_rng(0)
    while True:
        yield av.VideoFrame.from_ndarray(noise.integers(0, 255, (*SIZE_PX, 3), np.uint8)).reformat(format="yuv420p")
