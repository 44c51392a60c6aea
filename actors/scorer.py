"""Actor that turns predictions into scores and alerts and hands them to Redis and Parquet."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.models.card import read_card
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.status import ScoringStatus
from pipeline.scoring.scorer import Scorer
from pipeline.sinks.base import Sink
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.redis_stream import RedisSink
from pipeline.types import Alert, Prediction, Score


class ScorerActor:
    """Owns the scoring state of every camera and the sinks.

    Args:
        plan: the run.
    """

    def __init__(self, plan: RunPlan) -> None:
        card = read_card(plan.model_folder)
        self._camera_ids = [camera.id for camera in plan.cameras]
        self._scorer = Scorer(plan.cameras, card)
        sinks = plan.sinks
        self._redis = RedisSink(
            sinks.redis_url.get_secret_value(), scores_maxlen=sinks.scores_maxlen, alerts_maxlen=sinks.alerts_maxlen
        )
        parquet = ParquetSink(
            sinks.scores_folder, model_fingerprint=card.fingerprint, maps=sinks.maps, rotate_s=sinks.rotate_s
        )
        self._sinks: tuple[Sink, ...] = (self._redis, parquet)

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Score frames and write what follows from them."""
        self._write(*self._scorer.update(predictions, time.time()))

    def finish(self, camera_ids: Sequence[str]) -> None:
        """Close the open events of cameras that ended."""
        self._write([], self._scorer.finish(camera_ids, time.time()))

    def status(self) -> Mapping[str, ScoringStatus]:
        """What is known of each camera."""
        return self._scorer.status()

    def publish(self, statuses: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the cameras' statuses readable in Redis."""
        self._redis.replace_statuses(statuses)

    def close(self, statuses: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Close all events and sinks; returns one line per thing that could not be written."""
        self.finish(self._camera_ids)
        self.publish(statuses)
        for sink in self._sinks:
            sink.close()
        return [line for sink in self._sinks for line in sink.faults()]

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def _write(self, scores: Sequence[Score], alerts: Sequence[Alert]) -> None:
        if scores or alerts:
            for sink in self._sinks:
                sink.write(scores, alerts)
