"""Standard streams that a command can rely on, whatever it was started with."""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LAST_STANDARD = 2  # of the descriptors 0, 1 and 2


class OutputFile(io.FileIO):
    """What standard output or standard error writes to.

    Args:
        descriptor: stays open.
        is_needed: whether it takes a command's results. What cannot be written of progress and messages goes nowhere:
            a run is not to end because whoever read its log has ended.
    """

    def __init__(self, descriptor: int, *, is_needed: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._is_needed = is_needed
        self._was_refused = False

    def write(self, data: ReadableBuffer, /) -> int | None:
        """Write some bytes; once they were refused, what follows goes nowhere.

        Returns:
            How many were taken.

        Raises:
            SystemExit: whoever read it has enough; the code is that of a command that SIGPIPE ended.
            OSError: its disk is full, or whatever else the system has against it.
        """
        whole = memoryview(data).nbytes
        if self._was_refused:
            return whole
        try:
            while (taken := super().write(data)) is None:  # full, and made non-blocking by whoever else holds it
                select.select([], [self], [])
            return taken
        except OSError as error:
            if not self._is_needed:
                return whole
            self._was_refused = True
            if error.errno == errno.EPIPE:
                raise SystemExit(128 + signal.SIGPIPE) from None
            raise OSError(error.errno, error.strerror, "standard output") from None


def use_sound_streams() -> None:
    """Have standard streams that fail in order.

    One that was closed leads to ``/dev/null``, or the next file that is opened would take its place and with it what
    libraries and child processes print. What its encoding has no letter for is written as a number.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = _stream(sys.stdout, 1, is_needed=True)
    sys.stderr = _stream(sys.stderr, 2, is_needed=False)


def _stream(found: TextIO | None, descriptor: int, *, is_needed: bool) -> io.TextIOWrapper:
    """A stream in the place of the one that Python found; None is one that was closed when Python started."""
    if found is None:
        descriptor = os.open(os.devnull, os.O_WRONLY)
    file = OutputFile(descriptor, is_needed=is_needed)
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding="utf-8" if found is None else found.encoding,
        errors="backslashreplace",
        line_buffering=file.isatty() or not is_needed,
    )
