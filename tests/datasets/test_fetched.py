"""Footage at an address: copied, brought up to date, and what is said where it cannot be had."""

import re

import fsspec
import pytest

from pipeline.datasets.fetched import fetched_footage
from pipeline.errors import DatasetError

ADDRESS = "memory://campus/gate"
FILES = {"training/videos/a.mp4": b"one", "training/videos/b.mp4": b"two", "training/frames/c/001.jpg": b"three"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store():
    memory = fsspec.filesystem("memory")
    for name, content in FILES.items():
        memory.pipe_file(f"/campus/gate/{name}", content)
    yield memory
    memory.rm("/campus", recursive=True)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_copy_has_all_files_and_only_what_changed_is_fetched_again(store):
    said = []
    folder = fetched_footage(ADDRESS, said.append)
    assert (folder.name, contents(folder)) == ("gate", FILES)
    assert fetched_footage(f"{ADDRESS}", said.append) == folder
    store.pipe_file("/campus/gate/training/videos/b.mp4", b"another")
    store.rm_file("/campus/gate/training/frames/c/001.jpg")
    fetched_footage(ADDRESS, said.append)
    assert contents(folder) == {"training/videos/a.mp4": b"one", "training/videos/b.mp4": b"another"}
    assert said == [f"fetching 3 of 3 files from {ADDRESS}", f"fetching 1 of 2 files from {ADDRESS}"]


def test_what_was_fetched_before_a_file_failed_is_kept_and_what_is_missing_here_is_fetched_again(store, monkeypatch):
    get_file = type(store).get_file

    def fails(self, remote, local, **options):
        if remote.endswith("b.mp4"):
            raise RuntimeError("the connection of user:secret@host was reset")
        return get_file(self, remote, local, **options)

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "get_file", fails)
        with pytest.raises(DatasetError, match=re.escape(f"{ADDRESS}: b.mp4 cannot be fetched: the connection")):
            fetched_footage(ADDRESS, lambda line: None)
    said = []
    folder = fetched_footage(ADDRESS, said.append)
    assert said == [f"fetching 1 of 3 files from {ADDRESS}"]
    (folder / "training/videos/a.mp4").unlink()
    fetched_footage(ADDRESS, said.append)
    assert contents(folder) == FILES


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://nowhere", "memory://nowhere: expected a folder with footage, found no file there"),
        ("nobody-knows://x", "nobody-knows://x: expected an address that this machine can read, got: "),
    ],
)
def test_what_cannot_be_had_is_one_line(address, said):
    with pytest.raises(DatasetError, match=f"^{re.escape(said)}") as error:
        fetched_footage(address, print)
    assert "\n" not in str(error.value)


def test_a_name_that_would_leave_the_copy_is_refused(store):
    store.pipe_file("/campus/gate/../../escaped", b"x")
    try:
        with pytest.raises(DatasetError, match=r"expected names of files that can be had here, too, got '\.\./"):
            fetched_footage(ADDRESS, print)
    finally:
        store.rm_file("/campus/gate/../../escaped")
