"""Models that are elsewhere: found by an address, copied, compared with what they should be."""

import re
import shutil
from dataclasses import replace

import fsspec
import numpy as np
import pytest

from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.errors import CheckpointError
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE
from pipeline.models.fetching import find_model, held_model, refresh_normal
from pipeline.models.normal_file import NORMAL_FILE
from pipeline.models.normal_store import NormalStore
from pipeline.models.source import ModelSource
from pipeline.normal_footage import AddedStretch, NormalStretch
from tests.models.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "m"
    tiny_checkpoint(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(folder):
    """A store of objects with a model in it."""
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/models/mine", recursive=True)
    yield memory
    memory.rm("/models", recursive=True)


@pytest.mark.parametrize("address", ["memory://models/mine", "memory://models/mine/", "file://{}"])
def test_a_model_at_an_address_is_the_model_in_its_folder(store, folder, address):
    here, there = find_model(folder, Config()), find_model(address.format(folder), Config())
    assert there.card == here.card
    assert (there.folder / WEIGHTS_FILE).read_bytes() == (folder / WEIGHTS_FILE).read_bytes()
    with held_model(there.source) as (copy, card):
        assert (copy, card) == (there.folder, here.card)


def test_a_copy_serves_when_the_address_is_gone_and_without_one_a_line_says_what_is_missing(store, folder, tmp_path):
    found = find_model("memory://models/mine", Config())
    store.rm(f"/models/mine/{WEIGHTS_FILE}")
    with held_model(found.source) as (_, card):
        assert card == found.card
    shutil.rmtree(tmp_path / "cache")
    said = f"memory://models/mine: expected a model written by 'train', got no {WEIGHTS_FILE}"
    with pytest.raises(CheckpointError, match=f"^{re.escape(said)}$"):
        held_model(found.source).__enter__()
    with pytest.raises(CheckpointError, match=f"got no {CARD_FILE}"):
        find_model("memory://models/other", Config())


def test_a_copy_gets_the_normal_footage_that_lies_beside_the_model_now(store, tmp_path):
    def hours_there():
        found = find_model("memory://models/mine", Config())
        return [one.hours for one in NormalStore.read(found.folder, found.card.fingerprint).stretches("gate")]

    assert hours_there() == []
    model, footage = find_model("memory://models/mine", Config()).card.fingerprint, NormalStore()
    for count in (1, 2):
        footage = footage.with_added([AddedStretch(NormalStretch("own", 1.0, np.ones(3600)), "gate")])
        footage.write(tmp_path, model)
        store.put(str(tmp_path / NORMAL_FILE), f"/models/mine/{NORMAL_FILE}")
        assert hours_there() == [1.0] * count
    store.rm(f"/models/mine/{NORMAL_FILE}")
    assert hours_there() == []


def test_a_copy_of_normal_footage_that_cannot_be_written_is_one_line(folder, tmp_path):
    with pytest.raises(CheckpointError, match=f"the copy of {NORMAL_FILE}: No such file or directory"):
        refresh_normal(str(folder), tmp_path / "gone" / "copy")


def test_another_model_in_the_place_of_the_runs_own_is_refused(store, folder, tmp_path):
    at_address, in_folder = find_model("memory://models/mine", Config()).source, find_model(folder, Config()).source
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    shutil.rmtree(tmp_path / "cache")
    store.put(str(tmp_path / "other"), "/models/mine", recursive=True)
    store.mv("/models/mine/other/" + CARD_FILE, "/models/mine/" + CARD_FILE)
    store.mv("/models/mine/other/" + WEIGHTS_FILE, "/models/mine/" + WEIGHTS_FILE)
    names = f"expected the model {at_address.short_fingerprint}, got {other.short_fingerprint}"
    with pytest.raises(CheckpointError, match=names):
        held_model(at_address).__enter__()
    moved = replace(in_folder, place=str(tmp_path / "other"))
    with pytest.raises(CheckpointError, match=f"{names}: the folder was changed while the run goes on"):
        held_model(moved).__enter__()


def test_a_damaged_card_at_an_address_is_one_line_that_names_the_address(store):
    store.pipe(f"/models/mine/{CARD_FILE}", b"{}")
    with pytest.raises(CheckpointError, match=rf"^memory://models/mine: {CARD_FILE}: expected .* damaged$"):
        find_model("memory://models/mine", Config())


@pytest.mark.parametrize("scheme", ["s3", "nonsense"])
def test_an_address_without_a_driver_is_one_line_without_its_password(scheme):
    with pytest.raises(CheckpointError) as caught:
        find_model(f"{scheme}://user:hush@bucket/model", Config())
    said = str(caught.value)
    assert said.startswith(f"{scheme}://***@bucket/model: expected an address that this machine can read, got: ")
    assert "hush" not in said
    assert "\n" not in said


def test_a_model_that_the_config_does_not_mean_is_refused_wherever_it_is(store):
    config = parse_config({"model": {"image_size_px": [32, 32]}})
    with pytest.raises(CheckpointError, match=r"^memory://models/mine: model\.image_size_px: expected \[32, 32\]"):
        find_model("memory://models/mine", config)


def test_a_source_does_not_show_its_password():
    source = ModelSource("ab" * 32, "ftp://user:hush@host/model")
    assert "hush" not in f"{source} {source.shown}"
