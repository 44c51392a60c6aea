import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.child import run_child

ROOT = Path(__file__).parents[1]
# Starts another program that holds the pipe open, too, and says so.
HANGS = "exec 3> {pipe}; sleep 1000 & echo started >&3; wait"


class Lifeline:
    """A pipe that programs hold open: it is at its end once the last of them has ended."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def wait_for_start(self, within_s: float) -> None:
        assert select.select([self._read], [], [], within_s)[0], "nothing was started"
        assert os.read(self._read, 8) == b"started\n"

    def wait_for_end(self, within_s: float) -> None:
        give_up_at = time.monotonic() + within_s
        while select.select([self._read], [], [], max(0.0, give_up_at - time.monotonic()))[0]:
            if os.read(self._read, 4096) == b"":
                os.close(self._read)
                return
        raise AssertionError("what was started goes on")


@pytest.fixture
def lifeline(tmp_path):
    return Lifeline(tmp_path / "lifeline")


def test_what_a_child_wrote_and_returned_is_told(tmp_path):
    done = run_child(["/bin/sh", "-c", "echo $WORD; echo no >&2; exit 3"], env={"WORD": "yes"}, within_s=20.0)
    assert (done.returncode, done.stdout, done.stderr) == (3, "yes\n", "no\n")


def test_a_child_works_in_the_folder_that_it_is_given(tmp_path):
    done = run_child(["/bin/sh", "-c", "pwd"], env={}, within_s=20.0, folder=tmp_path)
    assert done.stdout == f"{tmp_path}\n"


def test_a_child_that_takes_too_long_is_killed_with_what_it_started(lifeline):
    command = ["/bin/sh", "-c", HANGS.format(pipe=lifeline.path)]
    with pytest.raises(subprocess.TimeoutExpired):
        run_child(command, env=dict(os.environ), within_s=2.0)
    lifeline.wait_for_start(5.0)
    lifeline.wait_for_end(5.0)


def test_a_child_ends_with_its_parent_though_that_is_killed(lifeline):
    command = ["/bin/sh", "-c", f"exec 3> {lifeline.path}; echo started >&3; exec sleep 1000"]
    script = f"from pipeline.child import run_child; run_child({command!r}, env={{}}, within_s=99.0)"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    lifeline.wait_for_start(20.0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    lifeline.wait_for_end(5.0)
