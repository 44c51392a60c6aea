r"""Whether a camera's normal scores are no longer those that its thresholds were made of: a conformal test martingale.

Every so often, further apart than normal scores remember each other, a frame outside events is a bet against "it scores
as normal footage did". With p its conformal p-value, the bet pays :math:`f(p) = \epsilon \, p^{\epsilon - 1}`, which
costs nothing where p is uniform (its integral is 1) and pays where small p come too often (the power martingales of
Vovk, Nouretdinov, Gammerman, *Testing exchangeability on-line*, ICML 2003). The Shiryaev-Roberts statistic
:math:`R_n = (1 + R_{n-1}) f(p_n)`, here the mean of those of several :math:`\epsilon`, can be raised by a drift that
begins at any time, and without one :math:`R_n - n` has expectation 0 at most, so :math:`R \ge A` comes no sooner than
after A bets on average (Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman, *Retrain or not retrain*, COPA 2021).

Footage that was measured is finite, so its p-values are not quite uniform on other footage like it. Each is raised by
two of its standard errors (Wilson 1927): little footage tells of great drifts alone, and very little of none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.alerts import Notice
from pipeline.normal_footage import NormalStretch
from pipeline.scoring.notices import begun, over
from pipeline.types import FrameHeader

_POWERS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
BETS = len(_POWERS)
"""How many bet in each direction, from bold to careful."""

_REMEMBERED = 0.1  # autocorrelation below which frames are taken for independent
_REPEATS = 4  # times that a stretch must be as long as what it is to tell of
_LAGS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_ERRORS = 2.0
_LEAST = 40.0  # independent frames: of fewer, p-values say too little

_SAID = {
    "risen": "its normal scores have risen: thresholds no longer keep the budget; `calibrate --from-run` or another "
    "training makes new ones",
    "fallen": "its normal scores have fallen: it may miss events (dirt, fog?); `calibrate --from-run` or another "
    "training makes new thresholds",
}


@dataclass(frozen=True, slots=True, eq=False)
class DriftTest:
    """What unseen normal footage of a camera scored, to bet against.

    Attributes:
        paired: anomaly scores of frames with a pair, lowest first, float64, shape (N,).
        unpaired: the same without one.
        gap_s: time from one bet to the next, in seconds of media time.
        independent: how many of the frames are.
    """

    paired: npt.NDArray[np.float64]
    unpaired: npt.NDArray[np.float64]
    gap_s: float
    independent: float

    @classmethod
    def of(cls, stretches: Sequence[NormalStretch]) -> DriftTest | None:
        """Learn what unseen footage scores.

        Args:
            stretches: normal footage.

        Returns:
            None where there is too little of it to tell.
        """
        own = [stretch for stretch in stretches if stretch.kind == "own"]
        gap_s = forgotten_after_s(own)
        independent = sum(stretch.hours for stretch in own) * 3600.0 / gap_s
        if independent < _LEAST:
            return None
        paired = np.sort(np.concatenate([stretch.scores for stretch in own]))
        apart = [stretch.unpaired for stretch in own if stretch.unpaired is not None]
        return cls(paired, np.sort(np.concatenate(apart)) if apart else paired, gap_s, independent)

    def bets(self, score: float, *, paired: bool) -> npt.NDArray[np.float64]:
        """What a frame pays those who bet that scores have risen, and those who bet that they have fallen.

        Args:
            score: its anomaly score, as the detector gave it.
            paired: whether it had a pair.

        Returns:
            Float64, shape (2, ``BETS``).
        """
        known = self.paired if paired else self.unpaired
        size = len(known) + 1
        at_least = 1 + len(known) - int(known.searchsorted(score, "left"))
        at_most = 1 + int(known.searchsorted(score, "right"))
        p_values = self._raised(np.array([at_least / size, at_most / size]))
        return _POWERS * p_values[:, None] ** (_POWERS - 1.0)

    def _raised(self, p_values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The upper end of Wilson's interval."""
        wide = _ERRORS**2 / self.independent
        middle = p_values + wide / 2.0
        return (middle + np.sqrt(wide * (p_values * (1.0 - p_values) + wide / 4.0))) / (1.0 + wide)


def forgotten_after_s(stretches: Sequence[NormalStretch]) -> float:
    """After how many seconds normal scores no longer resemble each other: their autocorrelation is below a tenth.

    Args:
        stretches: normal footage; all of them together have one mean.

    Returns:
        One of a few times, at most about two minutes; that also where nothing can be told.
    """
    if not stretches:
        return _LAGS_S[-1]
    mean = float(np.concatenate([stretch.scores for stretch in stretches]).mean())
    for lag_s in _LAGS_S:
        together, alone, pairs = 0.0, 0.0, 0
        for stretch in stretches:
            lag = max(1, round(lag_s * stretch.fps))
            varied = stretch.scores - mean
            if len(varied) >= _REPEATS * lag:
                together += float((varied[lag:] * varied[:-lag]).sum())
                alone += float((varied[lag:] ** 2).sum() + (varied[:-lag] ** 2).sum()) / 2.0
                pairs += len(varied) - lag
        if pairs and together <= _REMEMBERED * alone:
            return lag_s
    return _LAGS_S[-1]


@dataclass(slots=True)
class DriftState:
    """All that a ``DriftMonitor`` remembers.

    Attributes:
        risen: statistics of those who bet that scores have risen.
        fallen: the same that they have fallen.
        session: of the last frame; None before the first.
        time_s: its media time.
        waited_s: media time since the last bet.
        since_at_s: Unix time at which a drift was told that lasts; None where none does.
    """

    risen: list[float] = field(default_factory=lambda: [0.0] * BETS)
    fallen: list[float] = field(default_factory=lambda: [0.0] * BETS)
    session: int | None = None
    time_s: float = 0.0
    waited_s: float = 0.0
    since_at_s: float | None = None


class DriftMonitor:
    """Says once that a camera's normal scores have drifted, and once that they have not any more.

    It has once either statistic reaches A, with A so that this comes falsely no sooner than after ``falsely_h`` of
    watched time on average, and no longer once both are below the square root of A.

    Args:
        camera_id: the camera.
        falsely_h: hours from one drift to the next, on average, where there is none.
    """

    def __init__(self, camera_id: str, falsely_h: float) -> None:
        self.state = DriftState()
        """What it remembers; setting it goes on from there."""
        self._camera_id = camera_id
        self._falsely_s = falsely_h * 3600.0

    def update(self, test: DriftTest, header: FrameHeader, score: float, now_s: float, *, paired: bool) -> list[Notice]:
        """Take in a frame that is no part of an event.

        Args:
            test: of the zones that hold.
            header: of the frame; above all frames before it.
            score: its anomaly score, as the detector gave it; finite.
            now_s: Unix time.
            paired: whether it had a pair.

        Returns:
            One notice or, mostly, none.
        """
        state = self.state
        if header.session == state.session:  # a pause counts for one bet at most
            state.waited_s += min(max(0.0, header.media_time_s - state.time_s), test.gap_s)
        state.session, state.time_s = header.session, header.media_time_s
        if state.waited_s < test.gap_s:
            return []
        state.waited_s = 0.0
        enough = 2.0 * max(self._falsely_s / test.gap_s, 1.0)  # there are two who bet
        paid = test.bets(score, paired=paired)
        statistics = np.minimum((1.0 + np.array([state.risen, state.fallen])) * paid, BETS * enough)
        state.risen, state.fallen = statistics.tolist()
        risen, fallen = statistics.mean(axis=1).tolist()
        highest = max(risen, fallen)
        if state.since_at_s is None and highest >= enough:
            state.since_at_s = header.captured_at_s
            said = _SAID["risen" if risen >= fallen else "fallen"]
            return [begun("camera_drifted", self._camera_id, header.captured_at_s, said, now_s)]
        if state.since_at_s is not None and highest < math.sqrt(enough):
            return end_drift(self._camera_id, state, header.captured_at_s, now_s, "over")
        return []


def end_drift(camera_id: str, state: DriftState, until_at_s: float, now_s: float, reason: str) -> list[Notice]:
    """End what was told, if it lasts, and begin anew.

    Args:
        camera_id: the camera.
        state: where nothing lasts afterwards.
        until_at_s: Unix time at which it ended.
        now_s: Unix time.
        reason: why, one line.

    Returns:
        The notice of it; none where nothing lasted.
    """
    since_at_s, state.since_at_s = state.since_at_s, None
    state.risen, state.fallen = [0.0] * BETS, [0.0] * BETS
    return over("camera_drifted", camera_id, since_at_s, until_at_s, reason, now_s)
