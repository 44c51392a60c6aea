"""What every place that scores go to can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.types import Score


class Sink(Protocol):
    """Where scores go. Called by one thread. Alerts go through the run's store, which the Redis sink delivers from."""

    @property
    def trouble(self) -> str | None:
        """One line without credentials while things cannot be written, else None."""
        ...

    def write(self, scores: Sequence[Score]) -> None:
        """Take scores, in order per camera; may be empty. Never raises for a place that is away or full."""
        ...

    def close(self) -> None:
        """Bring what was taken to its readers, within a bounded time, and stop; a second call does nothing."""
        ...

    def faults(self) -> list[str]:
        """One line per thing that could not be written so far."""
        ...
