"""Ending a process in which FFmpeg still holds a thread, of a camera that is silent.

Nobody can call such a thread back. Where it wakes up while Python takes itself down, it touches what is gone: on a busy
machine one of a hundred recordings that were complete ended by a crash, after its last word.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def leaving_threads_behind() -> Iterator[None]:
    """End the process with the block, without Python's own end, where a thread outlives it; else do nothing.

    What was registered for the end is run, and what was printed is flushed.
    """
    code = 0
    try:
        yield
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 1 if done.code else 0
        if not _threads_left():
            raise
    if _threads_left():
        with suppress(Exception):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # closed, or nobody reads it
                stream.flush()
        os._exit(code)


def _threads_left() -> bool:
    return any(thread.daemon for thread in threading.enumerate() if thread is not threading.current_thread())
