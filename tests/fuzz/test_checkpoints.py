"""Whatever a model's folder holds: a model that is what it was, or CheckpointError in one line."""

import inspect
import json
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CheckpointError
from pipeline.inference.engine import Engine
from pipeline.model_settings import ModelSettings
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE, read_card, write_card
from tests.fuzz.targets import check_damaged_model, check_forged_card, check_forged_weights, forgeries, seeds
from tests.models.forging import read_values, write_values
from tests.models.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_checkpoint(folder)
    return folder


@settings(max_examples=150)
@given(name=st.sampled_from([CARD_FILE, WEIGHTS_FILE]), seed=seeds)
def test_no_damaged_model_is_ever_loaded(model, name, seed):
    check_damaged_model(model, model.with_name("damaged"), name, seed, Engine.load)


@settings(max_examples=120)
@given(forge=forgeries)
def test_a_card_that_says_anything_is_refused_or_true(model, forge):
    check_forged_card(model, model.with_name("forged"), forge, Engine.load)


@settings(max_examples=60)
@given(seed=seeds)
def test_weights_that_are_none_are_refused_though_the_digests_fit(model, seed):
    check_forged_weights(model, model.with_name("forged"), seed, Engine.load)


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE])
def test_links_that_lead_nowhere_or_in_a_circle_are_refused(tmp_path, model, name):
    for target in (name, "nowhere", ".", os.devnull):
        folder = tmp_path / f"m{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for other in (CARD_FILE, WEIGHTS_FILE):
            (folder / other).symlink_to(target if other == name else model / other)
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            Engine.load(folder)


def test_a_model_behind_links_is_loaded(tmp_path, model):
    (tmp_path / "a").symlink_to(model)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert Engine.load(tmp_path / "b").card == read_card(model)


def test_a_pipe_in_the_place_of_a_file_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / CARD_FILE)
    with pytest.raises(CheckpointError, match="got nothing"):
        Engine.load(tmp_path)


def test_flows_that_no_memory_can_hold_are_refused(tmp_path):
    card = tiny_checkpoint(tmp_path / "m")
    flow = card.model.flow.model_copy(update={"camera_embedding": 10**12})
    model = ModelSettings.model_construct(**{**dict(card.model), "flow": flow})
    write_card(card.model_copy(update={"model": model}), tmp_path / "m")
    with pytest.raises(CheckpointError, match="camera_embedding"):
        Engine.load(tmp_path / "m")


def test_a_card_without_its_encoder_is_refused(tmp_path):
    tiny_checkpoint(tmp_path / "m")
    write_values(tmp_path / "m", {**read_values(tmp_path / "m"), "model": {}})
    with pytest.raises(CheckpointError):
        Engine.load(tmp_path / "m")


def test_a_card_nested_too_deep_to_be_written_again_is_refused(tmp_path, model):
    (tmp_path / WEIGHTS_FILE).symlink_to(model / WEIGHTS_FILE)
    # Python takes the last depths before its limit for JSON that it can read and not write.
    limit = sys.getrecursionlimit() - len(inspect.stack())
    for depth in range(limit - 20, limit + 5):
        (tmp_path / CARD_FILE).write_text('{"a": ' * depth + "1" + "}" * depth)
        with pytest.raises(CheckpointError, match=r"model\.json: expected"):
            read_card(tmp_path)


@pytest.mark.parametrize("change", [{"checksum": "a\nb"}, {"views": {"a\nb": 1}}])
def test_line_breaks_in_a_forged_card_leave_one_line(tmp_path, model, change):
    (tmp_path / WEIGHTS_FILE).symlink_to(model / WEIGHTS_FILE)
    values = {**read_values(model), **change}
    if "checksum" in change:
        (tmp_path / CARD_FILE).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
    else:
        write_values(tmp_path, values)
    with pytest.raises(CheckpointError) as caught:
        read_card(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
