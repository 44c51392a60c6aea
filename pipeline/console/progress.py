"""Progress bars of everything that takes more than a few seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """Bars with counts, times and a free text at the end."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Remaining(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    ) as progress:
        yield progress


class Bar:
    """One bar, driven by ``(done, total)``; it appears with the first call."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label
        self._task: TaskID | None = None

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Show that ``done`` of ``total`` are done."""
        if self._task is None:
            self._task = self._progress.add_task(self._label, total=total, note=note)
        self._progress.update(self._task, completed=done, total=total, note=note)

    def rename(self, label: str) -> None:
        """Change what stands in front of the bar."""
        self._label = label
        if self._task is not None:
            self._progress.update(self._task, description=label)


class TrainingBars:
    """A ``TrainingProgress`` that shows feature extraction, fitting with every level's loss, and calibration.

    Args:
        progress: where the bars go.
        fitting: what the bar of the fit is called.
    """

    def __init__(self, progress: Progress, fitting: str = "flows") -> None:
        self._features = Bar(progress, "features")
        self._steps = Bar(progress, fitting)
        self._heldout = Bar(progress, "held-out scores")

    def features(self, done: int, total: int) -> None:
        """Frames whose features were extracted."""
        self._features(done, total)

    def step(self, epoch: int, step: int, total_steps: int, losses: Mapping[int, float]) -> None:
        """An optimiser step, with the loss of each level by its stride."""
        shown = "  ".join(f"stride {stride}: {loss:.4f}" for stride, loss in losses.items())
        self._steps(step, total_steps, f"epoch {epoch + 1}  {shown}")

    def heldout(self, done: int, total: int) -> None:
        """Held-out frames that were scored."""
        self._heldout(done, total)
