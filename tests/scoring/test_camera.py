import itertools
from datetime import UTC
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_settings import AlertSettings
from pipeline.scoring.camera import CameraScoring
from pipeline.scoring.camera_state import CameraState, end_abandoned
from pipeline.scoring.light import LightMonitor
from pipeline.types import Dropped, FrameHeader, Prediction
from tests.scoring.footage import calibrated

SETTINGS = AlertSettings(
    quantile=0.95, close_quantile=0.5, smoothing_s=0.0, open_frames=2, open_s=0.0, close_s=0.5, update_s=10.0
)
NORMAL = [i / 100 for i in range(100)]


def watched(settings=SETTINGS, normal=NORMAL, state=None) -> CameraScoring:
    return CameraScoring("gate", calibrated(normal, settings), settings, state)


def header(index, session=0, camera_id="gate", serial=0, counter_id="") -> FrameHeader:
    captured_at_s = 1000.0 + 60 * session + index / 10
    return FrameHeader(camera_id, session, index, index, Fraction(1, 10), captured_at_s, serial, counter_id)


def prediction(index, score, *, session=0, camera_id="gate", anomaly_map=None, serial=0, counter_id="") -> Prediction:
    return Prediction(header(index, session, camera_id, serial, counter_id), score, anomaly_map)


def test_a_score_carries_p_value_threshold_verdict_latency_and_map():
    anomaly_map = np.ones((2, 2), np.float16)
    camera = watched()
    score, alerts = camera.update(prediction(0, 2.0, anomaly_map=anomaly_map), 1000.25)
    assert score is not None
    assert (score.anomaly_score, score.p_value, score.threshold) == (2.0, 1 / 101, 0.95)
    assert score.is_anomalous
    assert (score.scored_at_s, score.latency_s) == (1000.25, 0.25)
    assert score.anomaly_map is anomaly_map
    assert alerts == []
    assert (camera.scored, camera.events) == (1, 0)


def test_the_verdict_is_of_the_smoothed_score_and_the_p_value_of_the_raw_one():
    camera = watched(SETTINGS.model_copy(update={"smoothing_s": 10.0}))
    camera.update(prediction(0, 0.0), 0.0)
    score, _ = camera.update(prediction(1, 2.0), 0.0)
    assert score is not None
    assert not score.is_anomalous
    assert score.p_value == 1 / 101


def test_frames_that_come_late_or_twice_change_nothing():
    camera = watched()
    camera.update(prediction(5, 2.0), 0.0)
    assert camera.update(prediction(5, 2.0), 0.0) == (None, [])
    assert camera.update(prediction(4, 2.0), 0.0) == (None, [])
    assert (camera.scored, camera.dropped, camera.events) == (1, {}, 0)
    _, alerts = camera.update(prediction(6, 2.0), 0.0)
    assert [alert.kind for alert in alerts] == ["new"]
    assert [alert.kind for alert in camera.finish(0.0)] == ["end"]
    assert camera.events == 1


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_counted_as_dropped_and_smooths_nothing(score):
    camera = watched(SETTINGS.model_copy(update={"smoothing_s": 10.0}))
    assert camera.update(prediction(0, score), 0.0) == (None, [])
    assert (camera.scored, camera.dropped) == (0, {"not_finite": 1})
    found, _ = camera.update(prediction(1, 2.0), 0.0)
    assert found is not None
    assert found.is_anomalous  # the first value that is smoothed stands for itself


def test_a_frame_of_another_camera_is_refused():
    with pytest.raises(ValueError, match="camera gate: expected its own frames, got one of camera yard"):
        watched().update(prediction(0, 0.5, camera_id="yard"), 0.0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.floats(0, 3)), max_size=80))
def test_every_frame_above_the_last_one_is_scored_and_the_same_frames_give_the_same_answers(frames):
    def run():
        camera = watched()
        answers = [camera.update(prediction(i, score, session=s), 0.0) for s, i, score in frames]
        return camera, [*answers, camera.finish(0.0)]

    camera, answers = run()
    newest = itertools.accumulate(((s, i) for s, i, _ in frames), max)
    assert camera.scored == len(set(newest))
    assert camera.dropped == {}
    assert camera.scored == sum(score is not None for score, _ in answers[:-1])
    assert run()[1] == answers


def test_footage_like_the_held_out_one_alarms_about_as_often_as_the_quantile_says():
    generator = np.random.default_rng(0)
    camera = watched(AlertSettings(quantile=0.99, smoothing_s=0.3), generator.gamma(3.0, size=5000))
    scores = [camera.update(prediction(i, float(s)), 0.0)[0] for i, s in enumerate(generator.gamma(3.0, size=5000))]
    share = np.mean([score.is_anomalous for score in scores if score is not None])
    assert 0.005 < share < 0.02


FATES = st.sampled_from(["scored", "overload", "stale", "not_finite", "lost", "twice"])


@given(st.lists(FATES, max_size=60), st.sets(st.integers(0, 60)))
def test_every_frame_dispatched_has_one_result_whatever_gets_lost_and_whenever_the_scorer_is_killed(results, kills):
    """A restarted scorer goes on from its state as JSON; what was not acknowledged comes again."""
    camera, expected, alerts, whole_alerts = watched(), {}, [], []
    whole = watched()
    for serial, result in enumerate([*results, "scored"]):
        value = float("nan") if result == "not_finite" else float(serial % 7 > 2) * 2
        if serial in kills:
            camera = watched(state=CameraState.of_json(camera.state.as_json()))
        for scoring, told in ((camera, alerts), (whole, whole_alerts)):
            if result in {"overload", "stale"}:
                scoring.drop(Dropped(header(serial, serial=serial), result))
            elif result != "lost":
                told.extend(scoring.update(prediction(serial, value, serial=serial), 0.0)[1])
        if result == "twice":
            alerts += camera.update(prediction(serial, value, serial=serial), 0.0)[1]
        name = {"lost": "detector_lost", "twice": "scored"}.get(result, result)
        expected[name] = expected.get(name, 0) + 1
    assert camera.scored == expected.pop("scored")
    assert camera.dropped == expected
    assert alerts == whole_alerts
    assert camera.finish(0.0) == whole.finish(0.0)


def test_serials_are_counted_apart_where_other_counters_give_them_whether_they_are_higher_or_lower():
    camera = watched()
    camera.update(prediction(0, 0.5, serial=100, counter_id="a"), 0.0)
    camera.update(prediction(0, 0.5, session=1, serial=2, counter_id="b"), 0.0)
    camera.update(prediction(1, 0.5, serial=101, counter_id="a"), 0.0)  # too late
    camera.update(prediction(0, 0.5, session=2, serial=500, counter_id="c"), 0.0)
    assert (camera.scored, camera.dropped) == (3, {"detector_lost": 100 + 2 + 500})
    assert list(camera.counted.items()) == [("a", 101), ("b", 3), ("c", 501)]
    state = CameraState.of_json(camera.state.as_json())
    again = watched(state=state)
    again.update(prediction(1, 0.5, session=2, serial=501, counter_id="c"), 0.0)
    assert (again.scored, again.dropped) == (4, {"detector_lost": 602})


def test_of_former_counters_the_newest_three_are_remembered_and_a_camera_that_is_still_read_by_one_goes_on_in_it():
    camera = watched()
    for session, counter_id in enumerate("abcdeb"):
        camera.update(prediction(0, 0.5, session=session, serial=session, counter_id=counter_id), 0.0)
    assert list(camera.counted.items()) == [("c", 3), ("d", 4), ("e", 5), ("b", 6)]
    assert camera.dropped == {"detector_lost": 1 + 2 + 3 + 4 + 5 - 2 - 0}


def test_an_event_that_was_open_when_the_whole_run_was_killed_ends_with_the_next_one():
    camera = watched()
    for index in range(3):
        camera.update(prediction(index, 2.0, serial=index), 0.0)
    state = CameraState.of_json(camera.state.as_json())
    assert end_abandoned("gate", state, 7.0) == camera.finish(7.0)
    assert end_abandoned("gate", CameraState(), 7.0) == []


@pytest.mark.parametrize("text", ["", "[]", "{}x", '{"scored": "many"}'])
def test_a_state_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected a camera's state"):
        CameraState.of_json(text)


PLACES = ("top", "left", "right")
lives = st.lists(
    st.tuples(
        st.integers(1, 25),  # frames
        st.sampled_from([0.0, 0.7, 2.0, 8.0]),
        st.sampled_from([None, *PLACES]),
        st.sampled_from([0.0] * 5 + [9.0]),  # common surprise
        st.sampled_from([False] * 9 + [True]),  # a new session
    ),
    max_size=25,
)


def shown(place, score):
    """A map with a spot at a place."""
    anomaly_map = np.zeros((6, 8), np.float16)
    if place is not None:
        row, column = {"top": (0, 3), "left": (4, 0), "right": (4, 6)}[place]
        anomaly_map[row : row + 2, column : column + 2] = score + 0.5
    return anomaly_map


@given(lives, st.sets(st.integers(0, 300)))
def test_killed_at_any_frame_it_goes_on_with_its_events_their_ends_and_what_stays_as_if_it_had_not_been(life, kills):
    settings = SETTINGS.model_copy(
        update={"smoothing_s": 0.2, "cooldown_s": 2.0, "still_after_s": 1.5, "update_s": 0.5}
    )

    def scoring(state=None):
        light = LightMonitor("gate", 5.0, 1.0, pause_s=1.0, settles_s=0.3)
        return CameraScoring("gate", calibrated(NORMAL, settings), settings, state, light=light, time_zone=UTC)

    whole, camera, session, index, number = scoring(), scoring(), 0, 0, 0
    for frames, score, place, surprise, reconnects in life:
        session, index = session + reconnects, 0 if reconnects else index
        for _ in range(frames):
            if number in kills:
                text = camera.state.as_json()
                assert len(text) < 3000 + 200 * len(camera.state.tracker.still)
                camera = scoring(CameraState.of_json(text))
            seen = Prediction(header(index, session, serial=number), score, shown(place, score), True, surprise)
            assert camera.update(seen, 7.0) == whole.update(seen, 7.0)
            index, number = index + 1, number + 1
    assert camera.finish(9.0) == whole.finish(9.0)
    assert camera.state == whole.state


def test_what_it_remembers_of_a_quiet_camera_is_small():
    camera = watched()
    for index in range(100):
        camera.update(prediction(index, 0.3 + index / 1000), 0.0)
    assert len(camera.state.as_json()) < 1000
