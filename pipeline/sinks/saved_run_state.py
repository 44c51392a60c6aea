"""What a run must not forget of itself when its scorer dies, beside the states of its cameras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from pipeline.alerts import Notice


@dataclass(frozen=True, slots=True)
class SavedRunState:
    """State of a run; every field is a key in the run's store.

    Attributes:
        notices: number of the newest notice of the supervisor's that was taken in.
        tunings: how all detectors of the run are to run a model, as ``Tuning.as_json`` gives it, by the model's
            fingerprint; missing before the first one asked.
        storage: that rows cannot be written at present, as it was emitted; None where they can.
        run: that the run has begun or is over, as it was emitted last; None before the first process said so.
        evidence: which pictures and clips of events are wanted, as ``EvidenceDesk.saved`` says it.
    """

    notices: int = 0
    tunings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    storage: Notice | None = None
    run: Notice | None = None
    evidence: str = ""

    @classmethod
    def from_rows(cls, rows: Mapping[str, str]) -> Self:
        """The state that was stored.

        Args:
            rows: as ``rows`` gives them; keys that are missing have their defaults.
        """
        values = {key: json.loads(text) for key, text in rows.items() if key in _KEYS}
        notices = {key: Notice(**values[key]) for key in ("storage", "run") if values.get(key) is not None}
        return cls(**{**values, **notices})  # pyright: ignore[reportArgumentType]

    def rows(self) -> dict[str, str]:
        """Key to value, as JSON."""
        return {key: json.dumps(value) for key, value in asdict(self).items()}


_KEYS = frozenset(entry.name for entry in fields(SavedRunState))
