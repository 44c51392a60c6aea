"""Clips are told apart by what is in them."""

import shutil

import pytest

from pipeline.datasets.base import Clip
from pipeline.datasets.clip_digest import clip_digest


def digest(path):
    return clip_digest(Clip("any", "gate", str(path), None))


def pictures(folder, *contents):
    folder.mkdir()
    for number, content in enumerate(contents, start=1):
        (folder / f"{number:03d}.tif").write_bytes(content)
    return folder


@pytest.mark.parametrize("other", [(b"c", b"b", b"a"), (b"a", b"b", b"d"), (b"a", b"b"), (b"a", b"bb", b"c")])
def test_folders_of_pictures_that_are_numbered_alike_are_not_the_same_clip(tmp_path, other):
    one = pictures(tmp_path / "Train001", b"a", b"b", b"c")
    assert digest(one) != digest(pictures(tmp_path / "Train002", *other))
    assert digest(one) == digest(shutil.copytree(one, tmp_path / "moved"))


def test_files_are_told_apart_by_length_beginning_and_end_and_not_by_their_names(tmp_path):
    middle = bytes(2**18)
    contents = {"a": b"x" + middle + b"y", "b": b"z" + middle + b"y", "c": b"x" + middle + b"z", "d": b"x" + middle}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert len({digest(tmp_path / name) for name in contents}) == len(contents)
    assert digest(shutil.copy(tmp_path / "a", tmp_path / "e")) == digest(tmp_path / "a")


def test_what_cannot_be_read_has_no_digest(tmp_path):
    assert digest(tmp_path / "elsewhere.mp4") is None
    assert digest(pictures(tmp_path / "empty")) is not None
