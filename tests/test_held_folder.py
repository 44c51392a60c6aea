import logging
import os
import stat
import subprocess
import sys
import tempfile

import pytest

from pipeline.errors import RunError
from pipeline.held_folder import held_folder, tend_folder
from pipeline.own_folder import own_folder
from pipeline.runtime.ledger import CameraLedger

HOLD = """
import sys
from pipeline.held_folder import held_folder, tend_folder
with held_folder(sys.argv[1]) as folder:
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
    with held_folder("mine") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text("something")
        assert folder == own_folder() / "mine"
        assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(own_folder().stat().st_mode) == 0o700
    assert list(own_folder().iterdir()) == []


def test_it_is_deleted_where_the_block_fails():
    with pytest.raises(ValueError, match="why"), held_folder("mine"):
        raise ValueError("why")
    assert list(own_folder().iterdir()) == []


def test_what_a_killed_process_held_is_deleted_by_the_next_and_what_one_holds_is_not(caplog):
    killed, alive = hold("killed"), hold("alive")
    killed.kill()
    killed.wait()
    with caplog.at_level(logging.INFO), held_folder("mine"):
        assert {path.name for path in own_folder().iterdir()} == {"alive", "mine"}
        assert (own_folder() / "alive" / "made").exists()
        assert "killed: a run that was killed left it" in caplog.text
        alive.communicate(b"\n", timeout=30.0)
        assert {path.name for path in own_folder().iterdir()} == {"mine"}


COUNT = """
import sys
from pathlib import Path
from pipeline.runtime.ledger import CameraLedger
CameraLedger(Path(sys.argv[1])).add("decoded", 5)
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


def test_ledgers_of_a_camera_process_that_was_killed_stay_for_its_successor_where_no_command_holds_their_folder():
    path = own_folder() / "other-node" / "gate"
    counts(path)
    with held_folder("mine"):
        assert CameraLedger(path)["decoded"] == 5


def test_ledgers_that_nobody_tends_for_an_hour_were_left_and_those_in_which_somebody_counts_were_not():
    folder = own_folder() / "other-node"
    counts(folder / "gate")
    age(folder, 3500)
    with held_folder("mine"):
        assert folder.exists()
    age(folder, 200)
    ledger = CameraLedger(folder / "gate")
    with held_folder("mine"):
        assert folder.exists()
    ledger.close()
    tend_folder(folder)
    with held_folder("mine"):
        assert folder.exists()
    age(folder, 3700)
    with held_folder("mine"):
        assert not folder.exists()


def test_ledgers_of_a_command_that_was_killed_are_deleted_at_once():
    killed = hold("run-killed")
    counts(own_folder() / "run-killed" / "gate")
    killed.kill()
    killed.wait()
    with held_folder("mine"):
        assert {path.name for path in own_folder().iterdir()} == {"mine"}


def test_sockets_and_links_beside_it_are_let_alone(tmp_path):
    own_folder().mkdir()
    (tmp_path / "elsewhere").mkdir()
    (own_folder() / "link").symlink_to(tmp_path / "elsewhere")
    (own_folder() / "redis.sock").touch()
    with held_folder("mine"):
        pass
    assert (own_folder() / "redis.sock").exists()
    assert (tmp_path / "elsewhere").exists()


def test_the_folder_of_another_user_is_refused_in_one_line(monkeypatch):
    own_folder().mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: own_folder().stat().st_uid + 1)
    with pytest.raises(RunError, match=r"cflow-stream-\d+: expected a temporary folder of this user, got: .*another"):
        held_folder("mine").__enter__()
