import shutil
from pathlib import Path

from pipeline.checks.model import _zones, check_model
from pipeline.models.card import WEIGHTS_FILE, read_card
from pipeline.models.normal_file import NORMAL_FILE
from tests.models_for_tests import TINY, tiny_config


def found_for(trained, scenes=("plaza", "road"), folder: Path | None = None, **sections):
    cameras = [{"id": f"c{number}", "url": "x.mp4", "scene": scene} for number, scene in enumerate(scenes)]
    return check_model(tiny_config(cameras=cameras, **sections), trained.folder if folder is None else folder)


def test_a_model_that_fits_says_what_it_is(trained):
    model, scenes = found_for(trained)
    assert (model.state, scenes.state) == ("ok", "ok")
    assert "cflow, mobilenetv3_small_050, 96 x 64, " in model.detail


def test_a_scene_that_it_does_not_know_is_a_warning_each(trained):
    _, door, roof = found_for(trained, scenes=("plaza", "door", "roof"))
    assert {door.state, roof.state} == {"warning"}
    assert "camera c1: the model knows no scene 'door'" in door.detail


def test_a_model_trained_with_other_settings_fails_with_the_key(trained):
    encoder = {**TINY["model"]["encoder"], "name": "resnet18"}
    (model,) = found_for(trained, model={**TINY["model"], "encoder": encoder})
    assert model.state == "failed"
    assert "model.encoder.name: expected 'resnet18'" in model.detail


def test_weights_that_are_cut_off_fail(trained, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "model")
    whole = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(whole[:-100])
    (model,) = found_for(trained, folder=folder)
    assert model.state == "failed"
    assert WEIGHTS_FILE in model.detail


def test_damaged_normal_footage_is_a_warning(trained, tmp_path):
    folder = shutil.copytree(trained.folder, tmp_path / "model")
    (folder / NORMAL_FILE).write_bytes((folder / NORMAL_FILE).read_bytes()[:-100])
    model, footage, _ = found_for(trained, folder=folder)
    assert (model.state, footage.state) == ("ok", "warning")
    assert f"{NORMAL_FILE}: expected normal footage written by 'train' or 'calibrate'" in footage.detail


def test_no_folder_and_none_named_fail_since_no_run_would_start(trained, tmp_path):
    (model,) = found_for(trained, folder=tmp_path / "none")
    assert model.state == "failed"
    (model,) = check_model(tiny_config(), None)
    assert (model.state, "--model" in model.detail) == ("failed", True)


def test_a_method_that_scores_whole_frames_is_a_warning_where_there_are_zones(trained):
    card = read_card(trained.folder)
    whole = card.model_copy(update={"model": card.model.model_copy(update={"method": "spade"})})
    half = [{"name": "yard", "watch": [[0, 0], [1, 0], [1, 1]]}]
    zoned, bare = (tiny_config(cameras=[{"id": "a", "url": "x.mp4", "zones": zones}]) for zones in (half, []))
    (warning,) = _zones(zoned, whole)
    assert (warning.state, "spade scores whole frames" in warning.detail) == ("warning", True)
    assert _zones(zoned, card) == _zones(bare, whole) == []
