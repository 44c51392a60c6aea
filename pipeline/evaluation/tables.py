"""An evaluation as text cells, for tables of a terminal and of the report."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.evaluation.alarms import Alarms
from pipeline.evaluation.protocols import METRICS, Evaluation, Metrics

TABLE_COLUMNS = (
    "",
    "frame AUROC",
    "frame AUROC causal",
    "frame AUROC macro",
    "pixel AUROC",
    "AUPRO @0.3",
    "as published (not live)",
)
"""Headings of ``table_rows``."""

ALARM_COLUMNS = (
    "alarms",
    "normal above threshold",
    "events",
    "precision",
    "false",
    "false per hour (95 %)",
    "found",
    "under alarm",
    "delay s (p90)",
)
"""Headings of ``alarm_rows``."""

RANGE_COLUMNS = (
    "at all thresholds",
    "frames",
    "anomalous",
    "clips",
    "recall at 1 false/h",
    "nAUDC @0.2TFA",
    "RBDC",
    "TBDC",
    "tracks",
)
"""Headings of ``range_rows``."""

FLOOR_NAMES = {
    "random": "random scores",
    "time_in_clip": "time passed in the clip",
    "perfect_frames": "every frame's label, no place",
}
"""What the floors are called where people read them; ``docs/evaluation.md`` defines each.

``random_padded`` is missing: it belongs to other papers' macro average and would mislead beside ours.
"""


def table_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """The metrics as text cells under ``TABLE_COLUMNS``: overall, floors, then scenes and their mean if several."""
    rows = [_metrics_row("all frames", evaluation.overall)]
    for floor, label in FLOOR_NAMES.items():
        values = [evaluation.overall.floors[metric].get(floor) for metric in METRICS]
        if any(value is not None for value in values):
            rows.append((f"floor: {label}", *map(_cell, values)))
    if len(evaluation.scenes) > 1:
        rows.append(("mean over scenes", *(_cell(evaluation.scene_mean[metric]) for metric in METRICS)))
        rows += [_metrics_row(f"scene {scene}", metrics) for scene, metrics in evaluation.scenes.items()]
    return rows


def alarm_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """What was alarmed as text cells under ``ALARM_COLUMNS``: overall, then scenes if several."""
    return [_alarm_row(name, metrics.alarms) for name, metrics in _named(evaluation)]


def range_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """What was counted, and what other thresholds would give, as text cells under ``RANGE_COLUMNS``: as above."""
    return [_range_row(name, metrics) for name, metrics in _named(evaluation)]


def _named(evaluation: Evaluation) -> Iterator[tuple[str, Metrics]]:
    yield "all frames", evaluation.overall
    if len(evaluation.scenes) > 1:
        for scene, metrics in evaluation.scenes.items():
            yield f"scene {scene}", metrics


def _metrics_row(name: str, metrics: Metrics) -> tuple[str, ...]:
    return (name, *(_cell(getattr(metrics, metric)) for metric in METRICS))


def _alarm_row(name: str, alarms: Alarms) -> tuple[str, ...]:
    above = alarms.normal_above_threshold
    return (
        name,
        "–" if above is None else f"{100 * above:.1f} %",
        f"{alarms.events:,}",
        _percent(alarms.event_precision),
        f"{alarms.false_events:,}",
        _rate(alarms),
        f"{alarms.anomalies_found:,} of {alarms.anomalies:,}",
        f"{alarms.anomalies_under_alarm:,}",
        _delay(alarms),
    )


def _range_row(name: str, metrics: Metrics) -> tuple[str, ...]:
    return (
        name,
        *(f"{count:,}" for count in (metrics.frames, metrics.anomalous_frames, metrics.clips)),
        _percent(metrics.alarms.recall_at_1_per_hour),
        _cell(metrics.alarms.naudc),
        _cell(metrics.rbdc),
        _cell(metrics.tbdc),
        "–" if metrics.tracks is None else f"{metrics.tracks:,}",
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _rate(alarms: Alarms) -> str:
    rate, interval = alarms.false_events_per_hour, alarms.false_events_interval
    if rate is None or interval is None:
        return "–"
    shown, low, high = (f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}" for value in (rate, *interval))
    return f"{shown} ({low} to {high})"


def _delay(alarms: Alarms) -> str:
    median, late = alarms.delay_median_s, alarms.delay_p90_s
    return "–" if median is None or late is None else f"{median:.1f} ({late:.1f})"


def _cell(value: float | None) -> str:
    """A metric as text; one that does not exist is a dash."""
    return "–" if value is None else f"{value:.4f}"
