import os
import shutil

from pipeline.abandoned import changed_at, forget_abandoned


def test_files_and_folders_that_nobody_has_touched_for_an_hour_go_and_others_stay(tmp_path):
    for name in (".part-old", ".part-new", "kept"):
        (tmp_path / name).mkdir()
    for name in (".part-file", ".part-new-file"):
        (tmp_path / name).write_text("")
    for name in (".part-old", ".part-file", "kept"):
        os.utime(tmp_path / name, (0, 0))
    forget_abandoned(tmp_path, ".part-*")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".part-new", ".part-new-file", "kept"]


def test_another_process_may_delete_them_first(tmp_path, monkeypatch):
    for name in (".part-a", ".part-b", ".part-c"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))

    delete = shutil.rmtree

    def delete_all(*_, **__):
        for path in tmp_path.iterdir():
            delete(path)

    monkeypatch.setattr(shutil, "rmtree", delete_all)
    forget_abandoned(tmp_path, ".part-*")
    assert list(tmp_path.iterdir()) == []
    assert changed_at(tmp_path / ".part-a") is None
