"""An evaluation as text: every cell under its heading, whole on a terminal of 120 columns."""

import io

import numpy as np
import pytest
from rich.console import Console

from pipeline.console.evaluation import evaluation_tables
from pipeline.evaluation.protocols import evaluate
from pipeline.evaluation.tables import ALARM_COLUMNS, RANGE_COLUMNS, TABLE_COLUMNS, alarm_rows, range_rows, table_rows
from tests.evaluation.footage import dataset_of, frame_clip, maps_of, pixel_clip, score_rows, write_scores


@pytest.fixture
def two_scenes(tmp_path):
    clips = [frame_clip("01_0001", "01", [0, 0, 1, 1]), frame_clip("02_0001", "02", [0, 1, 0, 1])]
    rows = [score_rows("01_0001", [0.1, 0.9, 0.3, 0.9]), score_rows("02_0001", [0.6, 0.5, 0.1, 0.4])]
    return evaluate(write_scores(tmp_path / "scores", *rows), dataset_of(*clips))


def test_the_table_has_overall_floors_scenes_and_their_mean(two_scenes):
    rows = table_rows(two_scenes)
    assert all(len(row) == len(TABLE_COLUMNS) for row in rows)
    assert [row[0] for row in rows] == [
        "all frames",
        "floor: random scores",
        "floor: time passed in the clip",
        "mean over scenes",
        "scene 01",
        "scene 02",
    ]
    assert rows[0][TABLE_COLUMNS.index("pixel AUROC")] == "–" and rows[-1][1] == "0.5000"


def test_alarms_are_told_overall_and_per_scene(two_scenes):
    rows = alarm_rows(two_scenes)
    assert [row[0] for row in rows] == ["all frames", "scene 01", "scene 02"]
    # Of 4 normal frames at 10 fps one is above .8; no event: at most 3.69 in 0.4 s.
    assert rows[0][1:] == ("25.0 %", "0", "–", "0", "0 (0 to 33,200)", "0 of 2", "0", "–")
    assert all(len(row) == len(ALARM_COLUMNS) for row in rows)


def test_what_all_thresholds_give_is_told_overall_and_per_scene(two_scenes):
    rows = range_rows(two_scenes)
    assert [row[0] for row in rows] == ["all frames", "scene 01", "scene 02"]
    assert rows[0][1:] == ("8", "4", "2", "0 %", "1.0000", "–", "–", "–")  # three frames in a row are nowhere
    assert all(len(row) == len(RANGE_COLUMNS) for row in rows)


def test_a_terminal_of_120_columns_shows_all_tables_whole(tmp_path):
    clips = [pixel_clip(f"a{n}_1", f"a{n}", 10) for n in range(2)]
    maps = maps_of(clips[0])
    rows = [score_rows(clip.name, np.arange(10), maps=maps) for clip in clips]
    shown = Console(width=120, file=io.StringIO(), record=True)
    root = write_scores(tmp_path / "scores", *rows, maps=True)
    shown.print(evaluation_tables(evaluate(root, dataset_of(*clips)), "title"))
    text = shown.export_text()
    assert "…" not in text and "every frame's label, no place" in text and "not live" in text and "TBDC" in text
