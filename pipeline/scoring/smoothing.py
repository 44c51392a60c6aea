"""Causal exponential smoothing over media time: the past weighs in, the future never does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

ROUNDING_S = 1e-6
"""By how much the sum of frames' times may miss a duration that they make up."""


@dataclass(slots=True)
class SmootherState:
    """All that a ``CausalSmoother`` remembers.

    Attributes:
        session: of the last frame; None before the first.
        time_s: its media time.
        value: its smoothed value.
    """

    session: int | None = None
    time_s: float = 0.0
    value: float = 0.0


class CausalSmoother:
    r"""First-order low-pass filter for frames at irregular times.

    .. math:: y_0 = x_0, \quad y_i = y_{i-1} + \alpha_i (x_i - y_{i-1}), \quad \alpha_i = 1 - e^{-\Delta t_i / \tau}

    with :math:`\Delta t_i` the media time since the previous frame. This is the exact step response of an RC filter, so
    what it does in a second does not depend on the frame rate. It starts anew with every session.

    Args:
        time_constant_s: tau in seconds; 0 passes every value through.
    """

    def __init__(self, time_constant_s: float) -> None:
        self._tau_s = time_constant_s
        self.state = SmootherState()
        """What it remembers; setting it goes on from there."""

    def update(self, value: float, session: int, media_time_s: float) -> float:
        """Take in the next frame's value.

        Args:
            value: finite.
            session: the frame's session; another than before starts anew.
            media_time_s: the frame's media time. Where damaged streams go back in time, no time passes.

        Returns:
            The smoothed value, between the previous one and ``value``.
        """
        last = self.state
        if session != last.session or self._tau_s == 0.0:
            smoothed = value
        else:
            elapsed_s = max(0.0, media_time_s - last.time_s)
            alpha = -math.expm1(-elapsed_s / self._tau_s)
            smoothed = last.value + alpha * (value - last.value)
            # Rounding must not carry it past either end, or a constant input would not stay constant.
            smoothed = min(max(smoothed, min(value, last.value)), max(value, last.value))
        self.state = SmootherState(session, media_time_s, smoothed)
        return smoothed


def smooth(values: npt.NDArray[np.float64], fps: float, time_constant_s: float) -> npt.NDArray[np.float64]:
    """What ``CausalSmoother`` makes of one session's frames at a steady rate, to within rounding, and faster.

    Args:
        values: shape (T,).
        fps: frames per second.
        time_constant_s: as for ``CausalSmoother``.
    """
    if time_constant_s == 0.0:
        return values
    alpha = -math.expm1(-1.0 / fps / time_constant_s)
    return np.fromiter(accumulate(values.tolist(), lambda last, value: last + alpha * (value - last)), np.float64)
