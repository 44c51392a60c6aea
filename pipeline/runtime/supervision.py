"""What a supervisor must not forget when its process dies, as values and as JSON.

What the actors report, it learns again by asking them; this is the rest: who is to read what, who takes from whom, what
was said of a camera, and the frames that nobody living has counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter, ValidationError

from pipeline.alerts import Notice
from pipeline.errors import RunError
from pipeline.runtime.assignment import SavedAssignments
from pipeline.runtime.model_swap import SavedSwap
from pipeline.runtime.saved_cameras import SavedRegistry


@dataclass(frozen=True, slots=True)
class SavedNotices:
    """Notices for a scorer.

    Attributes:
        newest: number of the newest.
        waiting: those it has not said to have, in order, each with its number.
    """

    newest: int = 0
    waiting: tuple[tuple[int, Notice], ...] = ()


@dataclass(frozen=True, slots=True)
class Supervision:
    """All of it.

    Attributes:
        registry: the cameras.
        assignments: who reads what and who takes from whom.
        notices: for the scorers, by scorer.
        is_ending: whether the run was asked to end.
        models: of a run whose model was changed; None where it has its first.
    """

    registry: SavedRegistry
    assignments: SavedAssignments
    notices: Mapping[str, SavedNotices]
    is_ending: bool = False
    models: SavedSwap | None = None


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What the process that supervises a run finds when it is started again.

    Attributes:
        run: name of the run.
        started_at_s: Unix time at which the run began.
        incarnation: how many processes have supervised it, this one included.
        ends_at_s: Unix time at which it is to end; None where nobody said.
        supervision: what is known; None before the first step.
    """

    run: str
    started_at_s: float
    incarnation: int
    ends_at_s: float | None = None
    supervision: Supervision | None = None

    def as_json(self) -> str:
        """As JSON, in one line. It may hold passwords of cameras that were added while the run lasted."""
        return _adapter().dump_json(self).decode() + "\n"

    @classmethod
    def of_json(cls, text: str) -> SavedRun:
        """From JSON.

        Raises:
            RunError: it is none.
        """
        try:
            return _adapter().validate_json(text)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise RunError(f"expected a supervisor's state, got something else at {where or 'its start'}") from None


@cache
def _adapter() -> TypeAdapter[SavedRun]:
    return TypeAdapter(SavedRun)
