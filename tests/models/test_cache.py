"""Copies of models on a machine: whole, the right ones, fetched once, and not for ever."""

import shutil
import threading

import pytest

from pipeline.errors import CheckpointError
from pipeline.models.cache import ModelCache
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE
from tests.models.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder of each of four models, by its fingerprint."""
    root = tmp_path_factory.mktemp("models")
    return {tiny_checkpoint(root / str(seed), seed=seed).fingerprint: root / str(seed) for seed in range(4)}


@pytest.fixture
def cache(tmp_path):
    (tmp_path / "cache").mkdir()
    return ModelCache(tmp_path / "cache", kept=2)


class Fetching:
    """Copies a model, and counts how often."""

    def __init__(self, origin):
        self.origin, self.times = origin, 0

    def __call__(self, folder):
        self.times += 1
        shutil.copytree(self.origin, folder, dirs_exist_ok=True)


def kept(tmp_path):
    return {path.name for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")}


def test_whoever_wants_a_model_at_once_waits_for_the_one_who_fetches_it(cache, models):
    fingerprint, origin = next(iter(models.items()))
    fetching, together, found = Fetching(origin), threading.Barrier(4), []

    def want():
        together.wait()
        with cache.held(fingerprint, fetching) as (folder, card):
            found.append((folder.name, card.fingerprint, (folder / WEIGHTS_FILE).read_bytes()))

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(fingerprint, fingerprint, (origin / WEIGHTS_FILE).read_bytes())] * 4
    assert fetching.times == 1


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("harm", ["cut", "gone"])
def test_a_copy_that_is_not_whole_is_fetched_again(cache, models, name, harm):
    fingerprint, origin = next(iter(models.items()))
    fetching = Fetching(origin)
    with cache.held(fingerprint, fetching) as (folder, _):
        whole = (folder / name).read_bytes()
    if harm == "cut":
        (folder / name).write_bytes(whole[:-1])
    else:
        (folder / name).unlink()
    with cache.held(fingerprint, fetching) as (folder, card):
        assert (card.fingerprint, (folder / name).read_bytes()) == (fingerprint, whole)
    assert fetching.times == 2


def test_what_comes_in_place_of_a_model_is_refused_and_leaves_nothing(cache, models, tmp_path):
    (one, origin), (other, others) = list(models.items())[:2]
    with pytest.raises(CheckpointError, match=f"expected the model {one[:12]}, got {other[:12]}"):
        cache.held(one, Fetching(others)).__enter__()

    def cut_off(folder):
        Fetching(origin)(folder)
        (folder / WEIGHTS_FILE).write_bytes(b"half")

    with pytest.raises(CheckpointError, match=f"^expected the model {one[:12]}, got a damaged copy: {WEIGHTS_FILE}: "):
        cache.held(one, cut_off).__enter__()

    def dies(folder):
        (folder / CARD_FILE).write_text("half")
        raise CheckpointError("the network is gone")

    with pytest.raises(CheckpointError, match="the network is gone"):
        cache.held(one, dies).__enter__()
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock"}
    with cache.held(one, Fetching(origin)) as (_, card):
        assert card.fingerprint == one


def test_no_room_for_a_copy_is_one_line(cache, models):
    def fills_the_disk(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match=r"the copy of a model: No space left on device$"):
        cache.held(next(iter(models)), fills_the_disk).__enter__()


def test_the_models_used_last_are_kept_and_every_one_in_use(cache, models, tmp_path):
    first, *others = models
    with cache.held(first, Fetching(models[first])):
        for fingerprint in others:
            with cache.held(fingerprint, Fetching(models[fingerprint])):
                pass
        assert kept(tmp_path) == {first, *others[1:]}
    with cache.held(others[0], Fetching(models[others[0]])):
        pass
    assert kept(tmp_path) == {others[0], others[2]}


def test_no_name_but_a_fingerprint_leads_to_a_folder(cache):
    with pytest.raises(CheckpointError, match="expected a model's fingerprint"):
        cache.held("../../elsewhere", Fetching("nowhere")).__enter__()
