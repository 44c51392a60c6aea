"""What was looked at and how it stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.redaction import redact

FindingState = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the thing.
        state: ``ok``; ``warning`` where a run starts and something about it will not be as wished; ``failed`` where it
            would not start, or a camera would give no frames.
        detail: what was found, in one line; made free of credentials here.
    """

    what: str
    state: FindingState
    detail: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", redact(" ".join(self.detail.split())))

    def as_json(self) -> dict[str, str]:
        """A flat object."""
        return asdict(self)
