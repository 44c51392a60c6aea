"""The JSON objects in Redis, as docs/alerts.md documents them. A change of meaning raises ``VERSION``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.alerts import Alert, Digest, Notice
from pipeline.types import Score

VERSION = 1
ALERTS_KEY = "cflow:alerts"
CAMERAS_KEY = "cflow:cameras"
RUN_KEY = "cflow:run"
ALIVE_KEY = "cflow:alive"
ALIVE_FOR_S = 6  # renewed every second; a run that is not there any more is known to be so after that long
FIELD = "json"  # every entry has this one field


def scores_key(camera_id: str) -> str:
    """Stream of a camera's scores."""
    return f"cflow:scores:{camera_id}"


def score_object(score: Score) -> dict[str, Any]:
    """One scored frame; without the anomaly map, which only Parquet keeps."""
    header = score.header
    return {
        "version": VERSION,
        "camera_id": header.camera_id,
        "session": header.session,
        "index": header.index,
        "pts": header.pts,
        "media_time_s": header.media_time_s,
        "captured_at_s": header.captured_at_s,
        "scored_at_s": score.scored_at_s,
        "latency_s": score.latency_s,
        "anomaly_score": score.anomaly_score,
        "smoothed_score": score.smoothed_score,
        "p_value": score.p_value,
        "threshold": score.threshold,
        "is_anomalous": score.is_anomalous,
        "paired": score.paired,
        "common_surprise": score.common_surprise,
        "model": score.model,
        "thresholds": score.thresholds,
        "suppressed": score.suppressed,
    }


def alert_object(alert: Alert | Notice | Digest, withheld: Sequence[str] = ()) -> dict[str, Any]:
    """One entry of the alerts' stream: an alert, with its event laid flat, or a notice; or a digest for one sink.

    Args:
        alert: what is said.
        withheld: names of the sinks that do not get it.
    """
    if isinstance(alert, Digest):
        return {"version": VERSION, **asdict(alert)}
    said = {"version": VERSION, "withheld": list(withheld)}
    if isinstance(alert, Notice):
        return {**said, **asdict(alert)}
    return {**said, "kind": alert.kind, "emitted_at_s": alert.emitted_at_s, **asdict(alert.event)}
