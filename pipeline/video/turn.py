"""What a thread that waits inside FFmpeg needs so that somebody else can leave it to itself."""

from __future__ import annotations

import math
import threading
from pathlib import Path

from pipeline.redaction import redact

MAX_STUCK_THREADS = 4
"""Threads of one camera that are left to themselves at most: what hangs again and again must not eat up the machine."""


class Turn:
    """One thread's right to read a camera, until it is taken away; who has lost it counts and keeps nothing.

    Attributes:
        over: set when the thread is to end.
        returned: whether it has.
        progress_at_s: monotonic time at which something last came back from FFmpeg.
        limit_s: how long the next thing may take before the thread counts as stuck.
    """

    __slots__ = ("limit_s", "over", "progress_at_s", "returned")

    def __init__(self, now: float) -> None:
        self.over = threading.Event()
        self.returned = False
        self.progress_at_s = now
        self.limit_s = math.inf

    def is_stuck(self, now: float) -> bool:
        """Whether nothing has come back for longer than it may take.

        Args:
            now: monotonic seconds.
        """
        return now - self.progress_at_s > self.limit_s


def unexpected(shown: str, error: Exception) -> str:
    """One line for a failure that nobody foresaw: what it was and where, without credentials.

    Args:
        shown: what messages call the camera, redacted.
        error: as it was caught.
    """
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f" in {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    said = " ".join(f"{error.__class__.__name__}: {error}".split())
    return f"{shown}: expected frames, got an unforeseen failure{where}: {redact(said)}"
