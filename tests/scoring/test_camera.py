from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import AlertSettings
from pipeline.scoring.calibration import NormalScores
from pipeline.scoring.camera import CameraScoring
from pipeline.types import FrameHeader, Prediction

NORMAL = NormalScores([[i / 100 for i in range(100)]], 10.0)
SETTINGS = AlertSettings(quantile=0.95, close_quantile=0.5, smoothing_s=0.0, open_frames=2, close_s=0.5, update_s=10.0)


def prediction(index, score, *, session=0, camera_id="gate", anomaly_map=None) -> Prediction:
    return Prediction(
        FrameHeader(camera_id, session, index, index, Fraction(1, 10), 1000.0 + 60 * session + index / 10),
        score,
        anomaly_map,
    )


def test_a_score_carries_p_value_threshold_verdict_latency_and_map():
    anomaly_map = np.ones((2, 2), np.float16)
    camera = CameraScoring("gate", NORMAL, SETTINGS)
    score, alerts = camera.update(prediction(0, 2.0, anomaly_map=anomaly_map), 1000.25)
    assert score is not None
    assert (score.anomaly_score, score.p_value, score.threshold) == (2.0, 1 / 101, 0.95)
    assert score.is_anomalous
    assert (score.scored_at_s, score.latency_s) == (1000.25, 0.25)
    assert score.anomaly_map is anomaly_map
    assert alerts == []
    assert (camera.scored, camera.late, camera.events) == (1, 0, 0)


def test_the_verdict_is_of_the_smoothed_score_and_the_p_value_of_the_raw_one():
    camera = CameraScoring("gate", NORMAL, SETTINGS.model_copy(update={"smoothing_s": 10.0}))
    camera.update(prediction(0, 0.0), 0.0)
    score, _ = camera.update(prediction(1, 2.0), 0.0)
    assert score is not None
    assert not score.is_anomalous
    assert score.p_value == 1 / 101


def test_frames_that_come_late_or_twice_are_counted_and_change_nothing():
    camera = CameraScoring("gate", NORMAL, SETTINGS)
    camera.update(prediction(5, 2.0), 0.0)
    assert camera.update(prediction(5, 2.0), 0.0) == (None, [])
    assert camera.update(prediction(4, 2.0), 0.0) == (None, [])
    assert (camera.scored, camera.late, camera.events) == (1, 2, 0)
    _, alerts = camera.update(prediction(6, 2.0), 0.0)
    assert [alert.kind for alert in alerts] == ["new"]
    assert [alert.kind for alert in camera.finish(0.0)] == ["end"]
    assert camera.events == 1


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_refused_and_forgotten(score):
    camera = CameraScoring("gate", NORMAL, SETTINGS)
    with pytest.raises(ValueError, match="camera gate: frame 0 of session 0: expected a finite anomaly score"):
        camera.update(prediction(0, score), 0.0)
    assert camera.update(prediction(0, 0.5), 0.0)[0] is not None


def test_a_frame_of_another_camera_is_refused():
    with pytest.raises(ValueError, match="camera gate: expected its own frames, got one of camera yard"):
        CameraScoring("gate", NORMAL, SETTINGS).update(prediction(0, 0.5, camera_id="yard"), 0.0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.floats(0, 3)), max_size=80))
def test_every_frame_is_scored_or_late_and_the_same_frames_give_the_same_answers(frames):
    def run():
        camera = CameraScoring("gate", NORMAL, SETTINGS)
        answers = [camera.update(prediction(i, score, session=s), 0.0) for s, i, score in frames]
        return camera, [*answers, camera.finish(0.0)]

    camera, answers = run()
    assert camera.scored + camera.late == len(frames)
    assert camera.scored == sum(score is not None for score, _ in answers[:-1])
    assert run()[1] == answers


def test_footage_like_the_held_out_one_alarms_about_as_often_as_the_quantile_says():
    generator = np.random.default_rng(0)
    normal = NormalScores([generator.gamma(3.0, size=5000)], 10.0)
    settings = AlertSettings(quantile=0.99, smoothing_s=0.3)
    camera = CameraScoring("gate", normal, settings)
    scores = [camera.update(prediction(i, float(s)), 0.0)[0] for i, s in enumerate(generator.gamma(3.0, size=5000))]
    share = np.mean([score.is_anomalous for score in scores if score is not None])
    assert 0.005 < share < 0.02
