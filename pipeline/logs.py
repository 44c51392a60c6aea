"""Log lines as JSON objects, one a line, where the environment asks for them: ``CFLOW_LOG=json``.

They hold ``time`` (UTC), ``level``, ``logger``, ``message``, and where they are known ``camera``, ``session`` and
``error`` (a traceback), all without credentials.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import Any

from pipeline.errors import BadInputError
from pipeline.redaction import redact

LOG_VARIABLE = "CFLOW_LOG"
"""Of the environment; actors get it from the command."""

COMMAND_LOGGER = "cflow_stream"
"""Name of the logger of what a command says itself."""

_FIELDS = ("camera", "session")
_about: ContextVar[Mapping[str, Any]] = ContextVar("log_about", default=MappingProxyType({}))


def log_about(**fields: Any) -> None:
    """Say what the log lines of this thread are about from now on.

    Args:
        fields: ``camera`` (its id) or ``session`` (its number).
    """
    _about.set({**_about.get(), **fields})


def wants_json() -> bool:
    """Whether log lines are to be JSON.

    Raises:
        BadInputError: the environment asks for something else.
    """
    wanted = os.environ.get(LOG_VARIABLE, "")
    if wanted not in {"", "json"}:
        raise BadInputError(f"{LOG_VARIABLE}: expected json or nothing, got {wanted[:40]!a}")
    return wanted == "json"


def log_json_in_actor() -> None:
    """Have this process, which runs an actor, log JSON where the command does; to be called when it begins."""
    if os.environ.get(LOG_VARIABLE) == "json":
        log_json()


def log_json() -> None:
    """Have this process log JSON to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(COMMAND_LOGGER).critical("an unforeseen failure", exc_info=(kind, error, trace))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The object as text."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said: dict[str, Any] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        about = _about.get()
        for field in _FIELDS:
            if (value := getattr(record, field, about.get(field))) is not None:
                said[field] = value
        if record.exc_info:
            said["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(said, default=str)
