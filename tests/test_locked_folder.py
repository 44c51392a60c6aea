import logging
import os
import stat
import subprocess
import sys
import tempfile

import pytest

from pipeline.errors import RunError
from pipeline.locked_folder import locked_folder, touch_folder
from pipeline.private_folder import private_folder
from pipeline.runtime.frame_counters import FrameCounters

HOLD = """
import sys
from pipeline.locked_folder import locked_folder, touch_folder
with locked_folder(sys.argv[1]) as folder:
    (folder / "made").write_text("something")
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def hold(name):
    """A process of its own that holds a folder until it is told to end, or killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_held_folder_is_private_and_deleted_with_all_that_is_in_it():
    with locked_folder("mine") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text("something")
        assert folder == private_folder() / "mine"
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(private_folder().stat().st_mode) == 0o700
    assert list(private_folder().iterdir()) == []


def test_it_is_deleted_where_the_block_fails():
    with pytest.raises(ValueError, match="why"), locked_folder("mine"):
        raise ValueError("why")
    assert list(private_folder().iterdir()) == []


def test_what_a_killed_process_held_is_deleted_by_the_next_and_what_one_holds_is_not(caplog):
    killed, alive = hold("killed"), hold("alive")
    killed.kill()
    killed.wait()
    with caplog.at_level(logging.INFO), locked_folder("mine"):
        assert {path.name for path in private_folder().iterdir()} == {"alive", "mine"}
        assert (private_folder() / "alive" / "made").exists()
        assert "killed: a run that was killed left it" in caplog.text
        alive.communicate(b"\n", timeout=30.0)
        assert {path.name for path in private_folder().iterdir()} == {"mine"}


COUNT = """
import sys
from pathlib import Path
from pipeline.runtime.frame_counters import FrameCounters
FrameCounters(Path(sys.argv[1])).add("decoded", 5)
print("counted", flush=True)
sys.stdin.readline()
"""


def counts(path):
    """A camera process that counts five frames and is killed."""
    process = subprocess.Popen([sys.executable, "-c", COUNT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"counted\n"
    process.kill()
    process.wait()


def age(path, seconds):
    """Make it as old as it would be had nothing happened there for so long."""
    at_s = path.stat().st_mtime - seconds
    os.utime(path, (at_s, at_s))


def test_counter_files_of_a_camera_process_that_was_killed_stay_for_its_successor_where_no_command_holds_their_folder():
    path = private_folder() / "other-node" / "gate"
    counts(path)
    with locked_folder("mine"):
        assert FrameCounters(path)["decoded"] == 5


def test_counter_files_that_nobody_touches_for_an_hour_were_left_and_those_in_which_somebody_counts_were_not():
    folder = private_folder() / "other-node"
    counts(folder / "gate")
    age(folder, 3500)
    with locked_folder("mine"):
        assert folder.exists()
    age(folder, 200)
    counters = FrameCounters(folder / "gate")
    with locked_folder("mine"):
        assert folder.exists()
    counters.close()
    touch_folder(folder)
    with locked_folder("mine"):
        assert folder.exists()
    age(folder, 3700)
    with locked_folder("mine"):
        assert not folder.exists()


def test_counter_files_of_a_command_that_was_killed_are_deleted_at_once():
    killed = hold("run-killed")
    counts(private_folder() / "run-killed" / "gate")
    killed.kill()
    killed.wait()
    with locked_folder("mine"):
        assert {path.name for path in private_folder().iterdir()} == {"mine"}


def test_sockets_and_links_beside_it_are_let_alone(tmp_path):
    private_folder().mkdir()
    (tmp_path / "elsewhere").mkdir()
    (private_folder() / "link").symlink_to(tmp_path / "elsewhere")
    (private_folder() / "redis.sock").touch()
    with locked_folder("mine"):
        pass
    assert (private_folder() / "redis.sock").exists()
    assert (tmp_path / "elsewhere").exists()


def test_the_folder_of_another_user_is_refused_in_one_line(monkeypatch):
    private_folder().mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: private_folder().stat().st_uid + 1)
    with pytest.raises(RunError, match=r"cflow-stream-\d+: expected a temporary folder of this user, got: .*another"):
        locked_folder("mine").__enter__()
