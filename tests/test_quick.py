"""Tests that have no mark are those of `make quick`: what they may not start, they cannot start."""

import subprocess
import sys

import pytest

from tests.guard.sitecustomize import NotQuickError, forbidden

REDIS = ["/usr/bin/redis-server", "--port", "0"]


@pytest.mark.parametrize(
    ("command", "mark"),
    [
        (REDIS, "server"),
        ([sys.executable, "-c", "...", *REDIS], "server"),
        (["/usr/bin/python3", "tests/rtsp_server.py"], "server"),
        (["/somewhere/ray/core/src/ray/gcs/gcs_server", "--log_dir=x"], "ray"),
        ([b"/somewhere/raylet/raylet"], "ray"),
        ("g++ -O3 a.cpp -o a.so", "compiler"),
    ],
)
def test_a_command_that_takes_long_or_needs_a_package_is_recognised(command, mark):
    assert f"without the mark `{mark}`" in forbidden("subprocess.Popen", (command[0], command, None, None))


@pytest.mark.parametrize("command", [[sys.executable, "-c", "pass"], ["redis-server", "--version"], "git status"])
def test_other_commands_are_let_through(command):
    assert forbidden("subprocess.Popen", (command[0], command, None, None)) is None


START = "import subprocess; subprocess.run(['redis-server', '--port', '0'], timeout=20.0)"


def test_a_process_that_a_quick_test_starts_is_guarded_too():
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=False, timeout=60.0)
    assert done.returncode != 0
    assert "NotQuickError: a test without the mark `server` has started redis-server --port 0" in done.stderr


def test_this_process_is_guarded():
    from tests import conftest

    with pytest.raises(NotQuickError, match="`server`"):
        subprocess.run(REDIS, check=False, timeout=20.0)
    assert len(conftest.broken) == 1
    conftest.broken.clear()
