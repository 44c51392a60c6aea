"""The accuracy benchmark: exact cuts, one configuration for all sets, nothing done twice, a matrix that is true."""

import json
import sys

import numpy as np
import pytest
import yaml

from benchmarks import accuracy, machine
from benchmarks.accuracy_matrix import COLUMNS, matrix, open_from
from benchmarks.accuracy_sets import SETS, AccuracySet, chosen_sets, cut, split_recording
from pipeline.config_file import parse_config
from pipeline.datasets.detect import open_dataset
from pipeline.errors import BadInputError, DatasetError
from pipeline.video.source import open_source
from tests.models_for_tests import TINY
from tests.videos import write_video


def frames_of(path, size_px=(48, 80)):
    with open_source(str(path), size_px) as source:
        return [(frame.pts * frame.time_base, frame.image) for frame in source]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_cut_holds_the_very_pixels_and_times_of_the_recording(tmp_path, codec):
    whole = write_video(tmp_path / "whole.mp4", 30, codec=codec, b_frames=2 if codec == "libx264" else 0)
    part = cut(whole, tmp_path / "part.mkv", 7, 19)
    expected, got = frames_of(whole)[7:19], frames_of(part)
    assert len(got) == 12
    for (time, image), (as_cut, pixels) in zip(expected, got, strict=True):
        assert float(as_cut) == pytest.approx(float(time), abs=1e-3)  # Matroska counts milliseconds
        assert np.array_equal(pixels, image)


def test_a_recording_becomes_a_data_set_to_learn_from_and_to_watch(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", 30)
    split_recording(whole, "yard", tmp_path / "data", train=10, watch_from=6, anomalous=[slice(20, None)])
    dataset = open_dataset(tmp_path / "data", need="any")
    (train,), (test,) = dataset.train, dataset.test
    assert (train.scene, test.scene, test.frame_count) == ("yard", "yard", 24)
    assert np.flatnonzero(test.frame_labels()).tolist() == [20, 21, 22, 23]
    assert len(frames_of(train.url)) == 10


def test_all_sets_share_one_configuration_but_for_the_size_of_the_image():
    settings = [accuracy.settings_of(accuracy.CONFIG, of, 7, None) for of in SETS]
    assert [one["model"].pop("image_size_px") for one in settings] == [list(of.image_size_px) for of in SETS]
    assert all(one == settings[0] for one in settings)
    whole = parse_config({**settings[0], "model": settings[0]["model"] | {"image_size_px": [64, 96]}})
    assert (whole.training.seed, whole.output.maps) == (7, True)
    assert accuracy.settings_of(accuracy.CONFIG, SETS[0], 7, 9)["training"]["epochs"] == 9


def test_what_is_asked_for_and_not_there_is_refused_in_one_line(tmp_path):
    with pytest.raises(DatasetError, match=r"--sets: expected some of ped2,.*, got 'ped3'"):
        chosen_sets(SETS, "avenue,ped3")
    with pytest.raises(BadInputError, match="--seeds: expected numbers"):
        accuracy.chosen_seeds("0,x")
    with pytest.raises(DatasetError, match=r"yard: expected footage in .*nowhere, got none"):
        AccuracySet("yard", (64, 96), tmp_path / "nowhere").footage(tmp_path / "footage")


def test_footage_is_made_once_and_anew_where_it_was_cut_short(tmp_path):
    made = []

    def make(folder):
        folder.mkdir()
        made.append(sorted(path.name for path in folder.parent.iterdir()))
        if len(made) == 1:
            raise KeyboardInterrupt

    of = AccuracySet("yard", (64, 96), None, make)
    with pytest.raises(KeyboardInterrupt):
        of.footage(tmp_path / "footage")
    assert [of.footage(tmp_path / "footage") for _ in range(2)] == [tmp_path / "footage" / "data"] * 2
    assert made == [["data"], ["data"]]


EVENTS = [{"opened": 5, "last": 9, "first": 3, "false": True}, {"opened": 20, "last": 40, "first": 18, "false": False}]


@pytest.mark.parametrize(("frame", "opened"), [(0, 5), (7, 7), (10, 20), (30, 30), (41, None)])
def test_an_event_is_open_from_its_first_alert_to_its_last_frame(frame, opened):
    assert open_from(EVENTS, frame) == opened


def evaluated(frame_auroc, above):
    frame = {"random": 0.5, "time_in_clip": 0.62}
    alarms = {"normal_above_threshold": above, "events": 2, "false_events": 1, "anomalies": 3, "anomalies_found": 1}
    metrics = {"frame_auroc": frame_auroc, "frame_auroc_causal": 0.9, "frame_auroc_as_published": 0.95}
    return {
        **metrics,
        "pixel_auroc": None,
        "aupro": None,
        "alarms": {**alarms, "delay_median_s": 0.4},
        "floors": {**dict.fromkeys(metrics, frame), "pixel_auroc": {"random": None}, "aupro": {"random": None}},
    }


def test_the_matrix_has_mean_lowest_and_highest_and_the_floor():
    lines = matrix({"yard": {0: evaluated(0.8, 0.05), 1: evaluated(0.9, 0.15)}}).splitlines()
    assert lines[0] == f"| {' | '.join(COLUMNS)} |"
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:7] == [
        "yard (2)", "0.850 (0.800 to 0.900)", "0.900 (0.900 to 0.900)", "0.950 (0.950 to 0.950)", "–", "–",
        "10.0 (5.0 to 15.0) %",
    ]  # fmt: skip
    floors = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert floors[:5] == ["floor", "0.620", "0.620", "0.620", "–"] and floors[-2] == "of 3"


@pytest.mark.ray
def test_a_set_is_trained_replayed_and_evaluated_and_what_is_complete_stays(tmp_path, trained, monkeypatch, capsys):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump({**TINY, "redis": {"url": "embedded"}}))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    tiny = AccuracySet("tiny", (64, 96), trained.dataset.root)
    monkeypatch.setattr(accuracy, "SETS", (tiny,))
    places = ["--out", str(tmp_path / "out"), "--config", str(config)]
    monkeypatch.setattr(sys, "argv", ["accuracy", "--sets", "tiny", "--seeds", "0", *places])
    accuracy.main()
    first = capsys.readouterr().out
    folder = tmp_path / "out" / "tiny" / "seed-0"
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix in {".parquet", ".safetensors"}}
    assert len(made) > 1 and not (tmp_path / "out" / "tiny" / "features").exists()
    accuracy.main()
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in made} == made
    stored = json.loads(next((tmp_path / "results").glob("accuracy-*.json")).read_text())
    assert 0.0 <= stored["found"]["tiny"]["0"]["frame_auroc_causal"] <= 1.0
    assert first.startswith("| set |") and "| tiny (1) |" in first
    assert stored == json.loads(first.splitlines()[-1])
