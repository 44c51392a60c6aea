"""What the actors of a run do at present, and what they have done: for whoever measures the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.runtime.tally import DetectorLoad, HistogramCounts

ActorKind = Literal["camera", "detector", "scorer"]


@dataclass(frozen=True, slots=True)
class ActorActivity:
    """One actor.

    Attributes:
        name: of the actor, without the run's.
        kind: what it is.
        alive: whether it answered when it was last asked.
        node: id of its node; empty while it is not known.
        load: how busy it is; None where it is no detector, or does not live.
    """

    name: str
    kind: ActorKind
    alive: bool
    node: str = ""
    load: DetectorLoad | None = None


@dataclass(frozen=True, slots=True)
class RunActivity:
    """All actors of a run.

    Attributes:
        actors: those that there are, scorers first.
        waiting: frames that wait at present in all camera processes (``camera_buffer``) and all detectors (``inbox``).
        histograms: sums over the whole run (``pipeline.runtime.tally``).
        rows_lost: by sink, the rows that it will never have, over the whole run.
        failing: by sink, whether it cannot be written to at present.
    """

    actors: tuple[ActorActivity, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict[str, int])
    histograms: Mapping[str, HistogramCounts] = field(default_factory=dict[str, HistogramCounts])
    rows_lost: Mapping[str, int] = field(default_factory=dict[str, int])
    failing: Mapping[str, bool] = field(default_factory=dict[str, bool])
