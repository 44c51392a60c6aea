"""Thresholds that follow a camera's normal scores, slowly and within bounds, where its user asked for it.

The median of the frames that are no part of an event is followed by steps that are the same size upwards and downwards
(stochastic approximation, Robbins and Monro 1951): outliers move it no further than any frame. What it has moved by is
added to all thresholds, in whole steps, each of which is a version of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pipeline.scoring.thresholds import Thresholds

STEP = 0.1
"""Of the spread of normal scores: by so much thresholds change at a time."""

MOST = 1.0
"""Spreads that thresholds may move by at most, upwards or downwards."""

_DAY_S = 86_400.0
_PER_DAY = 1.0  # spreads that the median is followed by in a day at most
_LONGEST_S = 60.0  # that a frame stands for: nobody saw what was in a longer pause, or in a leap of a damaged stream


@dataclass(slots=True)
class AdaptationState:
    """All that an adaptation remembers.

    Attributes:
        moved: by how many spreads the median has moved.
        steps: of ``STEP`` spreads, by which thresholds have moved.
    """

    moved: float = 0.0
    steps: int = 0


def follow(state: AdaptationState, score: float, median: float, spread: float, elapsed_s: float) -> bool:
    """Take in a frame that is no part of an event.

    Args:
        state: changed.
        score: its anomaly score, on the scale of frames with a pair.
        median: of the normal footage that thresholds were made of.
        spread: standard deviation of that, without its outliers.
        elapsed_s: media time since the frame before; a longer pause counts as a minute.

    Returns:
        Whether thresholds move now.
    """
    if spread <= 0.0:
        return False
    most = _PER_DAY * min(elapsed_s, _LONGEST_S) / _DAY_S
    off = (score - median) / spread - state.moved
    state.moved = min(max(state.moved + math.copysign(min(most, abs(off)), off), -MOST), MOST)
    before = state.steps
    if abs(state.moved / STEP - state.steps) >= 1.0:  # not to and fro between two of them
        state.steps = math.trunc(state.moved / STEP + math.copysign(1e-9, state.moved))
    return state.steps != before


def moved(thresholds: Thresholds, state: AdaptationState, spread: float) -> Thresholds:
    """Thresholds as they are now.

    Args:
        thresholds: as they were made of normal footage.
        state: of the adaptation.
        spread: as for ``follow``.

    Returns:
        The same where they have not moved; else their version ends in by how many steps, such as ``-2``.
    """
    if not state.steps:
        return thresholds
    by = state.steps * STEP * spread
    return replace(
        thresholds,
        opening=thresholds.opening + by,
        closing=thresholds.closing + by,
        unpaired_closing=thresholds.unpaired_closing + by,
        version=f"{thresholds.version}{state.steps:+d}",
        moved=by,
    )
