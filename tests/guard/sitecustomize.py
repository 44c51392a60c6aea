"""Keeps quick tests quick: in this process, no Ray, server or compiler is started.

While a quick test runs, this folder is in ``PYTHONPATH``: every Python that it starts begins with this file. The
tests' own process asks ``forbidden`` itself.
"""

import os
import sys

PROGRAMS = {
    "gcs_server": "ray",
    "raylet": "ray",
    "redis-server": "server",
    "prometheus": "server",
    "mosquitto": "server",
    "rtsp_server.py": "server",
    "g++": "compiler",
    "clang++": "compiler",
    "c++": "compiler",
}
"""What a quick test may not start, and the mark of tests that may."""


class NotQuickError(BaseException):
    """A test without a mark has started what only tests with one may; nothing that is tested catches this."""


def forbidden(event, arguments):
    """Why a process may not be started that an audit event tells of; None where it may."""
    if event != "subprocess.Popen":
        return None
    command = arguments[1]
    words = command.split() if isinstance(command, str) else [os.fsdecode(word) for word in command]
    names = [os.path.basename(word) for word in words]  # noqa: PTH119 - every Python that is started pays for imports
    found = [name for name in names if name in PROGRAMS]
    if not found or names[-1] in ("--version", "-dumpversion"):  # whoever asks for a version starts nothing
        return None
    return f"a test without the mark `{PROGRAMS[found[0]]}` has started {' '.join(words)[:200]}"


def _refuse(event, arguments):
    if reason := forbidden(event, arguments):
        raise NotQuickError(reason)


if __name__ == "sitecustomize":
    sys.addaudithook(_refuse)
