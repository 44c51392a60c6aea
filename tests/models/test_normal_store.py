import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CheckpointError
from pipeline.models.normal_file import NORMAL_FILE, StoredMaps
from pipeline.models.normal_store import NormalStore, spread_evenly
from pipeline.normal_footage import AddedStretch, MapStretch, NormalStretch

MODEL = "a" * 64


def added(scores, scene="gate", **known):
    return AddedStretch(NormalStretch("own", 5.0, np.asarray(scores, float)), scene, **known)


def maps_of(frames, seed=0, kind="own"):
    maps = np.random.default_rng(seed).normal(size=(2, frames, 4, 6)).astype(np.float16)
    return MapStretch(kind, 5.0, *maps)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with a store in it, and the store."""
    folder = tmp_path_factory.mktemp("model")
    run = added([0.5, 1.5], camera_id="gate-1", source="run-1", since_s=10.0, until_s=10.2, zones="z")
    store = NormalStore().with_added(
        [added([1.0, 2.0, 3.0]), added([4.0], scene="yard"), run],
        maps=[StoredMaps.of("gate", maps_of(3)), StoredMaps.of("yard", maps_of(2, seed=1))],
        clips=["c1"],
    )
    return folder, store.write(folder, MODEL)


def test_what_was_written_comes_back_for_scene_and_camera(written):
    folder, store = written
    read = NormalStore.read(folder, MODEL)
    assert read.version == store.version != ""
    assert [one.scores.tolist() for one in read.stretches("gate")] == [[1.0, 2.0, 3.0]]
    assert [one.scores.tolist() for one in read.stretches("gate", "gate-1")] == [[1.0, 2.0, 3.0], [0.5, 1.5]]
    last = read.added[-1]
    assert (last.source, last.since_s, last.until_s, last.zones) == ("run-1", 10.0, 10.2, "z")
    (found,) = read.maps("gate")
    assert (found.maps == maps_of(3).maps).all()
    assert (found.unpaired == maps_of(3).unpaired).all()
    assert read.clips == ("c1",)


def test_a_model_without_a_store_has_an_empty_one(tmp_path):
    assert NormalStore.read(tmp_path, MODEL).stretches("gate") == []


def test_the_footage_of_another_model_is_refused(written):
    with pytest.raises(CheckpointError, match="expected normal footage of the model bbbbbbbbbbbb"):
        NormalStore.read(written[0], "b" * 64)


@given(data=st.data())
@settings(max_examples=60)
def test_any_flipped_bit_is_noticed(written, tmp_path_factory, data):
    content = bytearray((written[0] / NORMAL_FILE).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path_factory.mktemp("flipped")
    (folder / NORMAL_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=NORMAL_FILE) as caught:
        for scene in ("gate", "yard"):
            list(NormalStore.read(folder, MODEL).maps(scene))
    assert "\n" not in str(caught.value)


def test_other_footage_gives_another_version(written, tmp_path):
    _, store = written
    assert store.with_added([added([9.0])]).write(tmp_path, MODEL).version != store.version
    assert store.with_added([]).write(tmp_path, MODEL).version == store.version


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["own", "light"])), max_size=40), st.integers(0, 40))
def test_maps_fill_the_room_with_unseen_footage_first_and_no_scene_starves(stretches, room):
    every = [StoredMaps.of(scene, maps_of(1, kind=kind)) for scene, kind in stretches]
    size = maps_of(1).maps.nbytes * 2
    kept = spread_evenly(every, room * size)
    assert len(kept) == min(room, len(every))
    own = [one for one in every if one.kind == "own"]
    assert sum(one.kind == "own" for one in kept) == min(room, len(own))
    counts = {scene: sum(one.scene == scene for one in kept if one.kind == "own") for scene in "ab"}
    there = {scene: sum(one.scene == scene for one in own) for scene in "ab"}
    if counts["a"] < there["a"] and counts["b"] < there["b"]:
        assert abs(counts["a"] - counts["b"]) <= 1


def test_few_maps_of_many_are_spread_over_all_of_the_footage():
    every = [StoredMaps.of("gate", maps_of(1)) for _ in range(64)]
    kept = spread_evenly(every, 8 * every[0].bytes)
    places = [every.index(one) for one in kept]
    assert np.diff(places).tolist() == [8] * 7


def test_the_oldest_footage_makes_room(monkeypatch):
    monkeypatch.setattr("pipeline.models.normal_store.ADDED_FRAMES", 5)
    store = NormalStore().with_added([added([1, 2]), added([3, 4]), added([5, 6, 7])])
    assert [one.stretch.scores.tolist() for one in store.added] == [[3, 4], [5, 6, 7]]
    assert [len(one.stretch.scores) for one in store.with_added([added(range(6))]).added] == [6]  # too long by itself
