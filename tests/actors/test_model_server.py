"""Who hands out a run's models, without Ray between: whole files in parts, also when it is started again."""

import shutil

import pytest

from actors import model_server
from actors.model_server import ModelServer, copier_from
from pipeline.errors import CheckpointError
from pipeline.models.cache import ModelCache
from pipeline.models.card import WEIGHTS_FILE
from pipeline.models.normal_store import NormalStore
from pipeline.models.source import ModelSource
from tests.models.tiny import tiny_checkpoint


class Client:
    """Calls a server as ``ActorClient`` does; every few calls find it dead, and a new one in its place."""

    def __init__(self, folder):
        self.folder, self.calls = folder, 0

    def call(self, method, *arguments, answer_within_s):
        self.calls += 1
        return None if self.calls % 3 == 0 else getattr(ModelServer(self.folder), method)(*arguments)


@pytest.fixture
def source(tmp_path):
    return ModelSource.of(tiny_checkpoint(tmp_path / "mine"), tmp_path / "mine")


def test_a_model_is_handed_out_in_parts_long_after_its_folder_is_gone(source, tmp_path, monkeypatch):
    monkeypatch.setattr(model_server, "_PART_BYTES", 10_000)
    whole = (tmp_path / "mine" / WEIGHTS_FILE).read_bytes()
    ModelServer(tmp_path / "copies").keep(source)
    shutil.rmtree(tmp_path / "mine")
    client = Client(tmp_path / "copies")
    (tmp_path / "cache").mkdir()
    cache = ModelCache(tmp_path / "cache")
    with cache.held(source.fingerprint, copier_from(client, source)) as (folder, card):
        assert (folder / WEIGHTS_FILE).read_bytes() == whole
        assert card.fingerprint == source.fingerprint
    assert client.calls > len(whole) / 10_000


def test_what_lies_beside_a_model_comes_to_another_server_and_not_to_detectors(source, tmp_path):
    NormalStore(clips=("c",)).write(tmp_path / "mine", source.fingerprint)
    ModelServer(tmp_path / "copies").keep(source)
    NormalStore(clips=("c", "d")).write(tmp_path / "mine", source.fingerprint)
    ModelServer(tmp_path / "copies").keep(source)  # a later run into the same folder
    client = Client(tmp_path / "copies")
    for copy, is_there in ((copier_from(client, source, all_files=True), True), (copier_from(client, source), False)):
        folder = tmp_path / f"whole {is_there}"
        folder.mkdir()
        copy(folder)
        assert NormalStore.read(folder, source.fingerprint).clips == (("c", "d") if is_there else ())


def test_what_is_not_there_is_refused_in_a_line(source, tmp_path):
    server = ModelServer(tmp_path / "copies")
    with pytest.raises(CheckpointError, match="expected a model that was brought here"):
        server.sizes(source.fingerprint)
    server.keep(source)
    with pytest.raises(
        CheckpointError,
        match=r"expected one of model\.json, model\.safetensors, calibration\.safetensors, got '\.\./run\.json'",
    ):
        server.part(source.fingerprint, "../run.json", 0)
    with pytest.raises(CheckpointError, match=r"got no model\.json"):
        server.keep(ModelSource("ab" * 32, str(tmp_path / "none")))
