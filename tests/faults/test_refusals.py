"""Every command and every folder that it writes, where the system refuses: one line, before any work is done."""

import errno
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import run_cluster
from pipeline.errors import BadInputError, CflowError
from pipeline.files import save_array, write_whole
from pipeline.models.checkpoint import save_tensors
from pipeline.private_folder import cache_folder
from pipeline.sinks.locate import run_redis
from tests.evaluation.footage import score_rows, write_scores
from tests.models_for_tests import TINY, tiny_config

pytestmark = pytest.mark.server  # of some; and importing Ray, torch and the rest takes seconds

COMMANDS = {
    "train": ("--config", "{config}", "--data", "{data}", "--out", "{place}"),
    "demo": ("--config", "{config}", "--out", "{place}"),
    "compare": ("--config", "{config}", "--data", "{data}", "--out", "{place}"),
    "replay": ("--config", "{config}", "--data", "{data}", "--model", "{model}", "--out", "{place}"),
    "stream": ("--config", "{stream}", "--model", "{model}"),
    "record": ("--config", "{record}", "--out", "{place}"),
    "evaluate --json": ("--scores", "{scores}", "--data", "{data}", "--json", "{place}"),
    "evaluate --report": ("--scores", "{scores}", "--data", "{data}", "--report", "{place}"),
}
PLACES = {
    "in a file": ("file/x", "Not a directory"),
    "too long": (f"{'x' * 300}/x", "File name too long"),
    "in proc": ("/proc/x/y", "No such file or directory"),
    "a link to nowhere": ("link/x", "No such file or directory"),
}


@pytest.fixture(scope="module")
def scores(trained, tmp_path_factory):
    rows = [score_rows(clip.name, [0.5] * clip.frame_count) for clip in trained.dataset.test]
    return write_scores(tmp_path_factory.mktemp("scores"), *rows)


class Shell:
    """Calls commands whose output goes to one place."""

    def __init__(self, folder, trained, scores):
        self.folder = folder
        self._known = {"data": trained.dataset.root, "model": trained.folder, "scores": scores}

    def refused(self, command, place):
        """The one line that a command ends with, having done nothing."""
        known = {
            **self._known,
            "place": place,
            "config": self._config("c"),
            "record": self._config("r", cameras=[{"id": "a", "url": "rtsp://127.0.0.1:9/main"}]),
            "stream": self._config("s", cameras=[{"id": "a", "url": "x.mp4"}], output={"folder": str(place)}),
        }
        words = [*command.split()[:1], *(word.format(**known) for word in COMMANDS[command])]
        done = CliRunner().invoke(run_cluster.app, words)
        error = done.exception
        assert isinstance(error, (CflowError, OSError)), repr(error)
        line = str(error) if isinstance(error, CflowError) else f"{error.filename}: {error.strerror}"
        assert len(line.splitlines()) == 1
        assert "None" not in line
        for begun in ("features", "evaluating", "rendering", "starting actors", "recording:"):
            assert begun not in done.stderr
        return line

    def _config(self, name, **sections):
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps({**TINY, **sections}))
        return path


@pytest.fixture
def shell(tmp_path, trained, scores):
    return Shell(tmp_path, trained, scores)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_cannot_be_is_refused_in_one_line(shell, tmp_path, command, where):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("/proc/nowhere")
    place, why = PLACES[where]
    line = shell.refused(command, tmp_path / place)
    assert why in line or "File exists" in line
    assert line.startswith(str((tmp_path / place).parent))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_is_read_only_is_refused_in_one_line(shell, disk, command):
    disk.remount("ro")
    line = shell.refused(command, disk.folder / "x")
    assert line.startswith(str(disk.folder))
    assert "Read-only file system" in line


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "record"])  # which waits for its camera first
def test_a_full_disk_is_refused_in_one_line(shell, disk, command):
    disk.fill()
    line = shell.refused(command, disk.folder / "x")
    assert line.startswith(str(disk.folder))
    assert "No space left" in line


@pytest.mark.parametrize("option", ["--json", "--report"])
def test_a_folder_in_the_place_of_a_file_is_refused_in_one_line(shell, tmp_path, option):
    for place in (tmp_path, Path("/"), Path()):
        assert shell.refused(f"evaluate {option}", place).endswith("expected the name of a file to write, got a folder")


def test_what_is_no_file_takes_the_numbers_of_an_evaluation(shell, trained, scores, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    words = ["--scores", scores, "--data", trained.dataset.root, "--json", tmp_path / "pipe"]
    done = CliRunner().invoke(run_cluster.app, ["evaluate", *map(str, words)])
    assert (done.exit_code, os.read(reader, 1)) == (0, b"{")
    os.close(reader)


@pytest.fixture
def homeless(monkeypatch):
    """A user without HOME and without an entry among the users, as containers are given one."""
    for variable in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    with pytest.raises(RuntimeError):
        Path.home()
    yield
    assert uid != os.getuid()


@pytest.mark.parametrize("command", [["status"], ["alerts"], ["cameras", "list"]])
def test_a_user_without_a_home_is_told_to_name_the_run(homeless, command):
    error = CliRunner().invoke(run_cluster.app, command).exception
    assert isinstance(error, BadInputError)
    assert str(error) == (
        "expected a run of this user to read from, found none (this user has no home, and neither HOME nor "
        "XDG_STATE_HOME is set); name one with --config"
    )


def test_a_user_without_a_home_has_a_run_all_the_same(homeless, redis_url, tmp_path, caplog):
    config = tiny_config(redis={"url": redis_url})
    with run_redis(config, tmp_path / "c.yaml", tmp_path / "run") as url:
        assert url == redis_url
    assert "alerts and status will need --config: " in caplog.text
    assert "this user has no home" in caplog.text


def test_what_is_compiled_needs_a_home_and_says_so(homeless):
    with pytest.raises(FileNotFoundError, match="this user has no home, and neither HOME nor XDG_CACHE_HOME is set"):
        cache_folder("packages")


def test_without_a_temporary_folder_a_command_says_so(shell, monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert shell.refused("stream", shell.folder / "run").startswith("expected a temporary folder that can be written")


def test_what_a_full_disk_does_not_take_is_told_with_file_and_reason_whoever_writes(disk):
    disk.fill()
    path = disk.folder / "a"
    for save in (
        lambda: save_tensors({"a": torch.zeros(9999)}, path),
        lambda: save_array(path, np.zeros(9999)),
        lambda: write_whole(path, "x" * 9999),
    ):
        with pytest.raises(OSError, match=f"No space left on device: '{path}'") as told:
            save()
        assert told.value.errno == errno.ENOSPC
