"""What is known of the actors of a run, as far as somebody decides by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.runtime.messages import CameraReport, DetectorReport, ScorerReport
from pipeline.runtime.nodes import ClusterNode

_Report = TypeVar("_Report", CameraReport, DetectorReport, ScorerReport)


@dataclass(frozen=True, slots=True)
class ActorState(Generic[_Report]):
    """What is known of an actor.

    Attributes:
        report: its newest; None while it is dead, or has not answered since it started.
        died_at: when it was found dead, in monotonic seconds; None while it is not known to be.
    """

    report: _Report | None = None
    died_at: float | None = None

    def is_behind(self, version: int) -> bool:
        """Whether it lives and does not follow its newest desired state.

        Args:
            version: the number of that.
        """
        return self.report is not None and self.report.version != version


@dataclass(frozen=True, slots=True)
class ActorStates:
    """What is known of all actors of a run.

    Attributes:
        scorers: the scorers, by name.
        processes: the camera processes, by name.
        detectors: the detectors that there are, by name.
        nodes: the living nodes of the cluster; none where they are not known.
    """

    scorers: Mapping[str, ActorState[ScorerReport]]
    processes: Mapping[str, ActorState[CameraReport]]
    detectors: Mapping[str, ActorState[DetectorReport]]
    nodes: tuple[ClusterNode, ...] = ()
