"""What a command tells its user on standard error, as JSON lines beside those that are logged."""

from __future__ import annotations

import logging
from typing import TextIO

from rich.text import Text

from pipeline.logs import COMMAND_LOGGER, JsonFormatter

_LEVELS = {"warning: ": logging.WARNING, "error: ": logging.ERROR}


class JsonLines:
    """A file that makes a log line of every line that is written to it, for what a command tells its user.

    Args:
        file: where they go.
    """

    encoding = "utf-8"

    def __init__(self, file: TextIO) -> None:
        self._file, self._begun, self._format = file, "", JsonFormatter()

    def write(self, text: str) -> int:
        """Take some text; a line is written once it is whole."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if said := Text.from_ansi(line).plain.strip():
                self._file.write(self._line(said) + "\n")
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self._file.flush()

    def isatty(self) -> bool:
        """It is no terminal, whatever the file is: no bars, no colours."""
        return False

    def _line(self, said: str) -> str:
        for prefix, level in _LEVELS.items():
            if said.startswith(prefix):
                return self._format.format(_record(level, said.removeprefix(prefix)))
        return self._format.format(_record(logging.INFO, said))


def _record(level: int, said: str) -> logging.LogRecord:
    return logging.LogRecord(COMMAND_LOGGER, level, "", 0, "%s", (said,), None)
