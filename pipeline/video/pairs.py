"""Pairs: with a frame that is wanted, the brightness of one that was decoded shortly before it, in the same session.

Whoever reads owns the order of frames and knows the sessions, so pairs are made here, by one law for training, replay
and live, and detectors keep nothing between frames.

The law. Of the frames that came ``MIN_GAP_S`` to ``MAX_GAP_S`` before the wanted one, the one nearest to ``gap_s``
before it is taken, and of two that are as near to within a 25th of it, since time stamps jitter, the earlier (of 25
frames per second and a gap of 0.1 s so the third before, never now this and now that of two). A frame that was thinned
away serves as well as a wanted one, a damaged one never. There is no pair across the beginning of a session, a step
back in time, a cut of a file that plays as a camera, or a change of the picture's size.

A frame is kept as long as it can still be the nearest for one that is to come, which is the case for the frames of the
last ``gap_s`` and for the newest of those before. Of a fast camera they are thinned: a frame that came less than a
quarter of ``gap_s`` after the last one kept is not kept. So at most six are, whatever the camera sends; up to 40 frames
per second and a gap of 0.1 s the law holds to the letter, and beyond that to within a quarter of the gap, and the true
gap is handed over in any case.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import av
import numpy as np
import numpy.typing as npt

from pipeline.model_settings import MAX_GAP_S, MIN_GAP_S
from pipeline.types import PreviousLuma

Image = npt.NDArray[np.uint8]

_SAME_PER_GAP = 1 / 25
_KEPT_PER_GAP = 4
_ROUNDING = 0.999  # frames that come exactly a quarter of the gap apart are all kept, however their times were rounded
_MOST_HELD_PIXELS = 4096 * 2304  # larger pictures are resized at once: six of them might fill gigabytes


def luma_of(image: Image) -> Image:
    """Brightness of an RGB image in integers, so that every machine and device gets the same.

    Args:
        image: uint8, shape (H, W, 3).

    Returns:
        uint8, shape (H, W): (77 R + 150 G + 29 B + 128) >> 8.
    """
    red, green, blue = (image[..., channel].astype(np.uint16) for channel in range(3))
    return ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)


class EarlierFrames:
    """The frames of one session that can still be the other half of a pair.

    A frame that was wanted is kept as its brightness at the model's size; of one that was not, the decoder's own
    picture is kept, and resized only should it be needed.

    Args:
        gap_s: how much earlier the other half is to be, in seconds.
        resize: as frames are resized that are wanted; gives None for pixels that cannot be converted.
    """

    def __init__(self, gap_s: float, resize: Callable[[av.VideoFrame], Image | None]) -> None:
        self._gap_s, self._resize = gap_s, resize
        self._kept: deque[tuple[float, av.VideoFrame | Image]] = deque()
        self._newest_s: float | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self) -> None:
        """Start anew: what comes next does not continue what came before."""
        self._kept.clear()
        self._newest_s = None

    def add(self, time_s: float, frame: av.VideoFrame) -> None:
        """Take in a frame that is not wanted.

        Args:
            time_s: its media time.
            frame: as it was decoded.
        """
        self._advance(time_s)
        if self._may_serve(time_s):
            image = self._resize(frame) if frame.width * frame.height > _MOST_HELD_PIXELS else None
            self._kept.append((time_s, frame if image is None else luma_of(image)))

    def add_wanted(self, time_s: float, image: Image) -> PreviousLuma | None:
        """Take in a frame that is wanted, and give the other half of its pair.

        Args:
            time_s: its media time.
            image: uint8, shape (H, W, 3), at the model's size.
        """
        self._advance(time_s)
        previous = self._nearest(time_s)
        if self._may_serve(time_s):
            self._kept.append((time_s, luma_of(image)))
        return previous

    def _advance(self, time_s: float) -> None:
        """Drop what cannot be the nearest any more, now that it is so late."""
        if self._newest_s is not None and time_s < self._newest_s:
            self.forget()
        self._newest_s = time_s
        kept = self._kept
        while len(kept) > 1 and kept[1][0] <= time_s - self._gap_s:
            kept.popleft()
        if kept and time_s - kept[0][0] > MAX_GAP_S:
            kept.popleft()

    def _may_serve(self, time_s: float) -> bool:
        return not self._kept or time_s - self._kept[-1][0] >= _ROUNDING * self._gap_s / _KEPT_PER_GAP

    def _nearest(self, time_s: float) -> PreviousLuma | None:
        best, least_s = None, float("inf")
        for number, (kept_s, _) in enumerate(self._kept):
            gap_s = time_s - kept_s
            off_s = abs(gap_s - self._gap_s)
            if MIN_GAP_S <= gap_s <= MAX_GAP_S and off_s < least_s - _SAME_PER_GAP * self._gap_s:
                best, least_s = number, off_s
        return None if best is None else self._pair(best, time_s)

    def _pair(self, number: int, time_s: float) -> PreviousLuma | None:
        kept_s, kept = self._kept[number]
        if isinstance(kept, av.VideoFrame):
            image = self._resize(kept)
            if image is None:
                return None
            kept = luma_of(image)
            self._kept[number] = (kept_s, kept)
        return PreviousLuma(kept, time_s - kept_s)
