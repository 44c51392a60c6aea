"""Frames of files between the handing over and the scorer's word: handed over again when a detector died with them.

A live camera's frame that died with a detector is lost and counted: newer ones are worth more. A file's frame is not:
it is handed over again, alone, since one of those that were in the detector may be what killed it. The one that was in
a detector three times when it died is set aside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.types import Frame

MAX_DEATHS = 3


@dataclass(slots=True)
class _Handed:
    frame: Frame
    deaths: int = 0
    again: bool = False
    out: bool = True


class Unconfirmed:
    """Frames of files that a camera process has handed over, in that order, until their fate is known."""

    def __init__(self) -> None:
        self._frames: deque[_Handed] = deque()
        self._taker: tuple[str, str] | None = None
        self._deaths = 0

    @property
    def suspects(self) -> bool:
        """Whether frames wait to be handed over again; new ones are held back meanwhile."""
        return any(handed.again for handed in self._frames)

    def add(self, frames: list[Frame]) -> None:
        """Remember frames that are being handed over."""
        self._frames.extend(_Handed(frame) for frame in frames)

    def confirm(self, next_serials: Mapping[str, int]) -> None:
        """Forget frames whose fate is known.

        Args:
            next_serials: by camera, the serial below which it is.
        """
        self._frames = deque(h for h in self._frames if h.frame.header.serial >= _next(next_serials, h.frame))

    def taken_by(self, detector: str, incarnation: str, deaths: int) -> list[Frame]:
        """Note who takes; from another than before, all that is not confirmed is handed over again.

        The one before has died with it, unless the process was moved: a detector that lives is done with its frames by
        then, but has not come to say so.

        Args:
            detector: its name.
            incarnation: name of its process.
            deaths: how many detectors have died while they took from here, as the supervisor knows.

        Returns:
            Frames to set aside: they were in a detector when it died, ``MAX_DEATHS`` times.
        """
        taker = (detector, incarnation)
        if self._taker not in {None, taker}:
            died = deaths != self._deaths or (self._taker or taker)[0] == detector
            for handed in self._frames:
                handed.deaths += handed.out and died
                handed.again, handed.out = True, False
        self._taker, self._deaths = taker, deaths
        killers = [handed.frame for handed in self._frames if handed.deaths >= MAX_DEATHS]
        self._frames = deque(handed for handed in self._frames if handed.deaths < MAX_DEATHS)
        return killers

    def next_suspect(self) -> Frame | None:
        """The next frame to hand over again, alone; None while another one is out, or where there is none."""
        if not self.suspects or any(handed.out for handed in self._frames):
            return None
        handed = self._frames[0]
        handed.out = True
        return handed.frame


def _next(next_serials: Mapping[str, int], frame: Frame) -> int:
    return next_serials.get(frame.header.camera_id, 0)
