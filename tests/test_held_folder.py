import logging
import os
import stat
import subprocess
import sys
import tempfile

import pytest

from pipeline.errors import RunError
from pipeline.held_folder import held_folder
from pipeline.own_folder import own_folder
from pipeline.runtime.ledger import CameraLedger

HOLD = """
import sys
from pipeline.held_folder import held_folder
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


def test_ledgers_in_which_a_camera_process_counts_stay_though_no_command_holds_their_folder():
    ledger = CameraLedger(own_folder() / "other-node" / "gate")
    with held_folder("mine"):
        assert ledger.path.exists()
    ledger.close()
    with held_folder("mine"):
        assert not ledger.path.parent.exists()


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
