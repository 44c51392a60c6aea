"""The benchmark of alarms: unseen clips are unseen, every event is a shot of its kind, a budget means thresholds."""

import numpy as np
from PIL import Image

from benchmarks.alarms_budgets import BUDGETS, at_budgets, heldout_events
from benchmarks.alarms_on_footage import shots_of
from benchmarks.alarms_sets import ped2_with_unseen_clips
from benchmarks.contact_sheet import Tile, contact_sheet
from pipeline.camera_settings import AlertSettings
from pipeline.datasets.detect import open_dataset
from pipeline.evaluation.protocols import evaluate
from pipeline.models.normal_stretches import stretches_of_scene
from pipeline.scoring.calibration import Calibration
from pipeline.sinks.parquet_reader import read_clip_scores
from tests.evaluation.footage import dataset_of, frame_clip, rows_with_event, score_rows, write_scores
from tests.models.tiny import tiny_model
from tests.shared import shared_path


def test_two_of_ped2s_clips_are_watched_and_not_trained_on(tmp_path):
    shared_path("data/ped2")
    ped2_with_unseen_clips(tmp_path)
    dataset = open_dataset(tmp_path, need="any")
    assert len(dataset.train) == 14 and len(dataset.test) == 8
    assert not {clip.name for clip in dataset.train} & {clip.name for clip in dataset.test}
    unseen = [clip for clip in dataset.test if not clip.frame_labels().any()]
    assert [clip.name for clip in unseen] == ["01_015", "01_016"]
    assert all(clip.pixel_labels().shape == (150, 240, 360) for clip in unseen)


def test_every_event_and_every_miss_is_a_shot_of_its_kind_at_its_peak(tmp_path):
    labels = [0] * 20 + [1] * 20 + [0] * 20 + [1] * 10
    clip = frame_clip("a", "a", labels)
    scores = np.zeros(70)
    scores[5], scores[25], scores[65] = 3.0, 4.0, 0.5
    rows = rows_with_event("a", scores, 3, 8)
    rows[22:30] = rows_with_event("a", scores, 20, 29)[22:30]
    root = write_scores(tmp_path / "s", rows)
    shots = shots_of(evaluate(root, dataset_of(clip)).to_json(), read_clip_scores(root))
    assert [(shot.kind, shot.frame) for shot in shots] == [("false", 5), ("found", 25), ("missed", 65)]
    assert "labelled 6.0 to 6.9 s" in shots[2].told


def test_rarer_budgets_raise_thresholds_and_open_nothing_on_footage_that_they_were_made_of(tmp_path):
    rng = np.random.default_rng(3)
    made, *_ = tiny_model(scenes=("a",))
    card = made.model_copy(update={"normal_scores": {"a": (tuple(rng.normal(size=3000)),)}, "normal_fps": 10.0})
    clip = frame_clip("a", "a", [0] * 30 + [1] * 30)
    scores = np.where(np.arange(60) < 30, 0.0, 60.0)
    written = read_clip_scores(write_scores(tmp_path / "s", score_rows("a", scores)))
    found = at_budgets(card, AlertSettings(), [clip], written)
    assert [at["budget"] for at in found] == list(BUDGETS)
    thresholds = [at["thresholds"]["a"] for at in found]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1]
    assert all((at["anomalies_found"], at["anomalies"], at["false_events"]) == (1, 1, 0) for at in found)
    assert found[-1]["events_on_heldout_normal_footage"] == 0
    settings = AlertSettings(quantile=0.5, close_quantile=0.1)
    stretches = stretches_of_scene(card, "a")
    assert heldout_events(stretches, Calibration.of(stretches, settings).thresholds, settings) > 0


def test_a_sheet_holds_all_tiles(tmp_path):
    tiles = [
        Tile(np.full((20, 30, 3), shade, np.uint8), "what it is " * 9, "#b3263a") for shade in (0, 90, 180, 250, 10)
    ]
    with Image.open(contact_sheet(tiles, tmp_path / "sheet.png")) as sheet:
        assert sheet.width == 4 * 288 and sheet.height == 2 * 264
