"""Reading a file at the speed at which it was filmed. Pure: time is passed in."""

from __future__ import annotations

_CATCH_UP_S = 0.5  # lateness up to here is jitter, made up for so that the rate is kept; more is never caught up
_LONGEST_STEP_S = 60.0  # a larger one between two frames is a gap in the time stamps, not a picture shown that long


class PlaybackPacer:
    """Says when each frame of a file is due: as long after the first one as its media time says.

    Whoever falls behind (a pause, detectors that are slower) goes on from there at the file's own speed, and so does
    whoever meets time stamps that step back or leap.
    """

    def __init__(self) -> None:
        self._due_at: float | None = None  # monotonic
        self._media_time_s = 0.0

    def delay_s(self, media_time_s: float, now: float) -> float:
        """How long to wait before the frame is read on, in seconds; 0 where it is due.

        Args:
            media_time_s: time of the frame in seconds; any start.
            now: monotonic seconds.
        """
        step_s = media_time_s - self._media_time_s
        self._media_time_s = media_time_s
        due_at = None if self._due_at is None else self._due_at + step_s
        if due_at is None or not 0.0 <= step_s <= _LONGEST_STEP_S or now - due_at > _CATCH_UP_S:
            due_at = now
        self._due_at = due_at
        return max(0.0, due_at - now)

    def restart(self) -> None:
        """Let the next frame be due at once."""
        self._due_at = None
