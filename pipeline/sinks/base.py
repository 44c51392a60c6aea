"""What every place that scores and alerts go to can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.types import Alert, Score


class Sink(Protocol):
    """Where scores and alerts go. Called by one thread."""

    def write(self, scores: Sequence[Score], alerts: Sequence[Alert]) -> None:
        """Take scores and alerts, each in order per camera; both may be empty."""
        ...

    def close(self) -> None:
        """Bring what was taken to its readers, within a bounded time, and stop; a second call does nothing."""
        ...

    def faults(self) -> list[str]:
        """One line per thing that could not be written so far."""
        ...
