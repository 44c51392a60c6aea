"""From reports of actors to the activity of a run. Pure: no clock, no processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.runtime.activity import ActorActivity, ActorKind, RunActivity
from pipeline.runtime.messages import CameraReport, DetectorReport, ScorerReport
from pipeline.runtime.tally import RunTally

_AnyReport = CameraReport | DetectorReport | ScorerReport


class ActivityMeter:
    """Keeps what a run has done so far.

    Args:
        run: its name, with which those of its actors begin.
        began_at_s: as for ``RunTally``.
    """

    def __init__(self, run: str, began_at_s: float) -> None:
        self._run = run
        self._tally = RunTally(began_at_s)

    def update(
        self,
        scorers: Mapping[str, ScorerReport | None],
        processes: Mapping[str, CameraReport | None],
        detectors: Mapping[str, DetectorReport | None],
    ) -> RunActivity:
        """Take in the newest reports.

        Args:
            scorers: of the scorers, by name; None of one that does not live or has not answered yet.
            processes: of the camera processes, likewise.
            detectors: of the detectors, likewise.
        """
        reports: dict[str, _AnyReport | None] = {**scorers, **processes, **detectors}
        self._tally.update({name: None if report is None else report.tally for name, report in reports.items()})
        return RunActivity(
            actors=(
                *self._actors("scorer", scorers),
                *self._actors("camera", processes),
                *self._actors("detector", detectors),
            ),
            waiting={
                "camera_buffer": sum(report.waiting for report in processes.values() if report is not None),
                "inbox": sum(report.load.waiting for report in detectors.values() if report is not None),
            },
            histograms=dict(self._tally.histograms),
            rows_lost=dict(self._tally.rows_lost),
            failing=_failing(scorers),
        )

    def _actors(self, kind: ActorKind, reports: Mapping[str, _AnyReport | None]) -> Iterator[ActorActivity]:
        for name, report in reports.items():
            yield ActorActivity(
                name=name.removeprefix(f"{self._run}-"),
                kind=kind,
                alive=report is not None,
                node="" if report is None else report.node,
                load=report.load if isinstance(report, DetectorReport) else None,
            )


def _failing(scorers: Mapping[str, ScorerReport | None]) -> dict[str, bool]:
    """A sink fails where any scorer cannot write to its own end of it."""
    failing: dict[str, bool] = {}
    for report in scorers.values():
        if report is not None:
            for sink, is_failing in report.failing.items():
                failing[sink] = failing.get(sink, False) or is_failing
    return failing
