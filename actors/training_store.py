"""What a training on several machines keeps on the machine of its command: its state, how it stands, what came of it.

Workers come and go, and none of them need run where the model is to be written. They hand over what must outlive them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.files import replace_whole
from pipeline.training.state import STATE_FILE
from pipeline.training.train import Trained

MOST_FUTILE = 3
"""Starts in a row after which a training came no further than before: then it is given up."""

Count = tuple[int, int]
"""Of frames: done, and in all."""


@dataclass(frozen=True)
class WorkerProgress:
    """How far a worker is.

    Attributes:
        features: frames of its share whose features are there.
        step: the epoch, the steps done, those in all, and the losses by level.
        heldout: frames of its share that were measured.
        passed_over: a line for each clip that could not be read.
    """

    features: Count = (0, 0)
    step: tuple[int, int, int, dict[str, float]] | None = None
    heldout: Count = (0, 0)
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        trained: the model, where there is one.
        error: otherwise the name of an error's class and its line; None where it was interrupted before a step.
    """

    trained: Trained | None = None
    error: tuple[str, str] | None = None


@dataclass(frozen=True)
class TrainingReport:
    """How a training stands.

    Attributes:
        progress: of all workers together.
        starts: how often workers began; more than once where some were lost, or others came.
        workers: how many there are.
        is_over: whether it ended.
    """

    progress: WorkerProgress
    starts: int
    workers: int
    is_over: bool


@dataclass
class TrainingStore:
    """An actor on the command's node.

    Args:
        folder: of the unfinished training; it exists.
    """

    folder: Path
    _progress: dict[int, WorkerProgress] = field(default_factory=dict[int, WorkerProgress])
    _passed_over: dict[str, None] = field(default_factory=dict[str, None])  # in their order
    _starts: int = 0
    _workers: int = 0
    _furthest: tuple[int, int, int] = (0, 0, 0)
    _before: tuple[int, int, int] = (-1, -1, -1)  # the furthest when workers began last
    _futile: int = 0
    _last_error: str = ""
    _is_stopping: bool = False
    _outcome: Outcome | None = None

    def begin(self, workers: int) -> bool:
        """Note that the first of some workers begins; whether it shall."""
        self._futile = self._futile + 1 if self._furthest == self._before else 0
        self._before = self._furthest
        if self._futile >= MOST_FUTILE:
            why = f": {self._last_error}" if self._last_error else ""
            line = f"expected workers that live, got {self._futile} starts that ended at the same point{why}"
            self._outcome = Outcome(error=("RunError", line))
            return False
        self._starts, self._workers, self._progress = self._starts + 1, workers, {}
        return True

    def tell(self, rank: int, progress: WorkerProgress) -> bool:
        """Note how far a worker is; whether the training is to end early."""
        self._progress[rank] = progress
        self._passed_over.update(dict.fromkeys(progress.passed_over))
        every = self._together()
        steps = 0 if every.step is None else every.step[1]
        self._furthest = max(self._furthest, (steps, every.features[0], every.heldout[0]))
        return self._is_stopping

    def failed(self, line: str) -> None:
        """Note what a worker died of."""
        self._last_error = line

    def keep_state(self, data: bytes) -> None:
        """Keep the state of the fit, a safetensors file.

        Raises:
            OSError: it cannot be written.
        """
        with replace_whole(self.folder / STATE_FILE) as staged:
            staged.write_bytes(data)

    def state(self) -> bytes | None:
        """The state that was kept last, also by an earlier command."""
        path = self.folder / STATE_FILE
        return path.read_bytes() if path.exists() else None

    def stop(self) -> None:
        """Have the training end after the next step."""
        self._is_stopping = True

    def end(self, outcome: Outcome) -> None:
        """Keep what came of it."""
        self._outcome = outcome

    def outcome(self) -> Outcome | None:
        """What came of it; None while it goes on."""
        return self._outcome

    def report(self) -> TrainingReport:
        """How it stands."""
        return TrainingReport(self._together(), self._starts, self._workers, self._outcome is not None)

    def _together(self) -> WorkerProgress:
        every = self._progress.values()
        steps = next((of.step for rank, of in sorted(self._progress.items()) if of.step is not None), None)
        return replace(
            WorkerProgress(passed_over=tuple(self._passed_over)),
            features=(sum(of.features[0] for of in every), sum(of.features[1] for of in every)),
            step=steps,
            heldout=(sum(of.heldout[0] for of in every), sum(of.heldout[1] for of in every)),
        )
