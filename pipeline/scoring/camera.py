"""All that is remembered of one camera between its frames: order, smoothing, thresholds and the open event."""

from __future__ import annotations

import math

from pipeline.config import AlertSettings
from pipeline.scoring.calibration import NormalScores
from pipeline.scoring.events import EventTracker
from pipeline.scoring.reorder import OrderGate
from pipeline.scoring.smoothing import CausalSmoother
from pipeline.types import Alert, Prediction, Score


class CameraScoring:
    """Turns predictions of one camera into scores and alerts. Pure: no clock of its own, no input or output.

    Args:
        camera_id: the camera.
        normal: scores of its scene's held-out normal frames, thinned as the camera is.
        settings: when it raises an alarm.
    """

    def __init__(self, camera_id: str, normal: NormalScores, settings: AlertSettings) -> None:
        self.camera_id = camera_id
        self.threshold = normal.threshold(settings.quantile, settings.smoothing_s)
        """Smoothed scores at or above it are anomalous."""
        self.scored = 0
        """Frames that got a score."""
        self.late = 0
        """Frames turned away because they were not above the last (session, index)."""
        self._normal = normal
        self._gate = OrderGate()
        self._smoother = CausalSmoother(settings.smoothing_s)
        close_threshold = normal.threshold(settings.close_quantile, settings.smoothing_s)
        self._tracker = EventTracker(camera_id, settings, self.threshold, close_threshold)

    @property
    def events(self) -> int:
        """Events opened so far."""
        return self._tracker.opened

    def update(self, prediction: Prediction, now_s: float) -> tuple[Score | None, list[Alert]]:
        """Take in a frame.

        Args:
            prediction: what the detector says of it.
            now_s: Unix time.

        Returns:
            The score, or None for a frame that is not above the last one (counted in ``late``), and the alerts in
            order.

        Raises:
            ValueError: the frame is another camera's, or its score is not finite; nothing has changed then.
        """
        header = prediction.header
        if header.camera_id != self.camera_id:
            raise ValueError(f"camera {self.camera_id}: expected its own frames, got one of camera {header.camera_id}")
        if not math.isfinite(prediction.anomaly_score):
            # It would stay in the smoothed score for good.
            raise ValueError(
                f"camera {self.camera_id}: frame {header.index} of session {header.session}: expected a finite"
                f" anomaly score, got {prediction.anomaly_score}"
            )
        if not self._gate.accepts(header.order):
            self.late += 1
            return None, []
        smoothed = self._smoother.update(prediction.anomaly_score, header.session, header.media_time_s)
        self.scored += 1
        score = Score(
            header=header,
            anomaly_score=prediction.anomaly_score,
            p_value=self._normal.p_value(prediction.anomaly_score),
            threshold=self.threshold,
            is_anomalous=smoothed >= self.threshold,
            scored_at_s=now_s,
            latency_s=now_s - header.captured_at_s,
            anomaly_map=prediction.anomaly_map,
        )
        return score, self._tracker.update(prediction, smoothed, now_s)

    def finish(self, now_s: float) -> list[Alert]:
        """Close the open event, if there is one: the stream has ended, or the run has.

        Args:
            now_s: Unix time.
        """
        return self._tracker.finish(now_s)
