"""The names in a run folder are known to users and their scripts: they do not change, and stand in one module."""

import ast
from pathlib import Path

import pytest

from pipeline.run_folder import RunFolder

ROOT = Path(__file__).parent.parent
SOURCES = [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "actors").rglob("*.py"), ROOT / "run_cluster.py"]


def test_every_name_in_a_run_folder_is_as_users_know_it():
    folder = RunFolder(Path("runs/live"))
    names = {
        folder.lock_file: "run.lock",
        folder.record_file: "run.json",
        folder.control_file: "control.json",
        folder.store_file(): "run.sqlite",
        folder.store_file(2): "run-2.sqlite",
        folder.redis: "redis",
        folder.quarantine: "quarantine",
        folder.stream_scores: "scores",
    }
    assert names == {Path("runs/live") / name: name for name in names.values()}


def test_a_replay_keeps_its_state_inside_its_scores():
    assert RunFolder.of_replay(Path("runs/ped2")) == RunFolder(Path("runs/ped2/_run"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_module_spells_a_name_of_the_run_folder(path):
    if path.name == "run_folder.py":
        return
    folder = RunFolder(Path())
    files = (folder.lock_file, folder.record_file, folder.control_file, folder.store_file(), folder.quarantine)
    names = {str(RunFolder.of_replay(Path()).path), *map(str, files)}
    strings = {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not strings & names
