"""Causal exponential smoothing over media time: the past weighs in, the future never does."""

from __future__ import annotations

import math


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
        self._session: int | None = None
        self._time_s = 0.0
        self._value = 0.0

    def update(self, value: float, session: int, media_time_s: float) -> float:
        """Take in the next frame's value.

        Args:
            value: finite.
            session: the frame's session; another than before starts anew.
            media_time_s: the frame's media time. Where damaged streams go back in time, no time passes.

        Returns:
            The smoothed value, between the previous one and ``value``.
        """
        if session != self._session or self._tau_s == 0.0:
            smoothed = value
        else:
            elapsed_s = max(0.0, media_time_s - self._time_s)
            alpha = -math.expm1(-elapsed_s / self._tau_s)
            smoothed = self._value + alpha * (value - self._value)
            # Rounding must not carry it past either end, or a constant input would not stay constant.
            smoothed = min(max(smoothed, min(value, self._value)), max(value, self._value))
        self._session, self._time_s, self._value = session, media_time_s, smoothed
        return smoothed
