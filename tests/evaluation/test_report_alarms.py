"""The worst false alarms and misses as pictures: which, in which order, with what beside them."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.protocols import evaluate
from pipeline.evaluation.report import write_report
from pipeline.evaluation.report_alarms import MOST_SHOWN, false_alarms, misses, shown
from pipeline.sinks.parquet_reader import read_clip_scores
from tests.evaluation.footage import dataset_of, maps_of, pixel_clip, rows_with_event, score_rows, write_scores


@pytest.fixture
def material(tmp_path):
    """Three clips of 40 frames, anomalous from frame 20 on: a weak false event, a strong one, and a long miss."""
    clips = [pixel_clip(f"cam_{n}", "cam", 40, tmp_path / "footage", seed=n) for n in range(3)]
    dataset = dataset_of(*clips)
    weak, strong, none = np.zeros(40), np.zeros(40), np.zeros(40)
    weak[4:8], weak[30:] = [0.9, 0.9, 1.0, 0.9], 0.95
    strong[6:10] = [1.0, 3.0, 5.0, 1.0]
    none[25] = 0.75
    rows = [rows_with_event("cam_0", weak, 4, 7), rows_with_event("cam_1", strong, 6, 9), score_rows("cam_2", none)]
    rows[0] = [
        replace(row, event_id="cam_0-1700000003000-0-30", event_start_s=3.0) if index >= 32 else row
        for index, row in enumerate(rows[0])
    ]
    rows = [[replace(row, anomaly_map=map_) for row, map_ in zip(of, maps_of(clip), strict=True)]
            for of, clip in zip(rows, clips, strict=True)]  # fmt: skip
    scores = write_scores(tmp_path / "scores", *rows, maps=True)
    return evaluate(scores, dataset), scores, dataset


def test_false_alarms_come_by_how_far_they_went_above_the_threshold(material):
    evaluation, scores, _ = material
    found = false_alarms(evaluation, read_clip_scores(scores))
    assert [(mistake.clip, mistake.frame) for mistake in found] == [("cam_1", 8), ("cam_0", 6)]
    assert found[0].caption == (
        "cam_1, 0.8 s: score 5 (as high: 1 in 2 normal frames), smoothed 5, threshold 0.8;"
        " alarm from 0.6 s to 0.9 s with nothing labelled when it opened."
    )


def test_a_false_alarm_that_stays_on_is_shown_before_what_it_was_not_about(material, tmp_path):
    dataset = dataset_of(material[2].test[0])
    scores = np.full(40, 0.9)
    scores[[15, 30]] = 1.5, 9.0  # something is there from frame 20 on
    root = write_scores(tmp_path / "long", rows_with_event("cam_0", scores, 4, 39))
    (found,) = false_alarms(evaluate(root, dataset), read_clip_scores(root))
    assert (found.frame, found.weight) == (15, pytest.approx(0.7))
    assert "alarm from 0.4 s to 3.9 s" in found.caption


def test_misses_come_by_how_long_they_last_and_show_where_they_came_closest(material):
    evaluation, scores, _ = material
    found = misses(evaluation, read_clip_scores(scores))
    assert [(mistake.clip, mistake.frame) for mistake in found] == [("cam_1", 20), ("cam_2", 25)]
    assert (
        "smoothed 0.75, threshold 0.8; labelled from 2.0 s to 3.9 s, no alert opened then (nothing" in found[1].caption
    )


def test_each_is_its_own_frame_under_its_own_map_and_no_more_are_shown_than_asked_for(material):
    evaluation, scores, dataset = material
    written, clips = read_clip_scores(scores), {clip.name: clip for clip in dataset.test}
    worst = false_alarms(evaluation, written)
    both = shown(worst, clips, written, (0.0, 1.0))
    assert (both.total, [picture.caption for picture in both.pictures]) == (2, [mistake.caption for mistake in worst])
    one = shown(worst, clips, written, (0.0, 1.0), most=1)
    assert (one.total, one.pictures) == (2, both.pictures[:1])
    frame, under_map = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
        for address in one.pictures[0].addresses
    )
    with Image.open(f"{clips['cam_1'].url}/008.png") as original:
        assert frame.mean() == pytest.approx(np.asarray(original).mean(), abs=2)
    assert under_map.shape == frame.shape and np.ptp(under_map.mean(axis=(0, 1))) > 5  # the map has colours
    assert len(shown(worst, clips, written, None).pictures[0].addresses) == 1


def test_the_report_shows_both_or_says_that_there_are_none(material, tmp_path):
    evaluation, scores, dataset = material
    page = write_report(tmp_path / "report.html", evaluation, scores, dataset).read_text(encoding="utf-8")
    alarms, of_misses = page.index("<h2>Worst false alarms"), page.index("<h2>Worst misses")
    assert page[alarms:of_misses].count("<figure>") == 2 <= MOST_SHOWN
    assert "2 of 2 anomalies during which no alert opened" in page[of_misses:]
    rows = [rows_with_event(clip.name, np.arange(40) >= 20, 20, 39) for clip in dataset.test]
    good = write_scores(tmp_path / "good", *rows)
    page = write_report(tmp_path / "good.html", evaluate(good, dataset), good, dataset).read_text(encoding="utf-8")
    assert "no event opened for nothing" in page and "an alert opened during every anomaly" in page
