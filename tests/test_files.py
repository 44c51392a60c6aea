import os
import stat
import subprocess
import sys
import threading

import pytest

from pipeline.files import replace_folder_whole, replace_whole, sync, write_whole

LONG_AGO = (0, 0)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_stands_under_its_name_only_once_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with replace_whole(path) as staged:
        staged.write_text("ne")
        assert path.read_text() == "old"
        staged.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.json"]


def test_what_fails_leaves_the_older_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "old")
    with pytest.raises(ValueError, match="why"), replace_whole(path) as staged:
        staged.write_text("ne")
        raise ValueError("why")
    assert path.read_text() == "old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", "text")
    with pytest.raises(FileNotFoundError), replace_whole(path):
        pass  # nothing was written
    assert names(tmp_path) == ["a.json", "folder"]


def test_a_file_gets_the_rights_that_the_process_gives_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.json", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_several_that_write_one_file_at_once_never_leave_a_mixture_or_a_leftover(tmp_path):
    path = tmp_path / "a.txt"
    texts = [letter * 100_000 for letter in "abcd"]
    write_whole(path, texts[0])
    failures, done = [], threading.Event()

    def write(text):
        try:
            for _ in range(20):
                write_whole(path, text)
        except OSError as error:
            failures.append(error)

    def read():
        while not done.is_set():
            if path.read_text() not in texts:
                failures.append("a mixture")

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert not failures
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("kind", ["replace_whole", "replace_folder_whole"])
def test_what_a_killed_process_left_goes_an_hour_later_with_the_next_that_writes_the_same(tmp_path, kind):
    code = (
        f"import os, sys; from pathlib import Path; from pipeline.files import {kind}\n"
        f"with {kind}(Path(sys.argv[1])) as staged:\n"
        "    (staged / 'part' if staged.is_dir() else staged).write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    for name in ("a[1]", "b"):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
        assert done.returncode == -9
    write_whole(tmp_path / "a[1]", "whole")
    assert len(names(tmp_path)) == 3  # it might be alive
    for path in tmp_path.iterdir():
        os.utime(path, LONG_AGO)
    write_whole(tmp_path / "a[1]", "whole")
    of_other, own = names(tmp_path)
    assert of_other.startswith(".b.part-")
    assert own == "a[1]"


def test_a_folder_stands_under_its_name_only_once_it_is_whole_and_replaces_an_older_one(tmp_path):
    folder = tmp_path / "model"
    for content in ("old", "new"):
        with replace_folder_whole(folder) as staged:
            (staged / content).write_text(content)
            assert not folder.exists() or names(folder) == ["old"]
        assert names(folder) == [content]
        assert names(tmp_path) == ["model"]


def test_a_folder_that_fails_leaves_the_older_one_and_nothing_else(tmp_path):
    folder = tmp_path / "model"
    with replace_folder_whole(folder) as staged:
        (staged / "weights").write_text("old")
    with pytest.raises(ValueError, match="why"), replace_folder_whole(folder) as staged:
        (staged / "weights").write_text("ne")
        raise ValueError("why")
    assert (folder / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_what_is_not_there_cannot_be_synced(tmp_path):
    sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nothing")
