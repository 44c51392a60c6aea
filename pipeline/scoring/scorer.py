"""From batches of predictions to scores and alerts of all cameras, with the counts that the books need."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from pipeline.config import CameraSettings
from pipeline.models.card import ModelCard
from pipeline.runtime.latency import LatencyHistogram
from pipeline.runtime.status import ScoringStatus
from pipeline.scoring.calibration import NormalScores
from pipeline.scoring.camera import CameraScoring
from pipeline.types import Alert, Prediction, Score

_log = logging.getLogger(__name__)


class Scorer:
    """Scores the frames of several cameras, each by its own normal footage.

    Args:
        cameras: the cameras.
        card: of the model whose predictions come.
    """

    def __init__(self, cameras: Iterable[CameraSettings], card: ModelCard) -> None:
        self._cameras = {camera.id: _camera_scoring(camera, card) for camera in cameras}
        self._meters = {camera_id: _Meter() for camera_id in self._cameras}

    def update(self, predictions: Iterable[Prediction], now_s: float) -> tuple[list[Score], list[Alert]]:
        """Take in predictions; frames of one camera in order.

        Args:
            predictions: what detectors say; frames that were scored before are passed over.
            now_s: Unix time.

        Returns:
            Scores and alerts, each in order.
        """
        scores: list[Score] = []
        alerts: list[Alert] = []
        for prediction in predictions:
            camera_id = prediction.header.camera_id
            try:
                score, raised = self._cameras[camera_id].update(prediction, now_s)
            except ValueError as error:  # a score that is not finite; its frame counts as dropped
                _log.error("%s", error)
                self._meters[camera_id].not_finite += 1
                continue
            if score is not None:
                self._meters[camera_id].add(score)
                scores.append(score)
            alerts.extend(raised)
        return scores, alerts

    def finish(self, camera_ids: Iterable[str], now_s: float) -> list[Alert]:
        """Close the open events of cameras that ended."""
        return [alert for camera_id in camera_ids for alert in self._cameras[camera_id].finish(now_s)]

    def status(self) -> Mapping[str, ScoringStatus]:
        """Counts of every camera, by id."""
        return {
            camera_id: self._meters[camera_id].status(camera.scored, camera.events, camera.threshold)
            for camera_id, camera in self._cameras.items()
        }


class _Meter:
    """Latency and rate of one camera."""

    def __init__(self) -> None:
        self.not_finite = 0
        self._latency = LatencyHistogram()
        self._scored = 0
        self._first_at_s = self._last_at_s = 0.0

    def add(self, score: Score) -> None:
        if self._scored == 0:
            self._first_at_s = score.scored_at_s
        self._last_at_s = score.scored_at_s
        self._scored += 1
        self._latency.add(score.latency_s)

    def status(self, scored: int, events: int, threshold: float) -> ScoringStatus:
        lasted_s = self._last_at_s - self._first_at_s
        return ScoringStatus(
            scored=scored,
            dropped={"not_finite": self.not_finite} if self.not_finite else {},
            events=events,
            latency_p50_s=self._latency.quantile_s(0.50),
            latency_p99_s=self._latency.quantile_s(0.99),
            scored_fps=(self._scored - 1) / lasted_s if lasted_s > 0.0 else None,
            threshold=threshold,
        )


def _camera_scoring(camera: CameraSettings, card: ModelCard) -> CameraScoring:
    normal = NormalScores.of_scene(card.normal_scores, camera.trained_as, card.normal_fps, camera_id=camera.id)
    return CameraScoring(camera.id, normal.thinned(camera.sample_fps), camera.alerts)
