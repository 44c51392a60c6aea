"""Whether a run lives, in words: for ``status``, and for whoever follows alerts and could take silence for calm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.console.tables import plain
from pipeline.errors import RedisError
from pipeline.sinks.redis_trouble import is_refusal
from pipeline.sinks.run_status import ENDED_PHASES, read_run
from pipeline.sinks.schema import ALIVE_FOR_S

_LOOK_EVERY_S = 1.0


def is_healthy(run: Mapping[str, Any] | None) -> bool:
    """Whether a run goes on, or ended in good order.

    Args:
        run: as ``read_run`` gives it.
    """
    return run is not None and (run["is_alive"] or run["state"] == "ended")


def run_line(run: Mapping[str, Any] | None) -> str:
    """How a run stands, in one line.

    Args:
        run: as ``read_run`` gives it.
    """
    if run is None:
        return "run: none has written here"
    name = f"run {plain(run['run'])} (process {plain(run.get('pid'))} on {plain(run.get('host'))})"
    ago = f"{run['silent_s']:,.1f} s ago"
    if run["is_alive"]:
        return f"{name}: {plain(run['state'])}, last sign of life {ago}"
    if run["state"] in ENDED_PHASES:
        reason = f": {plain(run['reason'])}" if run.get("reason") else ""
        return f"{name}: {plain(run['state'])} {ago}{reason}"
    return f"{name}: LOST, last sign of life {ago}: it was killed, or its machine is gone"


def trouble_lines(run: Mapping[str, Any] | None) -> list[str]:
    """What was wrong when the run was last heard of: while it goes on at present, afterwards what was not written."""
    lines = [] if run is None else [*_lines(run.get("troubles")), *_lines(run.get("faults"))]
    return [plain(line) for line in lines]


def _lines(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class RunWatcher:
    """Says when a run begins, ends or is lost, or that this cannot be known. Pure: it returns what is new."""

    def __init__(self) -> None:
        self._known: tuple[Any, str] | None = None
        self._answered_at = 0.0
        self._is_refused = False

    def seen(self, run: Mapping[str, Any] | None, now: float) -> str | None:
        """What is new, in one line, now that a run was found so.

        Args:
            run: as ``read_run`` gives it.
            now: monotonic seconds.
        """
        self._answered_at, self._is_refused = now, False
        if run is None:
            return None
        how = "alive" if run["is_alive"] else run["state"] if run["state"] in ENDED_PHASES else "lost"
        before, self._known = self._known, (run["run"], how)
        if self._known == before or (before is None and how == "alive"):
            return None
        return run_line(run)

    def unanswered(self, error: RedisError, now: float) -> str | None:
        """What is new, now that Redis could not be asked.

        Args:
            error: why not.
            now: monotonic seconds.
        """
        if self._known is None and is_refusal(error) and not self._is_refused:
            self._is_refused = True
            return f"how the run stands cannot be read, nor will its loss be noticed: {error}"
        silent_s = now - self._answered_at
        if silent_s < ALIVE_FOR_S or self._known is None or self._known[1] != "alive":
            return None
        self._known = (self._known[0], "unknown")
        return f"run {plain(self._known[0])}: no sign of life for {silent_s:.0f} s: {error}"


@contextmanager
def run_watched(url: str, say: Callable[[str], None]) -> Iterator[None]:
    """Say when a run begins, ends or is lost, while the block lasts.

    Args:
        url: address of its Redis.
        say: called with each line, by a thread.
    """
    done = threading.Event()
    watcher = RunWatcher()

    def watch() -> None:
        while not done.is_set():
            try:
                line = watcher.seen(read_run(url), time.monotonic())
            except RedisError as error:
                line = watcher.unanswered(error, time.monotonic())
            if line is not None:
                say(line)
            done.wait(_LOOK_EVERY_S)

    thread = threading.Thread(target=watch, name="run-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(_LOOK_EVERY_S)
