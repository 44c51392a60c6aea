from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alerts import Notice
from pipeline.camera_settings import AlertSettings
from pipeline.scoring.camera import CameraScoring
from pipeline.scoring.camera_state import CameraState, end_abandoned
from pipeline.scoring.light import LightMonitor, light_threshold, settling_s
from pipeline.scoring.smoothing import smooth
from pipeline.types import FrameHeader, Prediction
from tests.scoring.footage import calibrated

FPS = 4
THRESHOLD = 2.0
DARK, BRIGHT = 0.0, 5.0
REST_S = 600


def header(index, session=0) -> FrameHeader:
    return FrameHeader("gate", session, index, index, Fraction(1, FPS), 1000.0 + 10_000 * session + index / FPS, index)


def told(monitor: LightMonitor, seconds_of, *, first=0, session=0) -> list[tuple[float, Notice]]:
    """What is said of stretches of (seconds, common surprise), with the media time at which it is."""
    values = [value for seconds, value in seconds_of for _ in range(round(seconds * FPS))]
    return [
        (index / FPS, notice)
        for index, value in enumerate(values, first)
        for notice in monitor.update(header(index, session), value, 5000.0)
    ]


def test_light_that_changes_for_good_is_said_once_and_once_more_when_it_is_back():
    monitor = LightMonitor("gate", THRESHOLD, 10.0)
    (begins_s, begun), (ends_s, over) = told(monitor, [(60, DARK), (3600, BRIGHT), (60, DARK)])
    assert (begun.kind, begun.camera_id, begun.until_at_s) == ("light_changed", "gate", None)
    assert begun.reason == "the whole image has looked different for 10 s: light, weather, exposure or a dirty lens"
    assert 60 < begun.since_at_s - 1000.0 < 63  # smoothed
    assert begins_s == begun.since_at_s - 1000.0 + 10
    assert begun.event_id == f"gate-light_changed-{begun.since_at_s * 1000:.0f}"
    assert 3660 < ends_s - 10 < 3663
    assert over == replace(begun, reason="over", until_at_s=1000.0 + ends_s - 10)


def test_what_fills_the_image_for_a_while_is_nothing():
    assert told(LightMonitor("gate", THRESHOLD, 10.0), [(60, DARK), *[(8, BRIGHT), (8, DARK)] * 100]) == []


def test_light_that_is_normal_again_for_a_moment_is_still_changed():
    monitor = LightMonitor("gate", THRESHOLD, 10.0)
    assert len(told(monitor, [(30, BRIGHT), *[(8, DARK), (8, BRIGHT)] * 100])) == 1


def test_passing_clouds_are_not_told_one_by_one():
    monitor = LightMonitor("gate", THRESHOLD, 10.0)
    said = told(monitor, [(30, BRIGHT), (30, DARK)] * 60)
    begins = [at_s for at_s, notice in said if notice.until_at_s is None]
    assert [notice.until_at_s is None for _, notice in said] == [True, False] * len(begins)
    assert len(begins) == 6  # in an hour
    assert min(np.diff(begins)) >= REST_S


def test_light_that_changes_while_changes_rest_and_stays_is_said_when_they_no_longer_do():
    monitor = LightMonitor("gate", THRESHOLD, 10.0)
    (begins_s, _), _, (again_s, again) = told(monitor, [(30, BRIGHT), (30, DARK), (1000, BRIGHT)])
    assert again_s == begins_s + REST_S
    assert 60 < again.since_at_s - 1000.0 < 63


def test_two_frames_far_apart_are_not_enough_however_long_the_pause_between_them_was():
    monitor = LightMonitor("gate", THRESHOLD, 10.0)
    said = [bool(monitor.update(header(1000 * FPS * n), BRIGHT, 0.0)) for n in range(6)]
    assert said == [False, False, False, False, True, False]


def test_a_change_goes_on_over_sessions():
    monitor = LightMonitor("gate", THRESHOLD, 10.0)
    assert told(monitor, [(6, BRIGHT)]) == []
    ((at_s, begun),) = told(monitor, [(60, BRIGHT)], session=1)
    assert at_s == 4.25  # nobody knows how long the camera was away
    assert begun.since_at_s == 1000.0
    assert told(monitor, [(60, BRIGHT)], session=2) == []
    ((_, over),) = told(monitor, [(60, DARK)], session=3)
    assert over.event_id == begun.event_id


surprises = st.lists(st.tuples(st.sampled_from([0] * 9 + [1]), st.integers(1, 40), st.floats(-1.0, 6.0)), max_size=40)


@given(surprises, st.sets(st.integers(0, 40)))
def test_notices_come_in_pairs_rest_between_pairs_and_do_not_depend_on_kills(steps, kills):
    """Each step may begin a session, takes quarters of a second, and has a value."""
    normal = calibrated([1.0, 2.0], AlertSettings(), FPS)

    def scoring(state=None):
        return CameraScoring("gate", normal, AlertSettings(), state, light=LightMonitor("gate", THRESHOLD, after_s=2.0))

    whole, camera, session, index, said, whole_said = scoring(), scoring(), 0, 0, [], []
    for number, (rise, ticks, value) in enumerate(steps):
        session, index = session + rise, index + ticks
        if number in kills:
            camera = scoring(CameraState.of_json(camera.state.as_json()))
        prediction = Prediction(header(index, session), 0.0, common_surprise=value)
        whole_said += whole.update(prediction, 5.0)[1]
        said += camera.update(prediction, 5.0)[1]
        said += camera.update(prediction, 5.0)[1]  # sent again
        assert camera.light_changed == whole.light_changed == (len(said) % 2 == 1)
    last = camera.state.as_json()
    said += camera.finish(7.0)
    assert said == whole_said + whole.finish(7.0)
    assert not camera.light_changed
    begun, over = said[::2], said[1::2]
    assert [notice.event_id for notice in begun] == [notice.event_id for notice in over]
    assert all(notice.until_at_s is None for notice in begun)
    assert all(notice.until_at_s >= notice.since_at_s for notice in over)
    assert len({notice.event_id for notice in begun}) == len(begun)
    lost = end_abandoned("gate", CameraState.of_json(last), 7.0)  # had the whole run been killed instead
    assert [notice.event_id for notice in lost] == [notice.event_id for notice in said[len(whole_said) :]]


def test_a_camera_that_nobody_watches_any_more_ends_its_change_and_one_that_comes_back_may_say_it_anew():
    normal, later = calibrated([1.0], AlertSettings(), FPS), 10 * REST_S * FPS
    camera = CameraScoring("gate", normal, AlertSettings(), light=LightMonitor("gate", THRESHOLD, 1.0))

    def said(first, count):
        frames = [Prediction(header(i), 0.0, common_surprise=BRIGHT) for i in range(first, first + count)]
        return [notice for prediction in frames for notice in camera.update(prediction, 0.0)[1]]

    (begun,) = said(0, 20)
    (over,) = camera.finish(9000.0)
    assert over == replace(begun, reason="the camera is no longer watched", until_at_s=9000.0, emitted_at_s=9000.0)
    assert camera.finish(9000.0) == []
    (again,) = said(later, 20)
    assert again.event_id != begun.event_id


def test_a_camera_whose_light_nobody_can_judge_says_nothing():
    camera = CameraScoring("gate", calibrated([1.0], AlertSettings(), FPS), AlertSettings())
    frames = [Prediction(header(i), 0.0, common_surprise=1e6) for i in range(400)]
    assert [alert for prediction in frames for alert in camera.update(prediction, 0.0)[1]] == []
    assert not camera.light_changed


def test_the_threshold_is_the_highest_of_normal_footage_and_a_margin_of_its_spreads_but_at_least_one():
    quiet = [0.25] * 100
    assert light_threshold({"gate": [quiet]}, "gate", 10.0, None) == 1.25
    wide = np.random.default_rng(0).normal(0.0, 1.0, 50_000)
    found = light_threshold({"gate": [wide.tolist()]}, "gate", 10.0, None)
    assert found == pytest.approx(smooth(wide, 10.0, 2.0).max() + 3.0, abs=0.06)
    thinned = light_threshold({"gate": [wide.tolist()]}, "gate", 10.0, 1.0)
    assert thinned is not None
    assert found is not None
    assert thinned > found  # fewer frames are smoothed over


def test_a_scene_with_too_little_footage_is_judged_by_that_of_all_and_none_where_all_is_too_little():
    common = {"gate": [[9.0] * 50], "yard": [[1.0] * 100], "lane": [[]]}
    assert light_threshold(common, "yard", 10.0, None) == 2.0
    assert light_threshold(common, "gate", 10.0, None) == 10.0
    assert light_threshold(common, "lane", 10.0, None) == 10.0
    assert light_threshold(common, "nowhere", 10.0, None) == 10.0
    assert light_threshold({"gate": [[9.0] * 50]}, "gate", 10.0, None) is None
    assert light_threshold({}, "gate", 10.0, None) is None


PAUSED_S = 60


def paused(stretches, monitor=None):
    """Media times of the frames at which no event may open, of stretches of (seconds, common surprise)."""
    monitor = monitor or LightMonitor("gate", THRESHOLD, 10.0, pause_s=PAUSED_S, settles_s=1.5)
    values = [value for seconds, value in stretches for _ in range(round(seconds * FPS))]
    found = []
    for index, value in enumerate(values):
        monitor.update(header(index), value, 5000.0)
        found += [index / FPS] if monitor.pauses else []
    return np.array(found)


def test_alarms_are_paused_from_the_first_frame_of_a_change_until_scores_have_forgotten_it():
    found = paused([(10, DARK), (20, BRIGHT), (30, DARK)])
    assert (found[0], found[-1], len(found)) == (10.0, 31.0, 85)


def test_no_change_of_light_pauses_alarms_for_longer_than_it_may():
    found = paused([(10, DARK), (4 * 3600, BRIGHT)])
    assert (found[0], found[-1], len(found)) == (10.0, 69.75, PAUSED_S * FPS)


def test_somebody_with_a_lamp_pauses_alarms_for_a_minute_and_then_a_tenth_of_the_time():
    found = paused([(1, BRIGHT), (9, DARK)] * 360)  # for an hour
    assert found[found > 900].size < 0.11 * 2700 * FPS
    assert found.size < (PAUSED_S + 360 + 60) * FPS


def test_the_notice_says_that_alarms_are_paused():
    monitor = LightMonitor("gate", THRESHOLD, 10.0, pause_s=PAUSED_S)
    ((_, begun),) = told(monitor, [(60, DARK), (60, BRIGHT)])
    assert begun.reason == (
        "the whole image has looked different for 10 s: light, weather, exposure or a dirty lens; "
        "no event opens meanwhile, for 60 s at most"
    )


def test_a_lamp_that_is_switched_on_and_off_opens_no_event_and_what_stays_afterwards_does():
    light = LightMonitor("gate", THRESHOLD, 10.0, pause_s=PAUSED_S, settles_s=settling_s(0.3))
    alerts = AlertSettings(quantile=0.9, close_quantile=0.5)
    camera = CameraScoring("gate", calibrated([1.0, 2.0] * 50, alerts, FPS), alerts, light=light)
    shown = [(30, 1.0, DARK), (30, 500.0, BRIGHT), (30, 1.0, DARK), (5, 9.0, DARK), (5, 1.0, DARK)]
    raised, suppressed = [], []
    for index, (_, score, surprise) in enumerate(s for s in shown for _ in range(s[0] * FPS)):
        made, said = camera.update(Prediction(header(index), score, common_surprise=surprise), 5000.0)
        raised += [(alert.kind, index // FPS) for alert in said if alert.kind != "update"]
        suppressed += [made.suppressed]
    assert [kind for kind, _ in raised] == ["light_changed", "light_changed", "new", "end"]
    assert raised[2][1] in (90, 91)
    assert set(suppressed[30 * FPS : 60 * FPS]) == {"light"}
    assert set(suppressed[62 * FPS :]) == {""}
