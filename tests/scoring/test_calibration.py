import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_settings import AlertSettings, CameraSettings
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.calibrations import Calibrations, provisional_lines
from pipeline.scoring.smoothed import smoothed
from pipeline.scoring.smoothing import CausalSmoother, smooth
from tests.models.tiny import tiny_model
from tests.scoring.footage import busy_scores, calibrated, stretch

SETTINGS = AlertSettings(quantile=0.9, close_quantile=0.5)
scores = st.lists(st.floats(-100, 100), min_size=1, max_size=60)


def p_value(normal, score):
    return calibrated(normal, SETTINGS).p_value(score, paired=True)


@given(scores, st.floats(-150, 150))
def test_a_p_value_is_the_share_of_normal_scores_at_least_as_high_counting_itself(normal, score):
    p = p_value(normal, score)
    assert p == (1 + sum(s >= score for s in normal)) / (len(normal) + 1)
    assert 0.0 < p <= 1.0


def test_p_values_of_exchangeable_frames_are_valid():
    # P(p <= a) <= a, over many draws of held-out and new scores alike.
    generator = np.random.default_rng(0)
    p = np.array([p_value(generator.normal(size=99), float(generator.normal())) for _ in range(1000)])
    for a in (0.01, 0.05, 0.2, 0.5):
        assert abs(np.mean(p <= a) - a) < 4 * np.sqrt(a * (1 - a) / len(p))


@given(scores, st.floats(0.5, 0.99))
def test_a_quantile_is_a_score_that_was_seen_and_no_more_than_its_share_lies_above(normal, quantile):
    settings = AlertSettings(quantile=quantile, close_quantile=0.25, smoothing_s=0.0)
    thresholds = calibrated(normal, settings).thresholds
    assert thresholds.opening in normal
    assert sum(s > thresholds.opening for s in normal) <= (1 - quantile) * len(normal)
    assert not thresholds.provisional


@given(st.lists(scores, min_size=1, max_size=3), st.sampled_from([0.0, 0.3, 5.0]))
def test_footage_is_smoothed_clip_by_clip_as_live_frames_are(clips, smoothing_s):
    for clip, seen in zip(clips, smoothed([stretch(clip) for clip in clips], None, smoothing_s), strict=True):
        smoother = CausalSmoother(smoothing_s)
        live = [smoother.update(s, 0, i / 8.0) for i, s in enumerate(clip)]
        np.testing.assert_allclose(seen.scores, live, rtol=1e-12, atol=1e-12)


@given(st.lists(scores, min_size=1, max_size=4), st.sampled_from([1.0, 2.0, 5.0, 9.0, 30.0, 1e-300, None]))
def test_thinning_keeps_every_score_and_spaces_frames_as_the_camera_does(clips, sample_fps):
    seen = smoothed([stretch(clip, 10.0) for clip in clips], sample_fps, 0.0)
    assert sorted(s for one in seen for s in one.scores) == sorted(s for clip in clips for s in clip)
    assert sum(one.hours for one in seen) == pytest.approx(sum(map(len, clips)) / 36_000)
    if sample_fps in (1.0, 2.0, 5.0):
        step = round(10.0 / sample_fps)
        sequences = [clip[offset::step] for clip in clips for offset in range(step)]
        assert [one.scores.tolist() for one in seen] == [sequence for sequence in sequences if sequence]
        assert {one.fps for one in seen} == {sample_fps}


def test_a_thinned_camera_is_smoothed_less_so_its_threshold_is_higher():
    normal = [stretch(np.random.default_rng(3).normal(size=2000), 10.0)]
    settings = AlertSettings(quantile=0.99, smoothing_s=0.5)
    as_filmed, thinned = (Calibration.of(normal, settings, fps).thresholds for fps in (None, 2.0))
    assert as_filmed.opening < thinned.opening
    assert smooth(normal[0].scores, 10.0, 0.5).max() < normal[0].scores.max()


def test_a_version_names_all_that_decides_thresholds_and_nothing_else():
    normal, other = [stretch([1.0, 2.0, 3.0])], [stretch([1.0, 2.0, 4.0])]
    made = Calibration.of(normal, AlertSettings())
    assert len(made.thresholds.version) == 12
    changed = [
        Calibration.of(other, AlertSettings()),
        Calibration.of([stretch([1.0, 2.0, 3.0], kind="learned")], AlertSettings()),
        Calibration.of([stretch([1.0, 2.0, 3.0], unpaired=[1.0, 2.0, 3.0])], AlertSettings()),
        Calibration.of([stretch([1.0, 2.0]), stretch([3.0])], AlertSettings()),
        Calibration.of(normal, AlertSettings(), 2.0),
        Calibration.of(normal, AlertSettings(budget="1/week")),
        Calibration.of(normal, AlertSettings(close_s=3.0)),
    ]
    assert len({one.thresholds.version for one in [made, *changed]}) == 1 + len(changed)
    again = Calibration.of([stretch([1.0, 2.0, 3.0])], AlertSettings(update_s=99.0))
    assert again.thresholds == made.thresholds


def card(**minutes):
    """Of a model that knows that many minutes of each of these scenes."""
    made, *_ = tiny_model(scenes=tuple(minutes))
    normal = {scene: (tuple(busy_scores(length / 60, 5.0, seed=1).tolist()),) for scene, length in minutes.items()}
    return made.model_copy(update={"normal_scores": normal, "normal_fps": 5.0, "fingerprint": "f"})


def camera(name, scene, **alerts):
    return CameraSettings(id=name, url="rtsp://h/x", scene=scene, alerts=AlertSettings(**alerts))


def test_cameras_of_one_scene_and_setting_share_what_is_calibrated_once():
    known, made = card(gate=1, yard=1), Calibrations()
    first = made.of(known, camera("a", "gate"))
    assert all(made.of(known, camera(f"c{n}", "gate")) is first for n in range(1000))
    assert made.of(known, camera("b", "yard")) is not first
    assert made.of(known, camera("b", "gate", budget="1/week")) is not first
    made.keep(["other"])
    assert made.of(known, camera("a", "gate")) is not first


def test_what_footage_cannot_promise_is_said_in_one_line_per_budget():
    cameras = [camera("a", "gate"), camera("b", "yard"), camera("c", "nowhere", budget="1/week")]
    cameras += [camera("d", "gate", budget="400/hour"), camera("e", "gate", quantile=0.99)]
    assert provisional_lines(cameras, card(gate=24, yard=48)) == [
        "2 cameras (a, b): 24 min to 48 min of normal footage support a budget of 3.7 per hour at best, not 1/day: "
        "thresholds are provisional, 71 h more would do "
        "(cflow-stream calibrate adds what was recorded, or what a run has stored)",
        "camera c: no normal footage of its own supports any promise, not 1/week: thresholds are provisional, "
        "21 days more would do (cflow-stream calibrate adds what was recorded, or what a run has stored)",
    ]
