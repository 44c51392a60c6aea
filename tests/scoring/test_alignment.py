"""Frames with and without a pair: calibrated apart, and on one scale."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_settings import AlertSettings
from pipeline.scoring.alignment import Alignment
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.camera import CameraScoring
from pipeline.scoring.camera_state import CameraState
from pipeline.types import FrameHeader, Prediction
from tests.scoring.footage import calibrated, stretch

# Without pairs normal frames score twice as much and 3 more, so that everything here is exact in binary.
NORMAL = [i / 64 for i in range(65)]
UNPAIRED = [3 + 2 * i / 64 for i in range(65)]
# The same median and threshold, but another close threshold.
BENT = [3 + 2 * (32 + (i - 32) // 4 if 32 < i < 60 else i) / 64 for i in range(65)]
SETTINGS = AlertSettings(quantile=0.95, close_quantile=0.75, smoothing_s=0.0, open_frames=2, close_s=0.5, update_s=1.0)
BUDGET = AlertSettings(budget="200/hour", close_quantile=0.5, smoothing_s=0.0, open_frames=1, close_s=0.5)


def frame(index, score, *, paired, session=0) -> Prediction:
    header = FrameHeader("gate", session, index, index, Fraction(1, 8), 1000.0 + 100 * session + index / 8, index)
    return Prediction(header, score, paired=paired)


def outcome(camera, frames):
    scores, alerts = [], []
    for prediction in frames:
        score, raised = camera.update(prediction, 2000.0)
        scores.append(None if score is None else replace(score, thresholds=""))
        alerts += raised
    alerts += camera.finish(2000.0)
    return scores, [replace(alert, event=replace(alert.event, thresholds="")) for alert in alerts]


def watched(settings, normal=NORMAL, unpaired=None, state=None):
    """A camera that is calibrated by this footage, seen with pairs and without."""
    return CameraScoring("gate", calibrated(normal, settings, 8.0, unpaired), settings, state)


def test_medians_meet_and_thresholds_meet():
    alignment = Alignment.between(4.0, 2.0, 9.0, 5.0)
    assert (alignment.aligned(9.0), alignment.aligned(5.0), alignment.unit) == (4.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("width", "unpaired_width", "unit"),
    [(0.0, 9.0, 1.0), (9.0, 0.0, 1.0), (1e9, 1.0, 10.0), (1e-300, 1.0, 0.1)],  # 0: it says nothing of a unit
)
def test_too_little_footage_for_a_unit_still_has_the_thresholds_meet(width, unpaired_width, unit):
    alignment = Alignment.between(width, 0.0, unpaired_width, 0.0)
    assert alignment.unit == pytest.approx(unit)
    assert alignment.aligned(unpaired_width) == width


def test_footage_that_nobody_saw_without_pairs_tells_of_frames_with_one_alone():
    both, alone = stretch(NORMAL, unpaired=UNPAIRED), stretch([9.0] * 65)
    made, expected = Calibration.of([both, alone], SETTINGS), Calibration.of([both], SETTINGS)
    assert made.alignment.unpaired_threshold == expected.alignment.unpaired_threshold
    assert list(made.unpaired) == list(expected.unpaired)
    assert len(made.normal) == 130


# New sessions now and then; scores in 64ths, most of them low, between the thresholds or high; kinds.
values = st.sampled_from([0, 40, 50, 61, 70]) | st.integers(0, 96)
frames_of_kinds = st.lists(st.tuples(st.sampled_from([0] * 9 + [1]), values, st.booleans()), max_size=60)


def made(drawn, kind=None):
    """Frames of the drawn sessions, scores (in 64ths) and kinds; or all of one kind."""
    session, frames = 0, []
    for index, (rise, score, paired) in enumerate(drawn):
        session += rise
        frames.append(frame(index, score / 64, paired=paired if kind is None else kind, session=session))
    return frames


@given(frames_of_kinds, st.sampled_from([0.0, 0.3]))
def test_where_one_calibration_serves_both_kinds_a_pair_changes_nothing(drawn, smoothing_s):
    settings = SETTINGS.model_copy(update={"smoothing_s": smoothing_s})
    scores, alerts = outcome(watched(settings), made(drawn))
    expected, expected_alerts = outcome(watched(settings), made(drawn, kind=False))
    assert [replace(score, paired=False) for score in scores] == expected
    untold = [replace(alert, event=replace(alert.event, channel=None)) for alert in alerts]  # what pairs alone tell
    assert untold == expected_alerts


@given(frames_of_kinds, st.sampled_from([0.0, 0.3]))
def test_a_camera_whose_frames_all_have_a_pair_is_not_touched_by_the_calibration_of_others(drawn, smoothing_s):
    settings, frames = SETTINGS.model_copy(update={"smoothing_s": smoothing_s}), made(drawn, kind=True)
    apart = watched(settings, unpaired=UNPAIRED)
    assert outcome(apart, frames) == outcome(watched(settings), frames)


@pytest.mark.parametrize("settings", [SETTINGS, BUDGET])
@pytest.mark.parametrize("own", [UNPAIRED, BENT])
@given(frames_of_kinds)
def test_a_camera_that_never_has_a_pair_has_the_events_of_its_own_calibration_alone(settings, own, drawn):
    frames = [replace(p, anomaly_score=3 + 2 * p.anomaly_score) for p in made(drawn, kind=False)]
    scores, alerts = outcome(watched(settings, unpaired=own), frames)
    alone, alone_alerts = outcome(watched(settings, own), frames)
    told = ("p_value", "is_anomalous", "event_id", "event_start_s")
    assert [[getattr(s, name) for name in told] for s in scores] == [[getattr(s, name) for name in told] for s in alone]
    where = ("event_id", "end_s", "peak_index")
    assert [[a.kind, *(getattr(a.event, name) for name in where)] for a in alerts] == [
        [a.kind, *(getattr(a.event, name) for name in where)] for a in alone_alerts
    ]


def test_smoothing_commutes_with_the_alignment():
    """So the same holds with smoothing, but for rounding: of footage without pairs the same frames are anomalous."""
    generator = np.random.default_rng(0)
    normal, unpaired = generator.gamma(3.0, size=500), generator.normal(5.0, 2.0, size=500)
    settings = AlertSettings(smoothing_s=0.3, quantile=0.9, close_quantile=0.8)
    frames = [frame(i, float(s), paired=False) for i, s in enumerate(generator.normal(6.0, 2.0, size=500))]
    scores, alerts = outcome(watched(settings, normal, unpaired), frames)
    alone, alone_alerts = outcome(watched(settings, unpaired), frames)
    assert [score.is_anomalous for score in scores] == [score.is_anomalous for score in alone]
    assert [alert.event.event_id for alert in alerts] == [alert.event.event_id for alert in alone_alerts]
    assert {score.threshold for score in scores} == {calibrated(normal, settings, 8.0).thresholds.opening}
    assert 0 < sum(score.is_anomalous for score in scores) < 500
    assert alerts


@given(frames_of_kinds, st.integers(0, 60))
def test_frames_that_have_a_pair_now_and_then_are_judged_as_if_all_had_and_also_by_another_process(drawn, killed_after):
    """What a frame without a pair says on its own scale, it says on that of the others: no step where kinds change."""
    settings = SETTINGS.model_copy(update={"smoothing_s": 0.5})
    expected = outcome(watched(settings), made(drawn, kind=True))
    camera = watched(settings, unpaired=UNPAIRED)
    scores, alerts = [], []
    for number, prediction in enumerate(made(drawn)):
        if number == killed_after:
            state = CameraState.of_json(camera.state.as_json())
            camera = watched(settings, unpaired=UNPAIRED, state=state)
        own = prediction.anomaly_score if prediction.paired else 3 + 2 * prediction.anomaly_score
        score, raised = camera.update(replace(prediction, anomaly_score=own), 2000.0)
        scores.append(score)
        alerts += raised
    alerts += camera.finish(2000.0)
    assert [s.anomaly_score for s in scores] == pytest.approx([s.anomaly_score for s in expected[0]], abs=1e-12)
    assert [s.smoothed_score for s in scores] == pytest.approx([s.smoothed_score for s in expected[0]], abs=1e-12)
    assert [s.p_value for s in scores] == [s.p_value for s in expected[0]]
    assert len(alerts) == len(expected[1])


def test_a_score_that_is_not_finite_once_aligned_or_whose_common_surprise_is_none_is_dropped():
    camera = watched(SETTINGS, [0.0, 100.0, 200.0], [0.0, 10.0, 20.0])
    dark = replace(frame(0, 0.5, paired=True), common_surprise=float("nan"))
    for number, prediction in enumerate([dark, frame(1, -1.7e308, paired=False)], 1):
        assert camera.update(prediction, 0.0) == (None, [])
        assert camera.dropped == {"not_finite": number}
