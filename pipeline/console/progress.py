"""How far along everything is that takes more than a few seconds: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

Clock = Callable[[], float]


class Stage(Protocol):
    """One thing under way, as it is shown."""

    def show(self, label: str, done: int, total: int | None, note: str) -> None:
        """Show that ``done`` of ``total`` are done; a new label begins a new stage in the same place."""
        ...


class Stages(Protocol):
    """Where stages are shown."""

    def add(self) -> Stage:
        """A stage below those before it; it appears when it is first shown."""
        ...


@contextmanager
def progress_bars(console: Console, now: Clock = time.monotonic) -> Iterator[Stages]:
    """Bars with counts, times and a free text at the end; lines where nobody would see a bar move.

    Args:
        console: where they go.
        now: monotonic, seconds.
    """
    if not console.is_terminal:
        lines = ProgressLines(console, now)
        try:
            yield lines
        finally:
            lines.close()
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Remaining(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    ) as progress:
        yield _Bars(progress)


class _Bars:
    """Stages as bars."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def add(self) -> Stage:
        return _BarStage(self._progress)


class _BarStage:
    """One bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def show(self, label: str, done: int, total: int | None, note: str) -> None:
        if self._task is None:
            self._task = self._progress.add_task(label, total=total, note=note)
        self._progress.update(self._task, description=label, completed=done, total=total, note=note)


LINE_EVERY_S = 20.0
"""Between lines of something that ends."""

ENDLESS_LINE_EVERY_S = 60.0
"""Between lines of something that may go on for weeks."""


class LineClock:
    """Says when the next line is due: the first at once, then one every so often.

    Args:
        endless: whether what is shown may go on for weeks.
        now: monotonic, seconds.
    """

    def __init__(self, *, endless: bool, now: Clock = time.monotonic) -> None:
        self._every_s = ENDLESS_LINE_EVERY_S if endless else LINE_EVERY_S
        self._now = now
        self._due_at_s = now()

    def is_due(self) -> bool:
        """Whether it is time; then the next one is due after a while."""
        if self._now() < self._due_at_s:
            return False
        self._due_at_s = self._now() + self._every_s
        return True


class ProgressLines:
    """Stages as plain lines: each at once when it begins, then every so often, and when it is done.

    Args:
        console: where they go.
        now: monotonic, seconds.
    """

    def __init__(self, console: Console, now: Clock) -> None:
        self._console = console
        self._now = now
        self._stages: list[_LineStage] = []

    def add(self) -> Stage:
        """A stage of its own."""
        self._stages.append(_LineStage(self._say, self._now))
        return self._stages[-1]

    def close(self) -> None:
        """Say how far stages came that nothing was said of since."""
        for stage in self._stages:
            stage.close()

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _LineStage:
    """A place for one stage after the other."""

    def __init__(self, say: Callable[[str], None], now: Clock) -> None:
        self._say = say
        self._now = now
        self._lines: _Lines | None = None

    def show(self, label: str, done: int, total: int | None, note: str) -> None:
        if self._lines is None or self._lines.label != label:
            self.close()
            self._lines = _Lines(label, done, self._say, self._now, LineClock(endless=total is None, now=self._now))
        self._lines.show(done, total, note)

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()


class _Lines:
    """The lines of one stage. Rates are those since its last line: what was found done already took no time."""

    def __init__(self, label: str, done: int, say: Callable[[str], None], now: Clock, line_clock: LineClock) -> None:
        self.label = label
        self._say = say
        self._now = now
        self._line_clock = line_clock
        self._began_at_s = self._said_at_s = now()
        self._said_done = done
        self._is_done = False
        self._unsaid: str | None = None

    def show(self, done: int, total: int | None, note: str) -> None:
        now_s = self._now()
        was_done, self._is_done = self._is_done, total is not None and done >= total
        if was_done and done == self._said_done:
            return
        line = f"{self.label}: {', '.join(self._parts(done, total, note, now_s))}"
        if self._line_clock.is_due() or (self._is_done and not was_done):
            self._say(line)
            self._unsaid, self._said_at_s, self._said_done = None, now_s, done
        elif done != self._said_done:
            self._unsaid = line

    def close(self) -> None:
        """Say what was not said yet."""
        if self._unsaid is not None:
            self._say(self._unsaid)
            self._unsaid = None

    def _parts(self, done: int, total: int | None, note: str, now_s: float) -> Iterator[str]:
        yield f"{done:,}" if total is None else f"{done:,} of {total:,} ({100 * done // max(1, total)} %)"
        elapsed_s, made = now_s - self._said_at_s, done - self._said_done
        if self._is_done:
            yield f"took {_duration(now_s - self._began_at_s)}"
        elif elapsed_s > 0.0 and made > 0:
            yield f"{made / elapsed_s:,.1f} per second"
            if total is not None:
                yield f"{_duration((total - done) * elapsed_s / made)} left"
        if note:
            yield note


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, such as 0:02:05."""
    return str(timedelta(seconds=round(seconds)))


class Bar:
    """One stage, driven by ``(done, total)``; it appears with the first call."""

    def __init__(self, stages: Stages, label: str) -> None:
        self._stage = stages.add()
        self._label = label

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """Show that ``done`` of ``total`` are done."""
        self._stage.show(self._label, done, total, note)

    def rename(self, label: str) -> None:
        """Change what it is called from the next call on."""
        self._label = label


class TrainingBars:
    """A ``TrainingProgress`` that shows feature extraction, fitting with every level's loss, and calibration.

    Args:
        stages: where they are shown.
        fitting: what the fit is called.

    Attributes:
        not_used: a line for each clip that could not be read after all.
    """

    def __init__(self, stages: Stages, fitting: str = "flows") -> None:
        self.not_used: list[str] = []
        self._features = Bar(stages, "features")
        self._fitting = fitting
        self._steps = Bar(stages, fitting)
        self._heldout = Bar(stages, "held-out scores")

    def features(self, done: int, total: int) -> None:
        """Frames whose features were extracted."""
        self._features(done, total)

    def passed_over(self, line: str) -> None:
        """A clip that could not be read after all."""
        self.not_used.append(line)

    def models(self, count: int) -> None:
        """Little footage is cross-fitted, which takes several models."""
        self._steps.rename(f"{self._fitting}, {count} models")

    def step(self, epoch: int, step: int, total_steps: int, losses: Mapping[str, float]) -> None:
        """An optimiser step, with the loss of each level."""
        shown = "  ".join(f"{level}: {loss:.4f}" for level, loss in losses.items())
        self._steps(step, total_steps, f"epoch {epoch + 1}  {shown}")

    def heldout(self, done: int, total: int) -> None:
        """Held-out frames that were scored."""
        self._heldout(done, total)
