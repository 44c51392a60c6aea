"""Asking a run for another model: what it refuses, what it says meanwhile, and what the command makes of it."""

import io
import json
import shutil
import time

import pytest
from rich.console import Console

from actors.control import RunControl
from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.console.model import change_model, show_model
from pipeline.errors import BadInputError, RunError
from pipeline.models.card import WEIGHTS_FILE, read_card, write_card
from tests.actors.supervised import CARD, READER, Run
from tests.actors.test_run_models import NEW, held_back
from tests.models.tiny import tiny_checkpoint


class Terminal:
    """A run with a spare detector, asked as another terminal does; it takes a step with every question."""

    def __init__(self, config=None):
        self.run = Run("gate", spare=1)
        for _ in range(3):
            self.run.step()
        self.run["run-camera-0"].readers = {"gate": READER}
        config = config or Config(cameras=(CameraSettings(id="gate", url="rtsp://h/x", scene="nowhere"),))
        self.control = RunControl(config, None, (), lambda *what: None, self.run.supervisor.models, stop=lambda: None)
        self.said, self.told = io.StringIO(), io.StringIO()

    def ask(self, request):
        self.run.step()
        return self.control.answer(request)

    def change(self, **request):
        out, err = (Console(file=file, soft_wrap=True, width=500) for file in (self.said, self.told))
        change_model(self.ask, request, out=out, err=err)

    def shown(self):
        file = io.StringIO()
        show_model(self.ask, as_json=True, out=Console(file=file))
        return json.loads(file.getvalue())


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for seed in (1, 2):
        tiny_checkpoint(root / str(seed), seed=seed)
    return root


def test_a_model_is_set_and_the_one_before_comes_back(terminal, models):
    with pytest.raises(BadInputError, match="expected a run whose model was changed"):
        terminal.change(do="model back")
    one, two = read_card(models / "1"), read_card(models / "2")
    terminal.change(do="model set", place=str(models / "1"))
    assert (
        f"model {one.short_fingerprint} ({models / '1'}) scores all cameras; `model back`" in terminal.said.getvalue()
    )
    terminal.change(do="model set", place=str(models / "2"))
    terminal.change(do="model back")
    shown = terminal.shown()
    assert (shown["fingerprint"], shown["before"], shown["phase"]) == (one.fingerprint, two.fingerprint, "in use")
    assert (shown["place"], shown["refused"], shown["reading"]) == (str(models / "1"), "", False)
    assert "warning: camera gate: the model knows no scene 'nowhere'" in terminal.told.getvalue()


def damaged(folder):
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:-1])


def of_other_frames(**model):
    return lambda folder: write_card(
        read_card(folder).model_copy(update={"model": read_card(folder).model.model_copy(update=model)}), folder
    )


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (shutil.rmtree, "expected a model folder written by 'train', got no such folder"),
        (damaged, "got others: the file is damaged"),
        (
            of_other_frames(image_size_px=(32, 32)),
            r"model.image_size_px: expected \[64, 96\], as this run reads its cam",
        ),
        (
            of_other_frames(motion=CARD.model.motion.model_copy(update={"gap_s": 0.2})),
            "model.motion.gap_s: expected 0.1",
        ),
    ],
    ids=["none", "damaged", "size", "gap"],
)
def test_a_model_that_does_not_fit_is_refused_in_a_line_and_nothing_changes(terminal, models, tmp_path, harm, said):
    folder = shutil.copytree(models / "1", tmp_path / "m")
    harm(folder)
    with pytest.raises(BadInputError, match=rf"^{folder}.*{said}"):
        terminal.change(do="model set", place=str(folder))
    terminal.run.step()
    assert set(terminal.run.supervisor._actors.detectors) == {"run-detector-0", "run-detector-1"}
    assert terminal.shown()["fingerprint"] == CARD.fingerprint


def test_a_model_that_the_runs_config_does_not_mean_is_refused(models):
    terminal = Terminal(parse_config({"model": {"encoder": {"name": "resnet18"}}}))
    with pytest.raises(BadInputError, match=r"model\.encoder\.name: expected 'resnet18'"):
        terminal.change(do="model set", place=str(models / "1"))


@pytest.mark.parametrize("place", ["models/mine", ""])
def test_a_place_that_means_another_one_to_the_run_is_refused(terminal, place):
    with pytest.raises(BadInputError, match="expected an absolute folder or an address"):
        terminal.ask({"do": "model set", "place": place})


def test_a_model_that_cannot_be_loaded_is_a_failure_and_the_one_before_goes_on(terminal, models):
    held_back(terminal.run, NEW)
    terminal.ask({"do": "model set", "place": str(models / "1")})
    give_up_at = time.monotonic() + 60.0
    while NEW not in terminal.run.fleet.made:
        terminal.run.step()
        assert time.monotonic() < give_up_at
    with pytest.raises(BadInputError, match="a change is under way"):
        terminal.ask({"do": "model set", "place": str(models / "2")})
    terminal.run[NEW].failure = "no such weights"
    shown = terminal.shown()
    assert shown["phase"] == "in use"
    assert shown["failure"].endswith("run-detector-2 did not start: no such weights")
    assert shown["fingerprint"] == CARD.fingerprint


def test_the_command_ends_as_a_failure_where_new_detectors_do_not_start(terminal, models):
    made = terminal.run.fleet.detector

    def cannot_start(name):
        actor = made(name)
        if name == NEW:
            actor.die()
            actor.failure = "no such weights"
        return actor

    terminal.run.fleet.detector = cannot_start
    with pytest.raises(RunError, match=f"no such weights; the run goes on with {CARD.short_fingerprint}"):
        terminal.change(do="model set", place=str(models / "1"))
