"""What ended a connection, said in one line without credentials."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.errors import RunError, VideoError
from pipeline.redaction import redact

_log = logging.getLogger(__name__)


def one_line(error: Exception) -> str:
    """An error's text in one line, without credentials."""
    return " ".join(redact(error).split())


def unexpected(label: str, error: Exception) -> str:
    """One line for a failure that nobody foresaw: what it was and where, without credentials.

    Args:
        label: what messages call the camera, redacted.
        error: as it was caught.
    """
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f" in {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    said = " ".join(f"{error.__class__.__name__}: {error}".split())
    return f"{label}: expected frames, got an unforeseen failure{where}: {redact(said)}"


def explained(label: str, failure: Exception) -> str:
    """One line for what ended a connection: whatever one camera's stream brings out, the others must go on.

    Args:
        label: what messages call the camera, redacted.
        failure: as it was caught.

    Raises:
        MemoryError: the failure, if it is one: it is not the camera's.
        RunError: likewise: such as a full disk.
    """
    if isinstance(failure, VideoError):
        return one_line(failure)
    if isinstance(failure, (MemoryError, RunError)):
        raise failure
    line = unexpected(label, failure)
    _log.error("%s", line)
    return line
