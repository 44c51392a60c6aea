"""When a batch is closed: full, or its oldest frame has waited long enough; and how long that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

LONGEST_WAIT_S = 0.04
"""What frames wait for each other at most where nobody says how long, and many come."""

_FEW_FPS = 150.0  # below that, a frame alone costs a detector's machine no third of a core
_RATE_OVER_S = 1.0


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """Close by size or age, whichever comes first.

    Attributes:
        max_frames: frames in a batch at most.
        max_wait_s: longest time a frame waits for company.
    """

    max_frames: int
    max_wait_s: float

    def patience_s(self, waiting: int, oldest_age_s: float) -> float:
        """How much longer to wait before the batch is closed; 0 or less means now.

        Args:
            waiting: frames that could go into the batch.
            oldest_age_s: how long the oldest of them has waited.
        """
        if waiting >= self.max_frames:
            return 0.0
        return self.max_wait_s - oldest_age_s


class CompanyWait:
    r"""How long frames of live cameras are to wait for others: not at all while few come, longer as more do.

    What a call between processes costs is the same for one frame and for a batch. Where few frames come, that is little
    in all, and a frame goes on alone, at once. Where many do, they are with each other within milliseconds:

    .. math:: w = w_{max} \min(1, \max(0, r / r_0 - 1))

    with r the rate of frames over the last second and :math:`r_0` = 150 frames/s. Pure: time is passed in.

    Args:
        fixed_s: the wait, whatever comes; None takes the above, with :math:`w_{max}` = ``LONGEST_WAIT_S``.
    """

    def __init__(self, fixed_s: float | None = None) -> None:
        self._fixed_s = fixed_s
        self._rate_fps = 0.0
        self._at_s = 0.0

    def add(self, frames: int, now: float) -> None:
        """Take in that frames came.

        Args:
            frames: how many.
            now: monotonic seconds.
        """
        self._rate_fps = self._rate(now) + frames / _RATE_OVER_S
        self._at_s = now

    def wait_s(self, now: float) -> float:
        """Seconds that a frame may wait for others.

        Args:
            now: monotonic seconds.
        """
        if self._fixed_s is not None:
            return self._fixed_s
        return LONGEST_WAIT_S * min(1.0, max(0.0, self._rate(now) / _FEW_FPS - 1.0))

    def _rate(self, now: float) -> float:
        """Frames per second, the newest counting most."""
        return self._rate_fps * math.exp(min(0.0, self._at_s - now) / _RATE_OVER_S)
