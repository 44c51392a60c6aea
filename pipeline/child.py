"""Child processes that end with this one, whatever ends it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Started between us and the child: asks the kernel to end it with the thread that started it, which ends with us,
# whatever ends us, and becomes the child. In its own interpreter, since code between fork and exec of a threaded
# process may dead-lock.
_PR_SET_PDEATHSIG = 1
_DIE_WITH_PARENT = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """A command whose process gets SIGTERM when the thread that starts it ends; on Linux alone, elsewhere it does not.

    Args:
        command: a program's path and its arguments.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


def end_with_parent(parent: int) -> None:
    """Have this process get SIGTERM when the thread that started it ends; on Linux alone, elsewhere it does not.

    Args:
        parent: the process id of whoever started it; where that has ended by now, SIGTERM comes at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def run_child(
    command: Sequence[str], *, env: Mapping[str, str], within_s: float, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that gets SIGTERM when this process ends; one that takes too long is killed, with all below it.

    A terminal's Ctrl-C does not reach it by itself: it ends because this process does.

    Args:
        command: the program's path and its arguments.
        env: its environment.
        within_s: how long it may take.
        folder: where it works; this process's working folder by default.

    Returns:
        Its exit code and what it wrote.

    Raises:
        subprocess.TimeoutExpired: it took longer.
        OSError: it cannot be started.
    """
    with subprocess.Popen(
        tied_to_parent(command),
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            written, error_output = process.communicate(timeout=within_s)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, written, error_output)
