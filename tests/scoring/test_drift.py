"""A drift of normal scores is told within minutes, and none where there is none; thresholds follow where asked to."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import lfilter

from pipeline.camera_settings import AlertSettings
from pipeline.normal_footage import NormalStretch
from pipeline.scoring.adaptation import MOST, AdaptationState, follow, moved
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.camera import CameraScoring
from pipeline.scoring.camera_state import CameraState
from pipeline.scoring.drift import BETS, DriftMonitor, DriftTest, forgotten_after_s
from pipeline.scoring.thresholds import Thresholds
from pipeline.types import FrameHeader, Prediction

FPS = 2
CAUSAL = 0.8  # of the score before, in every score: forgotten after 8 s


def scores(hours, seed, shift=0.0):
    """Autocorrelated normal scores, of mean ``shift`` and spread 1."""
    noise = np.random.default_rng(seed).normal(size=round(hours * 3600 * FPS)) * np.sqrt(1 - CAUSAL**2)
    return lfilter([1.0], [1.0, -CAUSAL], noise) + shift


def stretch(hours, seed=0, kind="own", **more):
    return NormalStretch(kind, FPS, scores(hours, seed), **more)


def told(test, seen, monitor=None, first=0):
    """When something was told, in minutes, with what."""
    monitor = monitor or DriftMonitor("gate", 720.0)
    found = []
    for index, score in enumerate(seen, first):
        header = FrameHeader("gate", 0, index, index, Fraction(1, FPS), 1000.0 + index / FPS)
        found += [(index / FPS / 60, said) for said in monitor.update(test, header, score, 0.0, paired=True)]
    return found


def test_frames_are_taken_for_independent_once_they_have_forgotten_each_other():
    assert forgotten_after_s([stretch(4.0)]) == 8.0
    white = NormalStretch("own", FPS, np.random.default_rng(0).normal(size=5000))
    assert forgotten_after_s([white]) == 1.0
    assert forgotten_after_s([NormalStretch("own", FPS, np.arange(20.0))]) == 128.0  # it is too short to tell


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_told_of_a_day_like_the_footage_of_an_hour_before_it(seed):
    assert told(DriftTest.of([stretch(1.0, seed)]), scores(24.0, 100 + seed)) == []


@pytest.mark.parametrize(("shift", "said"), [(1.0, "have risen"), (-1.0, "have fallen")])
@pytest.mark.parametrize("seed", range(3))
def test_a_drift_by_one_spread_is_told_within_minutes_once_and_its_end_too(seed, shift, said):
    monitor, test = DriftMonitor("gate", 720.0), DriftTest.of([stretch(2.0, seed)])
    assert told(test, scores(1.0, 10 + seed), monitor) == []
    frames = 3600 * FPS
    ((begun, notice),) = told(test, scores(1.0, 20 + seed, shift), monitor, frames)
    assert 60.0 < begun < 80.0
    assert (notice.kind, notice.camera_id, notice.until_at_s) == ("camera_drifted", "gate", None)
    assert said in notice.reason
    ((ended, over),) = told(test, scores(2.0, 30 + seed), monitor, 2 * frames)
    assert (over.event_id, over.reason) == (notice.event_id, "over")
    assert over.until_at_s == 1000.0 + ended * 60


def test_too_little_footage_and_what_is_not_unseen_footage_tell_of_no_drift():
    assert DriftTest.of([stretch(0.03)]) is None
    assert DriftTest.of([stretch(4.0, kind="learned"), stretch(4.0, kind="light")]) is None
    assert DriftTest.of([]) is None


def test_bets_on_normal_footage_pay_nothing_on_average_and_those_on_its_tail_the_more():
    test = DriftTest.of([stretch(4.0)])
    paid = np.array([test.bets(score, paired=True) for score in scores(8.0, 1)])
    assert paid.shape[1:] == (2, BETS)
    assert (paid.mean(axis=0) < 1.0).all()
    high, higher = (test.bets(score, paired=True)[0] for score in (1.0, 3.0))
    assert (higher > high).all()
    assert (test.bets(3.0, paired=True)[1] < 1.0).all()


def test_frames_without_a_pair_are_held_against_their_like():
    apart = stretch(4.0, unpaired=scores(4.0, 0, shift=5.0))
    test = DriftTest.of([apart])
    assert np.array_equal(test.bets(5.0, paired=False), test.bets(0.0, paired=True))


def prediction(index, score, session=0):
    header = FrameHeader("gate", session, index, index, Fraction(1, FPS), 1000.0 + index / FPS, serial=index)
    return Prediction(header, score, None, paired=True)


def camera(state=None, **alerts):
    settings = AlertSettings(quantile=0.999, **alerts)
    calibration = Calibration.of([stretch(2.0)], settings)
    return CameraScoring("gate", calibration, settings, state, drift=DriftMonitor("gate", 720.0))


@pytest.mark.parametrize("adapt", [None, "slow"])
def test_a_camera_that_goes_on_in_another_process_tells_and_decides_the_same(adapt):
    seen = [*scores(0.5, 1), *scores(0.5, 2, 1.0)]
    whole, parts, of_parts = camera(adapt=adapt), camera(adapt=adapt), []
    of_whole = [whole.update(prediction(at, score), 0.0) for at, score in enumerate(seen)]
    for at, score in enumerate(seen):
        if at % 500 == 0:
            parts = camera(CameraState.of_json(parts.state.as_json()), adapt=adapt)
        of_parts.append(parts.update(prediction(at, score), 0.0))
    assert of_parts == of_whole
    assert [said.kind for _, alerts in of_whole for said in alerts].count("camera_drifted") == 1
    assert whole.drifted
    assert [said.reason for said in whole.finish(0.0)] == ["the camera is no longer watched"]
    assert not whole.drifted


def test_thresholds_follow_by_a_spread_a_day_and_each_step_is_a_version_of_its_own(caplog):
    caplog.set_level("INFO")
    still, slow = camera(), camera(adapt="slow")
    made = slow.thresholds
    for at, score in enumerate(scores(12.0, 3, 0.8)):
        for one in (still, slow):
            one.update(prediction(at, score), 0.0)
    assert still.thresholds == made
    # Half a spread at most in half a day, and there are frames on both sides; those that are anomalous teach nothing.
    assert slow.state.adaptation.steps in {2, 3}
    by = slow.thresholds.opening - made.opening
    assert by == pytest.approx(slow.state.adaptation.steps * 0.1, rel=0.1)
    assert slow.thresholds.closing - made.closing == pytest.approx(by)
    assert slow.thresholds.version == f"{made.version}+{slow.state.adaptation.steps}"
    assert slow.thresholds.once_in_h(made.opening + by) == pytest.approx(made.once_in_h(made.opening))
    assert caplog.text.count("thresholds follow its normal scores") >= slow.state.adaptation.steps


def test_thresholds_never_move_by_more_than_a_spread_whatever_comes():
    state = AdaptationState()
    follow(state, 50.0, 0.0, 2.0, 1e9)
    assert state.moved == pytest.approx(1 / 1440), "a frame after a pause stands for a minute"
    for _ in range(1500):
        follow(state, 50.0, 0.0, 2.0, 60.0)
    assert (state.moved, state.steps) == (MOST, 10)
    assert moved(Thresholds(3.0, 2.0, 1.0, "v"), state, 2.0).opening == pytest.approx(5.0)
    for _ in range(3000):
        follow(state, -50.0, 0.0, 2.0, 60.0)
    assert (state.moved, state.steps) == (-MOST, -10)
    assert not follow(state, -50.0, 0.0, 0.0, 8640.0)  # scores that never vary have no spread
    unmoved = Thresholds(3.0, 2.0, 1.0, "v")
    assert moved(unmoved, AdaptationState(), 2.0) is unmoved
