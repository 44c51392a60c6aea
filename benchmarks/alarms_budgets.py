"""What other budgets would have raised on a set: thresholds made for each, and written scores held against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from pipeline.camera_settings import AlertSettings
from pipeline.datasets.base import Clip
from pipeline.evaluation.alarms import EARLY_S, frame_durations_s, merged_stretches
from pipeline.evaluation.openings import Openings
from pipeline.models.card import ModelCard
from pipeline.models.normal_stretches import stretches_of_scene
from pipeline.normal_footage import NormalStretch
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.events import EventTracker
from pipeline.scoring.smoothing import CausalSmoother
from pipeline.scoring.thresholds import Thresholds
from pipeline.sinks.parquet_reader import CameraScores
from pipeline.types import FrameHeader, Prediction

BUDGETS = ("2/hour", "1/hour", "1/4h", "1/day", "1/week")

_TICK_S = Fraction(1, 90_000)


def at_budgets(
    card: ModelCard, alerts: AlertSettings, clips: Sequence[Clip], written: Mapping[str, CameraScores]
) -> list[dict[str, Any]]:
    """What each of ``BUDGETS`` would have raised, cooldown aside.

    A clip's first frame, which has no pair, stays on the scale on which it was written.

    Args:
        card: of the model that made the scores.
        alerts: the rest of the settings.
        clips: the labelled clips.
        written: scores by clip.

    Returns:
        For each budget its thresholds by scene, what they promise, and what came of them.
    """
    return [_at_budget(budget, card, alerts, clips, written) for budget in BUDGETS]


def heldout_events(stretches: Sequence[NormalStretch], thresholds: Thresholds, settings: AlertSettings) -> int:
    """How many events the real smoother and tracker open on held-out normal footage as it is.

    Args:
        stretches: normal footage; those of kind ``own`` count.
        thresholds: that it is held against.
        settings: when there is an alarm.
    """
    opened = 0
    for number, stretch in enumerate(stretches):
        if stretch.kind != "own":
            continue
        smoother = CausalSmoother(settings.smoothing_s)
        tracker = EventTracker("held-out", settings, thresholds)
        for index, score in enumerate(stretch.scores.tolist()):
            time_s = index / stretch.fps
            header = FrameHeader("held-out", number, index, round(time_s / _TICK_S), _TICK_S, time_s)
            smoothed = smoother.update(score, number, header.media_time_s)
            tracker.update(Prediction(header, score, None, paired=True), smoothed, time_s)
        tracker.finish(0.0)
        opened += tracker.state.opened
    return opened


def _at_budget(
    budget: str, card: ModelCard, alerts: AlertSettings, clips: Sequence[Clip], written: Mapping[str, CameraScores]
) -> dict[str, Any]:
    settings = AlertSettings.model_validate({**alerts.model_dump(), "budget": budget, "quantile": None})
    by_scene: dict[str, Thresholds] = {}
    heldout = 0
    for scene in dict.fromkeys(clip.scene for clip in clips):
        stretches = stretches_of_scene(card, scene)
        by_scene[scene] = Calibration.of(stretches, settings).thresholds
        heldout += heldout_events(stretches, by_scene[scene], settings)
    delays, false, anomalies = list[float](), 0, 0
    for clip in clips:
        labels, rows, thresholds = clip.frame_labels(), written[clip.name], by_scene[clip.scene]
        assert labels is not None
        stretches = merged_stretches(labels, rows.media_time_s)
        opened = _openings(rows, thresholds, settings).opened()
        anomalies += len(stretches)
        for first, last in stretches:
            told = [frame for frame in opened if first <= frame <= last]
            delays += [float(rows.media_time_s[min(told)] - rows.media_time_s[first])] if told else []
        false += sum(_is_false(frame, labels, rows, thresholds) for frame in opened)
    promised = list(by_scene.values())
    return {
        "budget": budget,
        "thresholds": {scene: of.opening for scene, of in by_scene.items()},
        "provisional": any(of.provisional for of in promised),
        "normal_hours_seen": sum(of.hours for of in promised),
        "hours_missing": max(of.hours_missing for of in promised),
        "expected_per_hour": [of.expected_per_hour for of in promised],
        "interval_per_hour": [of.interval_per_hour for of in promised],
        "events_on_heldout_normal_footage": heldout,
        "anomalies": anomalies,
        "anomalies_found": len(delays),
        "delay_median_s": float(np.median(delays)) if delays else None,
        "false_events": false,
    }


def _openings(rows: CameraScores, thresholds: Thresholds, settings: AlertSettings) -> Openings:
    durations_s = frame_durations_s(rows.media_time_s)
    closings = np.where(rows.paired, thresholds.closing, thresholds.unpaired_closing)
    opening = np.full(rows.index.size, thresholds.opening)
    return Openings(rows.smoothed_score, opening, closings, np.cumsum(durations_s) - durations_s, settings)


def _is_false(opened: int, labels: np.ndarray, rows: CameraScores, thresholds: Thresholds) -> bool:
    """Whether an event opened for nothing: as ``evaluate`` says it."""
    below = np.flatnonzero(rows.smoothed_score[:opened] < thresholds.opening)
    first = int(below[-1]) + 1 if below.size else 0
    about = (np.arange(labels.size) >= first) & (rows.media_time_s <= rows.media_time_s[opened] + EARLY_S + 1e-6)
    return not labels[about].any()
