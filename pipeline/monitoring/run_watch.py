"""How a run stands, as the process that holds its supervisor knows it: for whoever asks that process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.models.card import ModelCard
from pipeline.runtime.status import RunStatus
from pipeline.sinks.run_status import RunPhase

STALE_AFTER_S = 10.0
"""Without news from its supervisor, which has some every second, a run is stuck."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that scores a run's frames.

    Attributes:
        fingerprint: the first digits of its fingerprint.
        method: its method.
        encoder: name of its encoder.
    """

    fingerprint: str
    method: str
    encoder: str

    @classmethod
    def of(cls, card: ModelCard) -> ModelInfo:
        """What is told of the model with this card."""
        return cls(card.short_fingerprint, card.model.method, card.model.encoder.name)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run at one moment.

    Attributes:
        phase: of the run.
        status: the newest.
        age_s: how long ago it was told, in seconds.
        started_at_s: Unix time at which the run began.
        models: that score its frames.
    """

    phase: RunPhase
    status: RunStatus
    age_s: float
    started_at_s: float
    models: tuple[ModelInfo, ...] = field(default=())

    @property
    def unhealthy(self) -> str | None:
        """Why frames are not being scored as they should be, in one line; None while all is well."""
        if self.phase != "running":
            return f"expected a run that is running, this one is {self.phase}"
        if self.age_s > STALE_AFTER_S:
            return f"expected news of the run every second, the last came {self.age_s:.0f} s ago"
        return None


class RunWatch:
    """Holds the newest status of a run. Any thread may tell it, and any may look.

    Args:
        now: monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._started_at_s = time.time()
        self._models: tuple[ModelInfo, ...] = ()
        self._newest: tuple[RunPhase, RunStatus, float] = ("starting", RunStatus((), done=False), now())

    def tell(self, phase: RunPhase, status: RunStatus) -> None:
        """Take the newest status."""
        with self._lock:
            self._newest = phase, status, self._now()

    def tell_phase(self, phase: RunPhase) -> None:
        """Say how the run goes on from here, or that it is over."""
        with self._lock:
            self._newest = phase, *self._newest[1:]

    def tell_models(self, models: tuple[ModelInfo, ...]) -> None:
        """Say which models score frames from now on."""
        with self._lock:
            self._models = models

    def look(self) -> RunView:
        """How the run stands."""
        with self._lock:
            phase, status, told_at = self._newest
            return RunView(phase, status, self._now() - told_at, self._started_at_s, self._models)
