"""How a training reports its progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class TrainingProgress(Protocol):
    """Follows a training; called between steps, so raising KeyboardInterrupt here ends it cleanly."""

    def features(self, done: int, total: int) -> None:
        """Frames whose features were extracted."""

    def passed_over(self, line: str) -> None:
        """A clip that could not be read after all; the training goes on without it.

        Args:
            line: which clip, and why.
        """

    def models(self, count: int) -> None:
        """The footage is cross-fitted: so many models are fitted, one after the other; steps are counted over all.

        Args:
            count: the last one, which is kept, included.
        """

    def step(self, epoch: int, step: int, total_steps: int, losses: Mapping[str, float]) -> None:
        """An optimiser step was done.

        Args:
            epoch: the pass over the frames it belongs to, from 0.
            step: steps done.
            total_steps: steps of the whole training.
            losses: running mean of every level's loss, by the level's name (``stride 8``, ``block 3``).
        """

    def heldout(self, done: int, total: int) -> None:
        """Held-out normal frames that were scored."""


class NullProgress:
    """Progress that nobody watches."""

    def features(self, done: int, total: int) -> None:
        """Ignore it."""

    def passed_over(self, line: str) -> None:
        """Ignore it."""

    def models(self, count: int) -> None:
        """Ignore it."""

    def step(self, epoch: int, step: int, total_steps: int, losses: Mapping[str, float]) -> None:
        """Ignore it."""

    def heldout(self, done: int, total: int) -> None:
        """Ignore it."""
