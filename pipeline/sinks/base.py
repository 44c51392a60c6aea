"""What every place that scores and alerts go to can do, and how it is made from settings.

A sink is one module with two classes: settings, which say where it is and travel to the scorer's process, and the sink
that they open there. ``pipeline.sinks.kinds`` finds those that the config may name.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from pipeline.model_settings import Settings
from pipeline.sinks.delivery_rules import DeliveryRules
from pipeline.types import Score, Trouble

if TYPE_CHECKING:
    from pipeline.sinks.alert_queue import AlertCounts, AlertQueue

_log = logging.getLogger(__name__)

SinkName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink may need to know of the run that opens it.

    Attributes:
        run: name of the run.
        confirmed: of each camera (session, index) of the last frame whose score the run remembers, or None: frames
            above it will be scored again.
        alerts: the sink's end of the outbox; None for one whose settings take no alerts.
        scorer: number of the scorer that opens it; each of a run's scorers opens sinks of its own.
        folder: the run's output folder, from which paths in alerts lead on.
        keeps_pictures: whether the run keeps pictures of events.
        is_left: whether it only delivers what a scorer of an earlier run left, beside the sinks of this run's own.
    """

    run: str
    confirmed: Mapping[str, tuple[int, int] | None]
    alerts: AlertQueue | None
    scorer: int = 0
    folder: Path = Path()
    keeps_pictures: bool = True
    is_left: bool = False


class Sink:
    """Where scores and alerts go. What a sink does not need, it leaves as it stands here.

    None of its methods raises for a place that is away, full or refuses: that is ``trouble``, and is tried again.

    Attributes:
        is_storage: whether it keeps every row. Then ``write`` comes before the states that belong to the rows are
            committed, so that a row outlives the scorer's process before its frame counts as done (rows whose states
            were not committed are left out by the next process, which scores their frames again), and trouble is
            reported as the notice ``storage_failing``. ``write`` of all others comes after the commit.
    """

    is_storage: ClassVar[bool] = False

    @property
    def trouble(self) -> Trouble | None:
        """What is in the way while things cannot be written, without credentials; else None."""
        return None

    @property
    def alert_counts(self) -> AlertCounts | None:
        """What became of the alerts; None for a sink that takes none."""
        return None

    @property
    def rows_lost(self) -> int:
        """Scores that were given to it and will never be there, in this process."""
        return 0

    def write(self, scores: Sequence[Score]) -> None:
        """Take scores, in order per camera, without waiting for whoever reads them.

        Args:
            scores: at least one.
        """

    def wake(self) -> None:
        """Say that the outbox has new alerts."""

    def maintain(self) -> None:
        """Do what is due; called every second, also while no camera brings frames."""

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was taken has arrived; whether it has.

        Args:
            timeout_s: longest wait.
        """
        return True

    def close(self, timeout_s: float = 10.0) -> None:
        """Bring what was taken to its readers, and stop; a second call does nothing. Alerts that are left wait.

        Args:
            timeout_s: longest time for it.
        """

    def unwritten(self) -> list[str]:
        """One line per thing that could not be written so far."""
        return []


class SinkSettings(Settings):
    """Where a sink is; it is pickled on its way to the scorer.

    Attributes:
        kind: which one it is: ``webhook`` is ``pipeline.sinks.to_webhook``.
        name: under which its alerts wait and are counted; None takes the kind. Two of one kind need one each.
    """

    takes_alerts: ClassVar[bool] = True

    kind: str
    name: SinkName | None = None

    @property
    def sink_name(self) -> str:
        """Its name, unlike that of all other sinks of the run."""
        return self.name or self.kind

    @property
    def rules(self) -> DeliveryRules | None:
        """By which alerts are withheld from it; None where it gets all."""
        return None

    def open(self, context: SinkContext) -> Sink:
        """Make the sink, in the scorer's process. It waits for nobody.

        Args:
            context: the run.
        """
        raise NotImplementedError

    def check(self) -> str:
        """Look whether the place can be reached, and leave nothing there; what was found, in one line.

        Raises:
            BadInputError: it cannot; why not, in one line without credentials.
        """
        return "nothing to look at before a run"


def _holds_certificates(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl's errors are such
        raise ValueError(f"expected a file of certificates (PEM; {error.strerror or error})") from None
    return path.resolve()  # the scorer's working folder is another


CaFile = Annotated[Path, AfterValidator(_holds_certificates)]
"""Certificates (PEM) of whom to trust in the place of the usual authorities."""


class RuledSinkSettings(SinkSettings, DeliveryRules):
    """Where a sink is, and what it is told of."""

    @property
    def rules(self) -> DeliveryRules:
        """Its own."""
        return self


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something cannot be written.

    Attributes:
        what: in words that stay the same from attempt to attempt.
        detail: what differs between attempts; may be empty.
    """

    what: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({self.detail})" if self.detail else self.what


class Outage:
    """What stands in the way of a sink at present; logged when it begins, changes and ends, not at every attempt.

    Args:
        label: the sink, without credentials.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._reason: Reason | None = None

    @property
    def reason(self) -> Reason | None:
        """Why nothing is delivered; None when all is well."""
        return self._reason

    @property
    def trouble(self) -> Trouble | None:
        """The same, for ``Sink.trouble``."""
        reason = self._reason
        return None if reason is None else Trouble(f"{self._label}: {reason.what}", f"{self._label}: {reason}")

    def report(self, reason: Reason | None) -> None:
        """Take in how the last attempt went.

        Args:
            reason: why it failed; None where it did not.
        """
        before, self._reason = self._reason, reason
        if (before and before.what) == (reason and reason.what):
            return
        if reason is None:
            _log.info("%s: delivering again", self._label)
        else:
            _log.warning("%s: %s; scoring goes on and alerts wait", self._label, reason)
