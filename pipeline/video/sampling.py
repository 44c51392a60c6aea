"""Thinning a stream to a wanted frame rate by media time, so that the source's own rate and jitter do not matter."""

from __future__ import annotations

import math

_TOLERATED_STEP_BACK_S = 1.0


class PtsSampler:
    """Keeps ``sample_fps`` frames per second of media time, on average exactly, or all where the source has fewer.

    Media time is cut into slots of ``1 / sample_fps`` seconds, the first frame in the middle of slot 0, and the first
    frame of every slot is wanted. A source at the very rate that is sampled may so jitter by almost half a slot and
    loses nothing. When time steps back by more than a second (a new session, a broken time stamp before), the slots
    start anew at that frame.

    Args:
        sample_fps: wanted frames per second; None wants all frames.
    """

    def __init__(self, sample_fps: float | None) -> None:
        self._sample_fps = sample_fps
        self._origin_s = 0.0
        self._last_slot: int | None = None

    def wants(self, media_time_s: float) -> bool:
        """Whether the frame at this media time is to be scored.

        Args:
            media_time_s: time of the frame in seconds; any start.
        """
        if self._sample_fps is None:
            return True
        if self._last_slot is not None:
            slot = math.floor((media_time_s - self._origin_s) * self._sample_fps + 0.5)
            if slot > self._last_slot:
                self._last_slot = slot
                return True
            if (self._last_slot - slot) / self._sample_fps <= _TOLERATED_STEP_BACK_S:
                return False
        self._origin_s, self._last_slot = media_time_s, 0
        return True
