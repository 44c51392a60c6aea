"""Joining written scores to ground truth: what comes out, and what is refused."""

import json
from dataclasses import astuple, replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.datasets.base import Clip
from pipeline.datasets.detect import open_dataset
from pipeline.errors import DatasetError, ScoresError
from pipeline.evaluation import pixels
from pipeline.evaluation.metrics import PixelHistogram, upsample
from pipeline.evaluation.protocols import METRICS, evaluate
from pipeline.evaluation.published import as_published
from pipeline.evaluation.regions import RegionCounter, cut_heights
from tests.evaluation.footage import (
    MODEL,
    ArrayLabels,
    dataset_of,
    frame_clip,
    maps_of,
    pixel_clip,
    score_rows,
    write_scores,
)
from tests.shared import shared_path

TWO_SCENES = dataset_of(
    frame_clip("01_0001", "01", [0, 0, 1, 1]),
    frame_clip("01_0002", "01", [1, 1, 1]),
    frame_clip("02_0001", "02", [0, 1, 0, 1]),
)
SCORES = {"01_0001": [0.1, 0.2, 0.3, 0.9], "01_0002": [0.15, 0.7, 0.8], "02_0001": [0.6, 0.5, 0.1, 0.4]}


@pytest.fixture
def two_scenes(tmp_path):
    return write_scores(tmp_path / "scores", *(score_rows(name, scores) for name, scores in SCORES.items()))


def test_frame_metrics_pool_frames_and_average_clips(two_scenes):
    result = evaluate(two_scenes, TWO_SCENES)
    labels = np.concatenate([clip.frame_labels() for clip in TWO_SCENES.test])
    assert result.overall.frame_auroc == pytest.approx(roc_auc_score(labels, np.concatenate(list(SCORES.values()))))
    assert result.overall.frame_auroc_macro == pytest.approx((1.0 + 0.5) / 2)
    assert (result.overall.frames, result.overall.anomalous_frames) == (11, 7)
    assert (result.overall.clips, result.overall.one_class_clips) == (3, 1)
    assert result.model == MODEL
    assert [clip.frame_auroc for clip in result.clips] == [1.0, None, 0.5]


def test_the_causal_auroc_is_that_of_the_smoothed_scores(tmp_path):
    clip = frame_clip("a", "a", [0, 1, 0, 1])
    smoothed = [0.1, 0.4, 0.9, 0.2]
    rows = [replace(row, smoothed_score=s) for row, s in zip(score_rows("a", range(4)), smoothed, strict=True)]
    result = evaluate(write_scores(tmp_path / "s", rows), dataset_of(clip)).overall
    assert (result.frame_auroc, result.frame_auroc_causal) == (0.75, 0.5)
    assert result.alarms.normal_above_threshold == 0.5  # the threshold is 0.8


def test_the_auroc_as_published_pools_clips_that_were_scaled_one_by_one(two_scenes):
    result = evaluate(two_scenes, TWO_SCENES).overall
    labels = np.concatenate([clip.frame_labels() for clip in TWO_SCENES.test])
    times = [np.arange(len(scores)) / 10 for scores in SCORES.values()]
    scaled = [as_published(np.array(scores), time) for scores, time in zip(SCORES.values(), times, strict=True)]
    ramps = [as_published(np.arange(time.size), time) for time in times]
    assert result.frame_auroc_as_published == pytest.approx(roc_auc_score(labels, np.concatenate(scaled)))
    floor = result.floors["frame_auroc_as_published"]["time_in_clip"]
    assert floor == pytest.approx(roc_auc_score(labels, np.concatenate(ramps)))


def test_scenes_are_measured_apart_and_their_mean_is_unweighted(two_scenes):
    result = evaluate(two_scenes, TWO_SCENES)
    assert list(result.scenes) == ["01", "02"]
    assert result.scenes["01"].frames == 7 and result.scenes["02"].frames == 4
    first, second = (result.scenes[scene].frame_auroc for scene in ("01", "02"))
    assert first == pytest.approx(0.9) and second == 0.5
    assert result.scene_mean["frame_auroc"] == pytest.approx((first + second) / 2)


def test_floors_come_from_labels_alone(two_scenes):
    floors = evaluate(two_scenes, TWO_SCENES).overall.floors
    labels = np.concatenate([clip.frame_labels() for clip in TWO_SCENES.test])
    ramp = np.concatenate([np.arange(1, n + 1) / n for n in (4, 3, 4)])
    assert floors["frame_auroc"] == {"random": 0.5, "time_in_clip": pytest.approx(roc_auc_score(labels, ramp))}
    assert floors["frame_auroc_macro"]["time_in_clip"] == pytest.approx((1.0 + 0.75) / 2)
    assert floors["pixel_auroc"] == {"random": None, "perfect_frames": None}


def test_the_json_is_strict_and_has_the_promised_keys(two_scenes):
    answer = json.loads(json.dumps(evaluate(two_scenes, TWO_SCENES).to_json(), allow_nan=False))
    promised = {*METRICS, "frames", "alarms", "floors"}
    assert promised | {"scenes", "model", "definitions", "dataset", "scene_mean", "per_clip"} <= answer.keys()
    assert all(promised <= scene.keys() for scene in answer["scenes"].values())
    assert answer["pixel_auroc"] is None and "no anomaly maps" in answer["pixel_note"]
    assert answer["per_clip"]["01_0002"] == {
        "scene": "01", "frames": 3, "anomalous_frames": 3, "frame_auroc": None, "thresholds": [""], "events": [],
        "anomalies": [{"first": 0, "last": 2, "delay_s": None, "under_alarm": False}],
    }  # fmt: skip


def test_a_data_set_of_one_class_has_null_metrics_not_nan(tmp_path):
    root = write_scores(tmp_path / "scores", score_rows("a", [0.1, 0.2]))
    answer = evaluate(root, dataset_of(frame_clip("a", "a", [1, 1]))).to_json()
    assert answer["frame_auroc"] is None and answer["frame_auroc_macro"] is None
    assert answer["floors"]["frame_auroc"] == {"random": None, "time_in_clip": None}
    json.dumps(answer, allow_nan=False)


def test_pixel_metrics_are_those_of_all_maps_upsampled_to_the_masks(tmp_path, monkeypatch):
    clips = [pixel_clip("a_1", "a", 10, seed=1), pixel_clip("b_1", "b", 14, seed=2)]
    maps = {clip.name: maps_of(clip) for clip in clips}
    rows = [score_rows(clip.name, maps[clip.name].max(axis=(1, 2)), maps=maps[clip.name]) for clip in clips]
    root = write_scores(tmp_path / "scores", *rows, maps=True)
    monkeypatch.setattr(pixels, "_CHUNK_PIXELS", 3 * 32 * 48)  # several chunks per clip
    result = evaluate(root, dataset_of(*clips))

    upsampled = np.concatenate([upsample(maps[clip.name], (32, 48)) for clip in clips])
    masks = np.concatenate([clip.pixel_labels() for clip in clips])
    whole = PixelHistogram()
    whole.add(masks, upsampled)
    assert result.overall.pixel_auroc == pytest.approx(roc_auc_score(masks.ravel(), upsampled.ravel()), abs=1e-5)
    assert result.overall.aupro == pytest.approx(whole.aupro(), abs=1e-12)
    assert result.overall.regions == 12 and result.overall.pixel_note is None
    counter = RegionCounter(cut_heights(maps.values()))
    for clip in clips:
        counter.begin_clip()
        counter.add(clip.pixel_labels(), maps[clip.name])
    assert (result.overall.rbdc, result.overall.tbdc, result.overall.tracks) == astuple(counter.criteria())
    assert result.scenes["a"].tracks + result.scenes["b"].tracks == result.overall.tracks > 1
    assert result.overall.pixel_auroc_error < 1e-4
    assert 0.5 < result.overall.floors["pixel_auroc"]["perfect_frames"] < result.overall.pixel_auroc
    assert result.scene_mean["aupro"] == pytest.approx(np.mean([scene.aupro for scene in result.scenes.values()]))


def test_one_clip_without_masks_leaves_its_scene_and_the_whole_without_pixel_metrics(tmp_path):
    with_masks, without = pixel_clip("a_1", "a", 10), frame_clip("b_1", "b", [0, 1])
    maps = maps_of(with_masks)
    rows = [score_rows("a_1", range(10), maps=maps), score_rows("b_1", range(2), maps=maps[:2])]
    result = evaluate(write_scores(tmp_path / "scores", *rows, maps=True), dataset_of(with_masks, without))
    assert result.overall.rbdc is result.overall.tbdc is result.overall.tracks is None
    assert result.overall.pixel_auroc is None and "b_1 has no pixel masks" in result.overall.pixel_note
    assert result.scenes["b"].pixel_auroc is None
    assert result.scenes["a"].pixel_auroc is not None and result.scenes["a"].pixel_note is None


def test_progress_reaches_the_number_of_frames(two_scenes):
    seen = []
    evaluate(two_scenes, TWO_SCENES, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 11), (7, 11), (11, 11)]


def refused(root, dataset) -> str:
    with pytest.raises(ScoresError) as caught:
        evaluate(root, dataset)
    assert "\n" not in str(caught.value) and str(root) in str(caught.value)
    return str(caught.value)


def test_a_frame_without_a_score_is_refused(tmp_path):
    root = write_scores(tmp_path / "s", score_rows("a", [0.1, 0.2, 0.4], frames=[0, 1, 3]))
    said = refused(root, dataset_of(frame_clip("a", "a", [0, 0, 1, 1])))
    assert "clip a" in said and "4 labelled frames, got 3; the first without is frame 2" in said


def test_scores_beyond_the_labels_are_refused(tmp_path):
    root = write_scores(tmp_path / "s", score_rows("a", [0.1, 0.2, 0.4]))
    assert "2 labelled frames, got one for frame 2" in refused(root, dataset_of(frame_clip("a", "a", [0, 1])))


def test_a_frame_with_two_scores_is_refused(tmp_path):
    root = write_scores(tmp_path / "s", score_rows("a", [0.1, 0.2, 0.3], frames=[0, 1, 1]))
    assert "got 2 for frame 1" in refused(root, dataset_of(frame_clip("a", "a", [0, 1])))


def test_a_clip_without_scores_is_refused_by_name(tmp_path):
    root = write_scores(tmp_path / "s", score_rows("a", [0.1, 0.2]))
    dataset = dataset_of(*(frame_clip(name, "x", [0, 1]) for name in "abcdef"))
    assert "all 6 test clips of toy, got none for b, c, d and 2 more" in refused(root, dataset)


def test_scores_of_a_clip_that_the_data_set_lacks_are_refused(tmp_path):
    root = write_scores(tmp_path / "s", score_rows("a", [0.1, 0.2]), score_rows("gate", [0.1]))
    assert "got also gate" in refused(root, dataset_of(frame_clip("a", "a", [0, 1])))


def test_scores_of_two_sessions_are_refused(tmp_path):
    root = write_scores(tmp_path / "s", score_rows("a", [0.1, 0.2]), score_rows("a", [0.3], session=1))
    assert "got also session 1" in refused(root, dataset_of(frame_clip("a", "a", [0, 1])))


def test_scores_of_two_models_are_refused(tmp_path):
    write_scores(tmp_path / "s", score_rows("a", [0.1, 0.2]))
    root = write_scores(tmp_path / "s", score_rows("b", [0.1, 0.2]), model="f" * 64)
    dataset = dataset_of(frame_clip("a", "a", [0, 1]), frame_clip("b", "a", [0, 1]))
    assert "expected scores of one model, got 2: 0123456789ab, ffffffffffff" in refused(root, dataset)


def test_a_smoothed_score_that_is_not_finite_is_refused_by_clip_and_frame(tmp_path):
    rows = score_rows("a", [0.1, 0.2, 0.3])
    root = write_scores(tmp_path / "s", [rows[0], replace(rows[1], smoothed_score=np.nan), rows[2]])
    assert "clip a: smoothed_score: expected finite" in refused(root, dataset_of(frame_clip("a", "a", [0, 1, 1])))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused_by_clip_and_frame(tmp_path, bad):
    root = write_scores(tmp_path / "s", score_rows("a", [0.1, bad, 0.3]))
    said = refused(root, dataset_of(frame_clip("a", "a", [0, 1, 1])))
    assert "clip a: anomaly_score" in said and "1 of 3" in said and "first at (1,)" in said


def test_a_map_that_is_not_finite_is_refused_by_clip(tmp_path):
    clip = pixel_clip("a", "a", 4)
    maps = maps_of(clip)
    maps[2, 1, 1] = np.inf
    root = write_scores(tmp_path / "s", score_rows("a", range(4), maps=maps), maps=True)
    with pytest.raises(ScoresError, match="clip a: anomaly maps from frame 0 on: expected finite scores"):
        evaluate(root, dataset_of(clip))


def test_labels_that_do_not_fit_each_other_are_a_fault_of_the_data_set(tmp_path):
    masks = np.zeros((3, 32, 48), dtype=bool)
    clip = Clip("a", "a", "nowhere.mp4", 4, ArrayLabels(np.array([False, True, True, True]), masks))
    maps = np.zeros((4, 4, 6), dtype=np.float16)
    root = write_scores(tmp_path / "s", score_rows("a", range(4), maps=maps), maps=True)
    with pytest.raises(DatasetError, match="clip a: expected 4 pixel masks, one per frame label, got 3"):
        evaluate(root, dataset_of(clip))


def test_a_data_set_without_test_clips_cannot_be_evaluated(two_scenes):
    with pytest.raises(DatasetError, match="expected test clips"):
        evaluate(two_scenes, dataset_of())


def test_random_maps_on_the_real_ped2_labels_score_like_the_random_floor(tmp_path):
    dataset = open_dataset(shared_path("data/ped2"), need="test")
    generator, rows = np.random.default_rng(0), []
    for clip in dataset.test:
        maps = generator.random((clip.frame_count, 8, 12)).astype(np.float16)
        rows.append(score_rows(clip.name, maps.max(axis=(1, 2)), maps=maps))
    result = evaluate(write_scores(tmp_path / "s", *rows, maps=True), dataset)
    assert (result.overall.frames, result.overall.anomalous_frames, result.overall.one_class_clips) == (990, 824, 2)
    assert result.overall.regions == 1203
    assert result.overall.pixel_auroc == pytest.approx(0.5, abs=0.02)
    assert result.overall.aupro == pytest.approx(0.15, abs=0.02)
    assert result.overall.floors["frame_auroc"]["time_in_clip"] == pytest.approx(0.6207, abs=1e-4)
