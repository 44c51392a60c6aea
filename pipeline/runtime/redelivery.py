"""Frames of files between dispatch and confirmation by the scorer: redelivered when a detector died with them.

A live camera's frame that died with a detector is lost and counted: newer ones are worth more. A file's frame is not:
it is redelivered, alone, since one of those that were in the detector may be what killed it. The one that was in
a detector three times when it died is set aside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.types import Frame

MAX_DEATHS = 3


@dataclass(slots=True)
class _Dispatched:
    frame: Frame
    deaths: int = 0
    retry: bool = False
    in_detector: bool = True


class RedeliveryQueue:
    """Frames of files that a camera process has dispatched, in that order, until their result is known."""

    def __init__(self) -> None:
        self._frames: deque[_Dispatched] = deque()
        self._consumer: tuple[str, str] | None = None
        self._deaths = 0

    @property
    def has_retries(self) -> bool:
        """Whether frames wait to be redelivered; new ones are held back until then."""
        return any(dispatched.retry for dispatched in self._frames)

    def add(self, frames: list[Frame]) -> None:
        """Remember frames that are being dispatched."""
        self._frames.extend(_Dispatched(frame) for frame in frames)

    def confirm(self, next_serials: Mapping[str, int]) -> None:
        """Forget frames whose result is known.

        Args:
            next_serials: by camera, the serial below which it is.
        """
        self._frames = deque(d for d in self._frames if d.frame.header.serial >= _next(next_serials, d.frame))

    def taken_by(self, detector: str, incarnation: str, deaths: int) -> list[Frame]:
        """Note who takes; from another than before, all that is not confirmed is redelivered.

        The one before has died with it, unless the process was moved: a detector that lives is done with its frames by
        then, but has not come to say so.

        Args:
            detector: its name.
            incarnation: name of its process.
            deaths: how many detectors have died while they took from here, as the supervisor knows.

        Returns:
            Frames to set aside: they were in a detector when it died, ``MAX_DEATHS`` times.
        """
        consumer = (detector, incarnation)
        if self._consumer not in {None, consumer}:
            died = deaths != self._deaths or (self._consumer or consumer)[0] == detector
            for dispatched in self._frames:
                dispatched.deaths += dispatched.in_detector and died
                dispatched.retry, dispatched.in_detector = True, False
        self._consumer, self._deaths = consumer, deaths
        quarantined = [dispatched.frame for dispatched in self._frames if dispatched.deaths >= MAX_DEATHS]
        self._frames = deque(dispatched for dispatched in self._frames if dispatched.deaths < MAX_DEATHS)
        return quarantined

    def next_retry(self) -> Frame | None:
        """The next frame to redeliver, alone; None while another one is in the detector, or where there is none."""
        if not self.has_retries or any(dispatched.in_detector for dispatched in self._frames):
            return None
        dispatched = self._frames[0]
        dispatched.in_detector = True
        return dispatched.frame


def _next(next_serials: Mapping[str, int], frame: Frame) -> int:
    return next_serials.get(frame.header.camera_id, 0)
