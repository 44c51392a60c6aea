"""When the pictures of a live camera were taken: by its own clock, as long as that keeps pace with time itself.

Many streams have no clock (JPEGs and raw video over HTTP or TCP: FFmpeg then says 25 frames per second, whatever
comes), and some clocks run slow or fast, stand still or leap. Pictures can come late, in bursts, and after a stall all
at once, but they do not come ever later, nor ever earlier. So a clock that goes on drifting away from the arrival of
its pictures is not believed, and they are timed by their arrival.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_STEP_BACK_S = 1.0  # up to here a damaged time stamp, in which no time passes; beyond, the clock was set
_LEAP_S = 2.0  # ahead of all pictures before, in one step: the clock was set
_WINDOW_S = 3.0
_DRIFT = 0.02  # per second; less is what a sound clock, and the network's moods, may do
_WINDOWS = 3  # in a row, or it may be a stall that is being made up for
# A camera, or a segmented stream, may send what it has kept as fast as it can; being late by as much needs a network
# that is too slow for the stream, as it may be for a while if only a little.
_MOST_BEHIND_S = 3.0
_MOST_BEHIND_SLOWLY_S = 6.0
_SLOWLY = 0.65  # times the speed of time, and more
_MOST_AHEAD_S = 10.0
_STILL_S = 2.0
_STILL_FRAMES = 10
_PAUSE_S = 1.0  # in which nothing comes; what has waited then comes all at once
_MOVES_S = 0.1
_MOST_LEAPS = 10
_LEAPS_WITHIN_S = 60.0  # of each other; a clock that is set once a day is sound


@dataclass(frozen=True, slots=True)
class _Lead:
    """How far a picture's time was ahead of its arrival, in seconds from any start, and when it arrived."""

    lead_s: float
    arrived_s: float


class LiveClock:
    """Times the pictures of one camera; times never decrease within a session. Pure: arrival is passed in.

    What it learnt of a camera's clock it keeps over sessions.
    """

    def __init__(self) -> None:
        self._wrong = self._absent = self._told = ""
        self.restart(has_clock=True)

    @property
    def reason(self) -> str:
        """Why pictures are timed by their arrival; empty while the camera's own clock is believed."""
        return self._absent or self._wrong

    def restart(self, *, has_clock: bool) -> None:
        """Begin a session.

        Args:
            has_clock: whether its stream can hold times at all.
        """
        self._absent = "" if has_clock else "its stream has no clock"
        self._shift_s = 0.0
        self._time_s = self._arrived_s = 0.0
        self._has_begun = False
        self._highest_s = -math.inf  # lead of all pictures before the present window
        self._window_ends_s = 0.0
        self._best: _Lead | None = None  # of this window: the picture that came with the least delay
        self._best_before: _Lead | None = None
        self._run_from: _Lead | None = None
        self._run = 0  # windows that drifted the same way; negative: behind
        self._moved, self._judged_at_s = _Lead(0.0, 0.0), 0.0
        self._still = self._leaps = self._untold = 0
        self._leapt_at_s = -math.inf

    def time_s(self, media_s: float | None, arrived_s: float) -> float:
        """When the next picture was taken, in seconds of this session; ``media_s`` itself while the clock is sound.

        Args:
            media_s: what the stream says, or None.
            arrived_s: monotonic time at which it came.
        """
        self._untold = self._untold + 1 if media_s is None else 0
        if self._untold >= _STILL_FRAMES and not self.reason:
            self._absent = "its stream tells no times"
        if not self._has_begun:
            self._begin(0.0 if media_s is None or self.reason else media_s, arrived_s)
            return self._time_s
        by_arrival_s = self._time_s + max(arrived_s - self._arrived_s, 0.0)
        time_s = by_arrival_s
        if media_s is not None and not self.reason:
            time_s = self._by_own_clock(media_s, arrived_s, by_arrival_s)
        self._time_s, self._arrived_s = max(time_s, self._time_s), max(arrived_s, self._arrived_s)
        if not self.reason:
            self._judge()
        return self._time_s

    def news(self) -> str:
        """The reason, if it has not been asked for before; empty otherwise."""
        news = "" if self.reason == self._told else self.reason
        self._told = self.reason or self._told
        return news

    def _begin(self, time_s: float, arrived_s: float) -> None:
        self._has_begun = True
        self._time_s, self._arrived_s = time_s, arrived_s
        self._moved, self._judged_at_s = _Lead(time_s, arrived_s), arrived_s
        self._best = _Lead(time_s - arrived_s, arrived_s)
        self._window_ends_s = arrived_s + _WINDOW_S

    def _by_own_clock(self, media_s: float, arrived_s: float, by_arrival_s: float) -> float:
        """The stream's time, without its leaps."""
        time_s = media_s + self._shift_s
        best = self._best
        highest_s = max(self._highest_s, -math.inf if best is None else best.lead_s)
        is_ahead = time_s - self._time_s > _LEAP_S and time_s - arrived_s > highest_s + _LEAP_S
        if is_ahead or time_s < self._time_s - _STEP_BACK_S:
            self._shift_s = by_arrival_s - media_s
            self._note_leap(arrived_s)
            return by_arrival_s
        return time_s

    def _note_leap(self, arrived_s: float) -> None:
        self._leaps = self._leaps + 1 if arrived_s - self._leapt_at_s < _LEAPS_WITHIN_S else 1
        self._leapt_at_s = arrived_s
        if self._leaps >= _MOST_LEAPS:
            self._wrong = "its clock leaps again and again"

    def _judge(self) -> None:
        """Note whether the clock stands still, and, at the end of a window, whether it drifts away."""
        lead = _Lead(self._time_s - self._arrived_s, self._arrived_s)
        paused_s, self._judged_at_s = self._arrived_s - self._judged_at_s, self._arrived_s
        self._still += 1
        if paused_s > _PAUSE_S or self._time_s - self._moved.lead_s > _MOVES_S:
            self._moved, self._still = _Lead(self._time_s, self._arrived_s), 0
        elif self._still >= _STILL_FRAMES and self._arrived_s - self._moved.arrived_s > _STILL_S:
            self._wrong = "its clock stands still"
            return
        if self._arrived_s >= self._window_ends_s and self._best is not None:
            self._end_window(self._best)
            self._window_ends_s, self._best = self._arrived_s + _WINDOW_S, None
        if self._best is None or lead.lead_s > self._best.lead_s:
            self._best = lead

    def _end_window(self, best: _Lead) -> None:
        before, self._best_before = self._best_before, best
        highest_s, self._highest_s = self._highest_s, max(self._highest_s, best.lead_s)
        if before is None:
            return
        drift_s, allowed_s = best.lead_s - before.lead_s, _DRIFT * (best.arrived_s - before.arrived_s)
        way = -1 if drift_s < -allowed_s else 1 if drift_s > allowed_s and best.lead_s > highest_s else 0
        if way == 0 or self._run * way <= 0 or self._run_from is None:
            self._run, self._run_from = way, before
        else:
            self._run += way
        behind_s = self._run_from.lead_s - best.lead_s
        rate = 1.0 - behind_s / (best.arrived_s - self._run_from.arrived_s)
        most_behind_s = _MOST_BEHIND_S if rate < _SLOWLY else _MOST_BEHIND_SLOWLY_S
        if abs(self._run) >= _WINDOWS and (behind_s > most_behind_s or -behind_s > _MOST_AHEAD_S):
            self._wrong = f"its clock runs at {rate:.3g} times the speed of time"
            if behind_s > 0:  # cannot be told apart
                self._wrong += ", or its pictures come ever later"
