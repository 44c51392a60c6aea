import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from pipeline.private_folder import folder_for_sockets, make_private, private_folder, private_socket


def test_a_folder_has_one_path_per_kind_of_socket_whichever_way_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    path = private_socket("redis", tmp_path / "run")
    assert path == private_socket("redis", Path("run")) == private_socket("redis", tmp_path / "link")
    assert len({path, private_socket("control", tmp_path / "run"), private_socket("redis", tmp_path / "other")}) == 3
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_path_is_short_enough_for_a_socket_in_any_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    (tmp_path / ("x" * 90)).mkdir()
    path = private_socket("redis", tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    path.unlink()


def test_the_longest_path_that_a_socket_can_have_is_used_and_no_longer_one(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        parts = set()
        for length in range(20, 100):
            folder = Path(short) / ("x" * length)
            folder.mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            path = private_socket("redis", tmp_path)
            assert folder_for_sockets(path.name) == path.parent
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
            path.unlink()
            parts.add(len(os.fsencode(path)) if path.is_relative_to(short) else "/tmp")
    assert {107, "/tmp"} <= parts


def test_a_folder_of_another_user_is_refused_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    private_folder().mkdir(mode=0o700)
    make_private(private_folder())
    monkeypatch.setattr(os, "geteuid", lambda: private_folder().stat().st_uid + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        private_socket("redis", tmp_path)


def test_a_folder_of_this_user_into_which_others_may_write_is_refused(tmp_path):
    folder = tmp_path / "own"
    for mode in (0o770, 0o702):
        folder.mkdir()
        folder.chmod(mode)
        with pytest.raises(PermissionError, match="can be written into by other users"):
            make_private(folder)
        folder.rmdir()
    make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_is_followed_to_a_folder_that_must_be_this_users_too(tmp_path):
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "own").symlink_to("disk")
    make_private(tmp_path / "own")
    (tmp_path / "disk").chmod(0o777)
    with pytest.raises(PermissionError, match="can be written into by other users"):
        make_private(tmp_path / "own")
