"""A run store that a run with more scorers left behind: delivered where it lies, then deleted.

Its alerts stay in it until every sink has them, as they would have for the scorer whose it was: moved into another file
they could be lost or doubled by whoever dies in between.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.alerts import Alert, Notice
from pipeline.sinks.base import Sink, SinkContext, SinkSettings
from pipeline.sinks.run_store import RunStore

_log = logging.getLogger(__name__)


class LeftStore:
    """The store, and sinks of its own. For one thread.

    Args:
        path: the file.
        run: name of the run that delivers it.
        settings: of the run's sinks.
        end_events: makes of the states of cameras, by id, the ends of the events that are open in them.

    Raises:
        RunError: another process has the file, another version wrote it, or what it holds cannot be read at present.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        settings: Sequence[SinkSettings],
        end_events: Callable[[Mapping[str, str]], Sequence[Alert | Notice]],
    ) -> None:
        named = {one.sink_name: one for one in settings if one.takes_alerts}
        self._path = path
        self._store = RunStore(path, run, list(named), {name: one.rules for name, one in named.items() if one.rules})
        self._store.forget_abandoned(end_events(self._store.abandoned()))
        self._store.emit_digests(time.time(), at_once=True)  # its cameras are another scorer's now
        self.sinks: dict[str, Sink] = {}
        for name, one in named.items():
            context = SinkContext(run, {}, self._store.alerts(name), folder=path.parent, is_left=True)
            self.sinks[name] = one.open(replace(context, keeps_pictures=False))  # there are none to come
        self.is_open = True

    @property
    def is_delivered(self) -> bool:
        """Whether every sink has every alert."""
        return all(self._store.alerts(name).counts.waiting == 0 for name in self.sinks)

    def maintain(self) -> None:
        """Do what is due; a store that is delivered is closed and deleted."""
        if self.is_open and self.is_delivered:
            self.close(timeout_s=1.0)
        elif self.is_open:
            for sink in self.sinks.values():
                sink.maintain()

    def close(self, timeout_s: float) -> None:
        """Deliver what can be delivered in time; what is left waits for the next run.

        Args:
            timeout_s: longest time for each sink.
        """
        if not self.is_open:
            return
        for sink in self.sinks.values():
            sink.close(timeout_s)
        self._store.close()
        self.is_open = False
        if self.is_delivered:
            try:
                for path in (self._path.with_name(f"{self._path.name}-wal"), self._path):
                    path.unlink(missing_ok=True)
            except OSError as error:  # it is empty, and harms nobody
                _log.warning("%s: it is no longer needed and could not be deleted: %s", self._path, error.strerror)
