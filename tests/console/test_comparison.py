import io
import json

import pytest
from rich.console import Console

from pipeline.console.comparison import compare_methods, comparison_table
from pipeline.datasets.base import Dataset
from pipeline.errors import BadInputError, ConfigError, DatasetError
from pipeline.models.card import WEIGHTS_FILE
from tests.models_for_tests import TINY, tiny_config

SMALL = {"padim": {"channels": 8}, "differnet": {"blocks": 2, "hidden_dims": 16, "scales": [1.0]}}


def never(*_):
    raise AssertionError("nothing is to be replayed")


def compare(config, dataset, methods, folder, replay=never):
    console = Console(quiet=True)
    return compare_methods(config, dataset, methods, folder, replay, out=console, err=console)


@pytest.mark.parametrize(("methods", "said"), [([], "got none"), (["padim"] * 2, "each once"), (["x"], "got 'x'")])
def test_methods_that_are_none_or_come_twice_are_refused(tmp_path, trained, methods, said):
    with pytest.raises(ConfigError, match=said):
        compare(trained.config, trained.dataset, methods, tmp_path / "out")


def test_a_filled_folder_is_refused(tmp_path, trained):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(BadInputError, match="new or empty folder"):
        compare(trained.config, trained.dataset, ["padim"], tmp_path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_footage_of_one_kind_alone_is_refused(tmp_path, trained, part):
    clips = {"train": trained.dataset.train, "test": trained.dataset.test, part: ()}
    with pytest.raises(DatasetError, match="training clips" if part == "train" else "test clips"):
        compare(trained.config, Dataset("stc", tmp_path, **clips), ["padim"], tmp_path / "out")


def test_methods_are_trained_scored_and_timed_into_one_table_even_after_an_interruption(tmp_path, trained, ray_session):
    from actors.commands import replay_dataset

    replayed = []

    def replay(config, dataset, model, scores):
        replayed.append(config.model.method)
        if replayed == ["padim", "differnet"]:
            scores.mkdir()
            (scores / "half").write_text("")  # a replay refuses a filled folder
            raise KeyboardInterrupt
        console = Console(quiet=True)
        replay_dataset(config, tmp_path / "c.yaml", dataset, model, scores, address=None, out=console, err=console)

    config, out = tiny_config(model=TINY["model"] | SMALL), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        compare(config, trained.dataset, ["padim", "differnet"], out, replay)
    models = [out / method / "model" / WEIGHTS_FILE for method in ("padim", "differnet")]
    written = [model.stat().st_mtime_ns for model in models]
    made = compare(config, trained.dataset, ["padim", "differnet"], out, replay)
    assert replayed == ["padim", "differnet", "differnet"]
    assert [model.stat().st_mtime_ns for model in models] == written
    assert [result.method for result in made.results] == ["padim", "differnet"]
    for result in made.results:
        assert 0.0 <= result.frame_auroc <= 1.0
        assert 0.0 <= result.pixel_auroc <= 1.0
        assert result.frames_per_s > 0.0
        assert result.peak_memory_mb > 100.0
        assert 0.0 < result.encoder_mb < result.model_mb
    shown = Console(width=120, file=io.StringIO(), record=True)
    shown.print(comparison_table(made))
    text = shown.export_text()
    assert "AUROC" in text and "…" not in text
    read = json.loads((out / "comparison.json").read_text())
    assert [result["fingerprint"] for result in read["results"]] == [result.fingerprint for result in made.results]
    assert not (out / "features").exists()
