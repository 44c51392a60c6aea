"""A camera gets better by running: what a run has stored counts as normal footage afterwards, once."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import run_cluster
from pipeline.models.card import read_card
from tests.actors.test_commands import stream
from tests.training.footage import moving_square
from tests.videos import write_video

pytestmark = pytest.mark.usefixtures("ray_session")


def calibrate(*arguments):
    done = CliRunner().invoke(run_cluster.app, ["calibrate", "--json", *map(str, arguments)])
    assert done.exception is None, done.exception
    return {promise["camera_id"]: promise for promise in map(json.loads, done.stdout.splitlines())}


def test_what_a_run_has_stored_counts_for_its_own_cameras_and_only_once(trained, tmp_path):
    model = shutil.copytree(trained.folder, tmp_path / "model")
    write_video(tmp_path / "gate.mp4", moving_square(200, seed=3), size_px=(64, 96), fps=10)
    (scene, *_) = read_card(model).scenes
    cameras = {
        name: {"id": name, "url": str(tmp_path / "gate.mp4"), "scene": scene, "loop": False} for name in ("one", "two")
    }
    stream(trained, tmp_path, cameras)
    given = ("--model", model, "--config", tmp_path / "stream.yaml")
    before = calibrate(*given)
    added = (*given, "--from-run", tmp_path / "run", "--unconfirmed-are-normal")
    after = calibrate(*added, "--camera", "one")
    assert after["one"]["normal_hours"] - before["one"]["normal_hours"] == pytest.approx(20 / 3600, rel=0.02)
    assert after["one"]["thresholds"] != before["one"]["thresholds"]
    assert after["two"] == before["two"]
    assert calibrate(*added, "--camera", "one") == after
    assert calibrate(*added)["two"]["normal_hours"] == pytest.approx(after["one"]["normal_hours"])
