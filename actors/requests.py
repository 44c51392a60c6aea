"""Requests to a run and its answers, as JSON, whatever way they come and go."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from actors.control import RunControl
from pipeline.errors import BadInputError, CflowError, RunError
from pipeline.redaction import redact

_log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 30.0
"""Longest wait for an answer; that to ``stop`` comes when the run has ended."""

_LAST_ANSWERS_S = 2.0


def answered(run_control: RunControl, request: bytes) -> bytes:
    """What a run answers to a request, one line: its answer, or ``{"error": line}``.

    Args:
        run_control: answers.
        request: see ``RunControl.answer``; anything.
    """
    return json.dumps(_answer(run_control, request)).encode() + b"\n"


def checked(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer, unless it is an error.

    Raises:
        BadInputError: the request could not be met.
        RunError: it failed.
    """
    if "error" in answer:
        raise (RunError if answer.get("failed") else BadInputError)(answer["error"])
    return dict(answer)


def _answer(run_control: RunControl, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"error": f"expected a JSON object, got something else ({error.__class__.__name__})"}
    try:
        if not isinstance(request, dict):
            raise BadInputError(f"expected a JSON object, got {type(request).__name__}")
        return run_control.answer(request)
    except CflowError as error:
        return {"error": redact(error), "failed": not isinstance(error, BadInputError)}
    except Exception as error:  # whatever it is, the one who asked gets an answer, and the run goes on
        _log.exception("a request failed")
        return {"error": f"the run could not do it: {redact(error)}", "failed": True}


class Underway:
    """Counts requests that are being answered: a block for each."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_for_none(self) -> None:
        """Wait a moment for those who were asked when the run ended: their answers are said by its end."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, _LAST_ANSWERS_S)
