"""The terminal that commands talk to: results on standard output, everything else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

if os.environ.get("COLUMNS") == "0":  # of a terminal that does not know its size; nothing at all would be shown
    del os.environ["COLUMNS"]
_PIPE_WIDTH = 120  # of tables in files and pipes, which have no width of their own
_is_on_terminal = sys.stdout is not None and sys.stdout.isatty()  # None where it was closed

out = Console(soft_wrap=True, width=None if _is_on_terminal else _PIPE_WIDTH)
"""Results."""
err = Console(stderr=True, soft_wrap=True)
"""Progress, messages and errors."""


def say_aside(line: str) -> None:
    """Print a line on standard error as it stands."""
    err.print(line, markup=False, highlight=False)


def say_answer(answer: Mapping[str, Any]) -> None:
    """Print what a run has answered: what it did, and what there is to be careful of."""
    out.print(answer["said"], markup=False, highlight=False)
    for line in answer.get("warnings", ()):
        err.print(f"warning: {line}", markup=False, highlight=False, style="yellow")
