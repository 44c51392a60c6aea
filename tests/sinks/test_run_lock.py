"""One run at a time in a folder: told at once, by whom, and forgotten however the first one ended."""

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.errors import BadInputError
from pipeline.sinks import run_lock as module
from pipeline.sinks.run_lock import check_unused, run_lock

ROOT = Path(__file__).parents[2]
_HOLD = """
import sys
from pathlib import Path
from pipeline.sinks.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process whose run uses the folder."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def take(folder):
    with run_lock(folder):
        pass


@pytest.mark.parametrize("ask", [check_unused, take])
def test_a_second_run_is_told_which_folder_and_which_process_and_not_once_the_first_was_killed(holder, tmp_path, ask):
    with pytest.raises(BadInputError) as caught:
        ask(tmp_path / "run")
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: expected a folder that no run uses, but one is under way in it (process {holder.pid}); "
        "end it, or choose another folder"
    )
    holder.kill()
    holder.wait(30.0)
    ask(tmp_path / "run")


def test_a_run_that_ended_leaves_the_folder_to_the_next_and_looking_writes_nothing(tmp_path):
    check_unused(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        with run_lock(tmp_path / "run"), pytest.raises(BadInputError, match=r"\(process \d+\)"):
            take(tmp_path / "run")
    check_unused(tmp_path / "run")


def test_who_has_the_lock_and_has_not_said_so_is_told_without_a_number(tmp_path):
    with (tmp_path / "run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BadInputError, match="under way in it; end it"):
            take(tmp_path)


def test_a_run_is_not_refused_because_somebody_looks_at_that_moment_whether_one_is_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOOKED_AT_WITHIN_S", 30.0)
    file = (tmp_path / "run.lock").open("w")
    fcntl.flock(file, fcntl.LOCK_SH)
    looked = threading.Timer(0.05, file.close)
    looked.start()
    take(tmp_path)
    looked.join()


def test_a_run_that_fails_takes_its_number_away_too(tmp_path):
    with pytest.raises(ValueError, match="why"), run_lock(tmp_path):
        raise ValueError("why")
    assert (tmp_path / "run.lock").read_text() == ""


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInputError, match="expected a folder that can be written, got: Not a directory"):
        take(tmp_path / "file" / "run")
