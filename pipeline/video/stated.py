"""What a file's header states of its frames, and whether that can be true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

_LEAST_FRAME_BYTES = 8  # even a frame without a change has a header in the file
_MOST_BOXES = 10_000
_RATE_TOLERANCE = 0.1


def stated_frames(container: InputContainer, stream: VideoStream) -> int:
    """Frames of a video file as its header states them; 0 where it says nothing, or what cannot be true.

    The header of an mp4 in fragments counts those before the first fragment, and that of a file whose recorder died may
    count anything.
    """
    stated = stream.frames
    if stated * _LEAST_FRAME_BYTES > container.size:
        return 0
    return 0 if stated and is_fragmented(Path(container.name.removeprefix("file:"))) else stated


def is_fragmented(path: Path) -> bool:
    """Whether a file is an mp4 in fragments, as cameras write that may lose their power at any time."""
    return b"moof" in mp4_boxes(path)


def mp4_boxes(path: Path) -> Iterator[bytes]:
    """Kinds of the outer boxes of an mp4, by their headers alone; of any other file nothing that means something."""
    try:
        with path.open("rb", buffering=0) as file:  # recordings of days have thousands of boxes
            for _ in range(_MOST_BOXES):
                head = file.read(16)
                kind, size = head[4:8], int.from_bytes(head[:4])
                if not kind.isalnum():
                    return
                yield kind
                if size == 1:
                    size = int.from_bytes(head[8:16])
                if size < 8:  # the last box
                    return
                file.seek(size - len(head), 1)
    except (OSError, ValueError, OverflowError):
        return


def actual_fps(stated: float, times_s: Sequence[float]) -> float:
    """Frames per second of footage: as its header states, unless its time stamps contradict.

    What records 5 frames/s often states the 25 that its camera could send.

    Args:
        stated: what the header says.
        times_s: media time of the frames, in the order in which they came; it may leap.
    """
    intervals = np.diff(np.asarray(times_s))
    intervals = intervals[intervals > 0.0]
    if not len(intervals):
        return stated
    mean, median = float(1.0 / np.mean(intervals)), float(1.0 / np.median(intervals))
    return stated if any(abs(stated - fps) <= _RATE_TOLERANCE * fps for fps in (mean, median)) else median
