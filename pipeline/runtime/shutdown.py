"""How the time for ending a run is shared out. Pure: no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass

_WHOLE_S = 6.0
"""Of the ten seconds that are promised; the rest is for Ray's processes, an embedded Redis and the command itself."""
_FRAMES_UNTIL_S = 2.5
_DETECTORS_UNTIL_S = 3.0
"""What is left then is for the scorer: one that has just died is back within three seconds."""


@dataclass(frozen=True, slots=True)
class ShutdownDeadline:
    """One deadline for all steps of ending a run, so that one that hangs takes its time from the others, not on top.

    Attributes:
        ends_at_s: monotonic time, of the process that uses it, at which all of them are over.
    """

    ends_at_s: float

    @classmethod
    def starting_at(cls, now: float) -> ShutdownDeadline:
        """Of a run that is asked to end.

        Args:
            now: monotonic seconds.
        """
        return cls(now + _WHOLE_S)

    def left_s(self, now: float) -> float:
        """Seconds for all that is still to be done; never below 0."""
        return max(self.ends_at_s - now, 0.0)

    def frames_left_s(self, now: float) -> float:
        """Seconds in which frames that were decoded are still scored; never below 0."""
        return max(self.left_s(now) - (_WHOLE_S - _FRAMES_UNTIL_S), 0.0)

    def detectors_left_s(self, now: float) -> float:
        """Seconds in which those that a detector holds by then still are; never below 0."""
        return max(self.left_s(now) - (_WHOLE_S - _DETECTORS_UNTIL_S), 0.0)
