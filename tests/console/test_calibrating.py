"""`calibrate`, and what `train` says at its end, over real videos."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

import run_cluster
from pipeline.errors import BadInputError, CheckpointError, ConfigError
from pipeline.models.card import read_card
from pipeline.models.normal_file import NORMAL_FILE
from pipeline.models.normal_store import NormalStore
from pipeline.run_folder import RunFolder
from pipeline.shipped import shipped_config
from pipeline.sinks.schema import alert_object
from pipeline.verdicts import Verdict, add_verdict
from tests.calibrate.test_from_run import camera, run
from tests.models_for_tests import TINY
from tests.training.footage import moving_square
from tests.videos import write_video


def footage(root, seconds, seeds=(0,)):
    """A folder of one camera's normal footage, as `record` lays it out."""
    folder = root / "training" / "videos"
    folder.mkdir(parents=True)
    for seed in seeds:
        write_video(folder / f"gate_{seed:03d}.mp4", moving_square(10 * seconds, seed), size_px=(64, 96), fps=10)
    return root


def said(*arguments):
    """What a command prints."""
    done = CliRunner().invoke(run_cluster.app, [*map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def shown(*arguments):
    """The one line of JSON that `calibrate` prints."""
    (line,) = said("calibrate", "--json", *arguments).splitlines()
    return json.loads(line)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder with a config, footage and a model, and what `train` said."""
    folder = tmp_path_factory.mktemp("calibrate")
    cameras = [{"id": "gate-1", "url": "rtsp://nowhere/1", "scene": "gate"}]
    (folder / "c.yaml").write_text(json.dumps({**TINY, "cameras": cameras}))
    learned = footage(folder / "learned", 12)
    return folder, said("train", "--config", folder / "c.yaml", "--data", learned, "--out", folder / "m")


def test_a_training_ends_with_what_its_footage_supports(made):
    folder, output = made
    assert read_card(folder / "m").provenance.folds == 3
    assert "each unseen by one of 3 further models" in output
    assert "provisional: supports" in output  # twelve seconds do not tell of a day


def test_more_footage_gives_more_hours_and_another_version_to_the_same_model(made):
    folder, _ = made
    arguments = ("--model", folder / "m", "--config", folder / "c.yaml")
    before = shown(*arguments)
    assert (before["camera_id"], before["scene"], before["provisional"]) == ("gate-1", "gate", True)
    assert before["normal_hours"] == pytest.approx(12 / 3600)
    more, fingerprint = footage(folder / "more", 20, seeds=(5,)), read_card(folder / "m").fingerprint
    after = shown(*arguments, "--data", more)
    assert after["normal_hours"] == pytest.approx(32 / 3600)
    assert after["hours_missing"] == pytest.approx(before["hours_missing"] - 20 / 3600)
    assert after["thresholds"] != before["thresholds"]
    assert read_card(folder / "m").fingerprint == fingerprint
    with pytest.raises(BadInputError, match="expected normal footage that the model has not seen, found none"):
        shown(*arguments, "--data", more)
    assert shown(*arguments) == after
    assert len(NormalStore.read(folder / "m", fingerprint).added) == 1


@pytest.mark.parametrize(("verdict", "seconds"), [(None, 89.8), ("confirmed", 89.8), ("dismissed", 119.9)])
def test_a_run_gives_what_is_outside_its_events_and_those_that_were_dismissed(made, tmp_path, verdict, seconds):
    folder, _ = made
    shutil.copytree(folder / "m", tmp_path / "m")
    card = read_card(tmp_path / "m")
    scores = np.full(1200, min(card.normal_scores["gate"][0]))
    scores[500:600] = 1e3
    alerts = run(tmp_path / "run", scores, card=card, settings=camera(alerts={"smoothing_s": 0.0, "open_s": 0.0}))
    if verdict is not None:
        add_verdict(RunFolder(tmp_path / "run").verdicts_file, Verdict.on(alert_object(alerts[0]), verdict, 1.0))
    said("calibrate", "--model", tmp_path / "m", "--config", folder / "c.yaml", "--from-run", tmp_path / "run")
    added = [one for one in NormalStore.read(tmp_path / "m", card.fingerprint).added if one.camera_id == "gate-1"]
    assert sum(one.until_s - one.since_s for one in added) == pytest.approx(seconds, abs=0.5)


def test_a_damaged_store_costs_one_line_and_what_it_held(made, tmp_path):
    folder, _ = made
    for file in (folder / "m").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = bytearray((tmp_path / NORMAL_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / NORMAL_FILE).write_bytes(content[:-9])
    assert shown("--model", tmp_path)["normal_hours"] == pytest.approx(12 / 3600)
    more = footage(tmp_path / "more", 6, seeds=(7,))
    with pytest.raises(CheckpointError, match=f"{NORMAL_FILE}: expected normal footage written by 'train'"):
        shown("--model", tmp_path, "--data", more)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--data", "d", "--from-run", "r"), "expected --data or --from-run, got both"),
        (("--camera", "gate-1"), "expected --from-run beside them"),
        (("--from-run", "r"), "--from-run: expected --config with the run's cameras"),
    ],
)
def test_what_does_not_go_together_is_one_line(made, arguments, line):
    with pytest.raises(BadInputError, match=line):
        shown("--model", made[0] / "m", *arguments)


def test_a_model_is_asked_for_where_none_is_named():
    with pytest.raises(ConfigError, match="--model: expected a trained model"):
        shown("--config", shipped_config("demo.yaml"))
