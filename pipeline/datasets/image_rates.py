"""How fast folders of images play: as fast as their scene was filmed, which only what lies beside them can say.

Speeds, events and smoothing are per second of media time, so a wrong rate makes everything faster or slower than what
was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.camera_settings import FASTEST_IMAGES_FPS, SLOWEST_IMAGES_FPS
from pipeline.datasets.base import PROBE_SIZE_PX, Clip
from pipeline.errors import VideoError
from pipeline.video.source import open_source
from pipeline.video.stated import actual_fps

_FRAMES = 25  # whose times are looked at


def with_image_fps(clips: Iterable[Clip], rate_of: Callable[[Clip], float | None]) -> tuple[Clip, ...]:
    """The clips, where folders of images without a rate get one.

    Args:
        clips: of any kind; videos stay as they are.
        rate_of: images per second that were filmed of a folder, or None; one that no camera films is none.
    """
    return tuple(
        replace(clip, image_fps=_usable(rate_of(clip))) if clip.image_fps is None and Path(clip.url).is_dir() else clip
        for clip in clips
    )


def filmed_fps(video: Path) -> float | None:
    """Frames per second of a video: as its header states, unless the times of its first frames contradict.

    None where it says nothing, or cannot be read.
    """
    times_s: list[float] = []

    def note(media_time_s: float) -> bool:
        times_s.append(media_time_s)
        return False

    try:
        with open_source(str(video), PROBE_SIZE_PX) as source:
            for _ in source.arrivals(note):
                if len(times_s) >= _FRAMES:
                    break
            stated = source.frame_rate_fps
    except VideoError:
        return None
    return None if stated is None else _usable(actual_fps(stated, times_s))


def _usable(fps: float | None) -> float | None:
    return fps if fps is not None and SLOWEST_IMAGES_FPS <= fps <= FASTEST_IMAGES_FPS else None
