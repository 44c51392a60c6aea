"""Where what a supervisor must not forget outlives its process."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.errors import RunError
from pipeline.files import replace_whole
from pipeline.runtime.supervision import SavedRun, Supervision
from pipeline.types import Trouble

_KEEP_EVERY_S = 10.0  # what the actors report, for the counts of those whose node dies meanwhile


class SupervisionFile:
    """A file in the run's folder, written whole. It may hold passwords of cameras: only this user may read it.

    Args:
        path: of the file; one of another run is written over.
        run: name of the run.

    Raises:
        RunError: it holds something else than a supervisor's state.
        OSError: it cannot be read or written.

    Attributes:
        troubles: why it cannot be written at present.
        is_new: whether no process has supervised the run before.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._unreported: object = None
        self._kept_at = -math.inf
        self.troubles: tuple[Trouble, ...] = ()
        before = self._read(run)
        self.is_new = before is None
        self._saved = before or SavedRun(run=run, started_at_s=time.time(), incarnation=0)
        self._write(replace(self._saved, incarnation=self._saved.incarnation + 1))

    @property
    def incarnation(self) -> int:
        """How many processes have supervised the run, this one included."""
        return self._saved.incarnation

    @property
    def started_at_s(self) -> float:
        """Unix time at which the run began."""
        return self._saved.started_at_s

    @property
    def supervision(self) -> Supervision | None:
        """What was saved last; None before the first time."""
        return self._saved.supervision

    def keep(self, unreported: object, now: float, supervision: Callable[[], Supervision]) -> None:
        """Save what is known, where something has changed that no actor would report again, and now and then.

        Where that is not possible, the run goes on, and tells its troubles.

        Args:
            unreported: all that no actor would report again; only compared.
            now: monotonic seconds.
            supervision: what is known.
        """
        if unreported == self._unreported and now - self._kept_at < _KEEP_EVERY_S:
            return
        self._unreported, self._kept_at = unreported, now
        try:
            self._write(replace(self._saved, supervision=supervision()))
            self.troubles = ()
        except OSError as error:
            key = f"{self._path} cannot be written"
            text = f"{self._path}: the supervisor could not be started again as it stands: {error.strerror}"
            self.troubles = (Trouble(key, text),)

    def left_s(self, duration_s: float) -> float:
        """Seconds for which the run still goes on.

        Args:
            duration_s: seconds from the first call on, which a process before this one may have made.
        """
        if self._saved.ends_at_s is None:
            self._write(replace(self._saved, ends_at_s=time.time() + duration_s))
        return max((self._saved.ends_at_s or 0.0) - time.time(), 0.0)

    def remove(self) -> None:
        """Delete it: the run has ended."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _read(self, run: str) -> SavedRun | None:
        try:
            found = SavedRun.of_json(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except RunError as error:
            raise RunError(f"{self._path}: {error}; delete it to begin anew") from None
        return found if found.run == run else None

    def _write(self, saved: SavedRun) -> None:
        self._saved = saved  # also where it cannot be written: another part of it may be, later
        with replace_whole(self._path) as staged:
            staged.touch(mode=0o600)
            staged.write_text(saved.as_json(), encoding="utf-8")
