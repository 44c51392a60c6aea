import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import CheckpointError
from pipeline.scoring.calibration import ScoreCalibration
from pipeline.scoring.smoothing import CausalSmoother

scores = st.lists(st.floats(-100, 100), min_size=1, max_size=60)


@given(scores, st.floats(-150, 150))
def test_a_p_value_is_the_share_of_normal_scores_at_least_as_high_counting_itself(normal, score):
    p = ScoreCalibration([normal], 10.0).p_value(score)
    assert p == (1 + sum(s >= score for s in normal)) / (len(normal) + 1)
    assert 0.0 < p <= 1.0


@given(scores, st.floats(-150, 150), st.floats(-150, 150))
def test_a_higher_score_is_never_more_normal(normal, one, other):
    table = ScoreCalibration([normal], 10.0)
    assert table.p_value(max(one, other)) <= table.p_value(min(one, other))


def test_p_values_of_exchangeable_frames_are_valid():
    # P(p <= a) <= a, over many draws of held-out and new scores alike.
    generator = np.random.default_rng(0)
    p = [ScoreCalibration([generator.normal(size=99)], 10.0).p_value(float(generator.normal())) for _ in range(4000)]
    for a in (0.01, 0.05, 0.2, 0.5):
        share = np.mean(np.array(p) <= a)
        assert abs(share - a) < 4 * np.sqrt(a * (1 - a) / len(p))


def test_no_frame_is_rarer_than_one_of_the_normal_ones_and_itself():
    normal = ScoreCalibration([[1.0, 2.0], [3.0]], 10.0)
    assert len(normal) == 3
    assert normal.p_value(99.0) == 0.25


@given(scores, st.floats(0.01, 0.99))
def test_a_threshold_is_a_score_that_was_seen_and_no_more_than_its_share_lies_above(normal, quantile):
    threshold = ScoreCalibration([normal], 10.0).threshold(quantile, 0.0)
    assert threshold in normal
    assert sum(s > threshold for s in normal) <= (1 - quantile) * len(normal)


def test_thresholds_are_of_scores_smoothed_clip_by_clip_as_live_ones_are():
    generator = np.random.default_rng(1)
    clips = [generator.gamma(2.0, size=n).tolist() for n in (40, 3, 25)]
    smoothed = []
    for clip in clips:
        smoother = CausalSmoother(0.3)
        smoothed += [smoother.update(s, 0, i / 8.0) for i, s in enumerate(clip)]
    assert ScoreCalibration(clips, 8.0).threshold(0.9, 0.3) == np.quantile(smoothed, 0.9, method="higher")


def test_smoothing_lowers_a_high_quantile():
    normal = ScoreCalibration([np.random.default_rng(2).normal(size=500)], 10.0)
    assert normal.threshold(0.99, 1.0) < normal.threshold(0.99, 0.0)


@given(st.lists(scores, min_size=1, max_size=4), st.sampled_from([1.0, 2.0, 5.0, 9.0, 30.0, None]))
def test_thinning_keeps_every_score_and_spaces_frames_as_the_camera_does(clips, sample_fps):
    normal = ScoreCalibration(clips, 10.0)
    thinned = normal.subsampled(sample_fps)
    quantiles = np.linspace(0.0, 1.0, 2 * len(normal) + 1)
    assert len(thinned) == len(normal)
    assert [thinned.threshold(q, 0.0) for q in quantiles] == [normal.threshold(q, 0.0) for q in quantiles]
    if sample_fps in (1.0, 2.0, 5.0):
        step = round(10.0 / sample_fps)
        sequences = [clip[offset::step] for clip in clips for offset in range(step)]
        as_filmed = ScoreCalibration(sequences, sample_fps)
        assert [thinned.threshold(q, 1.0) for q in quantiles] == [as_filmed.threshold(q, 1.0) for q in quantiles]


def test_a_thinned_camera_is_smoothed_less_so_its_threshold_is_higher():
    normal = ScoreCalibration([np.random.default_rng(3).normal(size=2000)], 10.0)
    assert normal.subsampled(2.0).threshold(0.99, 0.5) > normal.threshold(0.99, 0.5)


def test_a_scene_the_model_does_not_know_gets_all_scenes_together_and_it_is_said(caplog):
    table = {"a": [[1.0, 2.0]], "b": [[5.0]], "empty": [[]]}
    assert len(ScoreCalibration.of_scene(table, "a", 10.0, camera_id="gate")) == 2
    assert not caplog.records
    assert len(ScoreCalibration.of_scene(table, "empty", 10.0, camera_id="gate")) == 3
    assert len(ScoreCalibration.of_scene(table, "nowhere", 10.0, camera_id="gate")) == 3
    assert "camera gate" in caplog.text
    assert "'nowhere'" in caplog.text


def test_frames_without_a_pair_have_a_calibration_of_their_own_where_one_was_measured():
    normal = {"a": [[1.0, 2.0]], "b": [[5.0]]}

    def unpaired(scores, scene):
        return ScoreCalibration.of_unpaired(scores, normal, scene, 10.0, camera_id="gate")

    found = unpaired({"a": [[3.0], [4.0]], "b": [[]]}, "a")
    assert found is not None
    assert found.p_value(3.5) == 2 / 3
    assert unpaired({"a": [[3.0], [4.0]], "b": [[]]}, "b") is None  # rather b's own scores than those of a
    pooled = unpaired({"a": [[3.0], [4.0]], "b": [[6.0]]}, "nowhere")
    assert pooled is not None
    assert len(pooled) == 3
    for scene in ("a", "nowhere"):
        assert unpaired({}, scene) is None
    with pytest.raises(CheckpointError, match=r"camera gate: model.json: unpaired_scores: expected finite"):
        unpaired({"a": [[float("inf")]]}, "a")


@pytest.mark.parametrize(
    ("clips", "fps", "said"),
    [
        ([], 10.0, "got none"),
        ([[]], 10.0, "got none"),
        ([[1.0, float("nan")]], 10.0, "expected finite"),
        ([[1.0]], 0.0, "normal_fps"),
        ([[1.0]], float("nan"), "normal_fps"),
    ],
)
def test_normal_scores_that_cannot_be_used_are_refused(clips, fps, said):
    with pytest.raises(CheckpointError, match=said):
        ScoreCalibration(clips, fps)


@pytest.mark.parametrize("sample_fps", [1e-3, 1e-300])
def test_a_camera_that_is_hardly_ever_looked_at_still_has_a_threshold_of_its_own(sample_fps):
    normal = ScoreCalibration([[1.0, 2.0, 3.0], [4.0]], 10.0).subsampled(sample_fps)
    assert len(normal) == 4
    assert normal.threshold(0.99, 0.3) == 4.0
