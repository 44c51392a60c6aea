"""What alarms are worth: written decisions and events against labels, and what other thresholds would have opened.

An alert that *opened* during an anomaly has found it. Events that were open before tell nobody anything new then; they
are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.camera_settings import AlertSettings
from pipeline.evaluation.actev import ClipInstances, clip_instances, naudc
from pipeline.evaluation.events import EventRows, event_rows
from pipeline.evaluation.openings import Openings
from pipeline.evaluation.sweep import ClipSweep, clip_sweep, instances, recall_at
from pipeline.scoring.poisson import poisson_interval
from pipeline.sinks.parquet_reader import CameraScores

MERGED_GAP_S = 0.5
"""Anomalous stretches of a clip with no more normal time between them are one anomaly."""

EARLY_S = 0.5
"""How much earlier than what it is about an event may open and not be false: labels begin where people saw enough."""

_ROUNDING_S = 1e-6
_LATE = 0.9
_ONCE_AN_HOUR = 1.0

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClipEvent:
    """An event of a clip, in numbers of frames.

    Attributes:
        first: its first frame.
        opened: the frame of its first alert.
        last: its last active frame.
        stretches: frames between which it was open: it may go on after it had ended.
        false: whether it opened for nothing: no frame from its first to ``EARLY_S`` after its first alert is anomalous.
        hit: whether it opened during an anomaly. One that is neither opened shortly before, or as one ended.
    """

    first: int
    opened: int
    last: int
    stretches: tuple[tuple[int, int], ...]
    false: bool
    hit: bool


@dataclass(frozen=True, slots=True)
class ClipAnomaly:
    """An anomaly of a clip, in numbers of frames.

    Attributes:
        first: its first frame.
        last: its last frame.
        delay_s: media time from its first frame to the first alert that opened during it; None where none did.
        under_alarm: whether an event was open during it, wherever that one opened.
    """

    first: int
    last: int
    delay_s: float | None
    under_alarm: bool


@dataclass(frozen=True, slots=True)
class ClipAlarms:
    """What was decided on one clip, beside its labels.

    Attributes:
        normal_frames: frames whose label is normal.
        normal_above: those of them that were taken for anomalous: smoothed score at or above the threshold.
        normal_s: media time that normal frames last.
        events: of the clip, in order.
        anomalies: of the clip, in order.
        sweep: its alarms at other thresholds.
        instances: those of ActEV's measure.
    """

    normal_frames: int
    normal_above: int
    normal_s: float
    events: tuple[ClipEvent, ...]
    anomalies: tuple[ClipAnomaly, ...]
    sweep: ClipSweep
    instances: ClipInstances


@dataclass(frozen=True, slots=True)
class Alarms:
    """Alarms on some clips; what does not exist is None. All but the last two are at thresholds fixed beforehand.

    Attributes:
        normal_above_threshold: share of the normal frames whose smoothed score was at or above the threshold.
        normal_hours: media time that normal frames last.
        events: events that opened.
        false_events: those that opened for nothing, whatever came while they were open.
        false_events_per_hour: of normal footage.
        false_events_interval: of that rate, 95 %, as of a Poisson process.
        event_precision: share of the events that opened during an anomaly.
        anomalies: stretches of anomalous frames, those half a second apart or less taken together.
        anomalies_found: those during which an event opened.
        event_recall: their share.
        anomalies_under_alarm: those during which an event was open.
        delay_median_s: from the first frame of an anomaly that was found to the first alert that opened during it.
        delay_p90_s: nine of ten of these are not above it.
        recall_at_1_per_hour: highest share of the anomalies that are found at one shift of all thresholds at which no
            more than one false event an hour opens.
        naudc: ActEV's area under missed anomalies against time of false alarm, up to a fifth; 0 is perfect.
    """

    normal_above_threshold: float | None
    normal_hours: float
    events: int
    false_events: int
    false_events_per_hour: float | None
    false_events_interval: tuple[float, float] | None
    event_precision: float | None
    anomalies: int
    anomalies_found: int
    event_recall: float | None
    anomalies_under_alarm: int
    delay_median_s: float | None
    delay_p90_s: float | None
    recall_at_1_per_hour: float | None
    naudc: float | None


def clip_alarms(labels: BoolArray, rows: CameraScores, settings: AlertSettings) -> ClipAlarms:
    """Set a clip's written decisions and events beside its labels.

    Args:
        labels: bool (T,), True for anomalous.
        rows: of the clip's T frames, one each.
        settings: when its camera raises an alarm; only what needs other thresholds reads them.

    Raises:
        ScoresError: a row's event is none of ours.
    """
    durations_s = frame_durations_s(rows.media_time_s)
    normal_s = float(durations_s[~labels].sum())
    stretches = merged_stretches(labels, rows.media_time_s)
    events = tuple(_event(of, labels, stretches, rows.media_time_s) for of in event_rows(rows))
    clock_s = np.cumsum(durations_s) - durations_s
    about_until = np.searchsorted(clock_s, clock_s + EARLY_S + _ROUNDING_S, side="right") - 1
    openings = Openings(rows.smoothed_score, rows.threshold, rows.close_threshold, clock_s, settings)
    return ClipAlarms(
        normal_frames=int((~labels).sum()),
        normal_above=int((rows.is_anomalous & ~labels).sum()),
        normal_s=normal_s,
        events=events,
        anomalies=tuple(_anomaly(first, last, events, rows.media_time_s) for first, last in stretches),
        sweep=clip_sweep(openings, labels, stretches, about_until, normal_s),
        instances=clip_instances(stretches, instances(openings), durations_s),
    )


def all_alarms(clips: Sequence[ClipAlarms]) -> Alarms:
    """What was decided on several clips together."""
    normal = sum(clip.normal_frames for clip in clips)
    above = sum(clip.normal_above for clip in clips)
    hours = sum(clip.normal_s for clip in clips) / 3600.0
    events = [event for clip in clips for event in clip.events]
    anomalies = [anomaly for clip in clips for anomaly in clip.anomalies]
    false = sum(event.false for event in events)
    delays = [anomaly.delay_s for anomaly in anomalies if anomaly.delay_s is not None]
    low, high = poisson_interval(false)
    return Alarms(
        normal_above_threshold=above / normal if normal else None,
        normal_hours=hours,
        events=len(events),
        false_events=false,
        false_events_per_hour=false / hours if hours else None,
        false_events_interval=(low / hours, high / hours) if hours else None,
        event_precision=sum(event.hit for event in events) / len(events) if events else None,
        anomalies=len(anomalies),
        anomalies_found=len(delays),
        event_recall=len(delays) / len(anomalies) if anomalies else None,
        anomalies_under_alarm=sum(anomaly.under_alarm for anomaly in anomalies),
        delay_median_s=float(np.median(delays)) if delays else None,
        delay_p90_s=float(np.quantile(delays, _LATE, method="higher")) if delays else None,
        recall_at_1_per_hour=recall_at([clip.sweep for clip in clips], _ONCE_AN_HOUR),
        naudc=naudc([clip.instances for clip in clips]),
    )


def frame_durations_s(media_time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How long each frame of a clip lasts: until the next one, and the last as long as most do.

    Where media time goes back, no time passes. The only frame of a clip lasts 0 s.

    Args:
        media_time_s: (T,), seconds, in the order of the frames.

    Returns:
        (T,), seconds.
    """
    steps = np.maximum(np.diff(media_time_s), 0.0)
    return np.append(steps, np.median(steps) if steps.size else 0.0)


def merged_stretches(labels: BoolArray, media_time_s: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Anomalies of a clip: stretches of anomalous frames, with what is ``MERGED_GAP_S`` apart or less taken together.

    Args:
        labels: bool (T,).
        media_time_s: (T,), seconds.

    Returns:
        First and last frame of each.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], labels, [False]]).astype(np.int8)))
    merged: list[tuple[int, int]] = []
    for first, behind in edges.reshape(-1, 2).tolist():
        if merged and media_time_s[first] - media_time_s[merged[-1][1] + 1] <= MERGED_GAP_S + _ROUNDING_S:
            merged[-1] = (merged[-1][0], behind - 1)
        else:
            merged.append((first, behind - 1))
    return merged


def _event(
    of: EventRows, labels: BoolArray, anomalies: Sequence[tuple[int, int]], media_time_s: npt.NDArray[np.float64]
) -> ClipEvent:
    first, opened, last = int(of.rows[0]), of.opened, int(of.rows[-1])
    about = np.arange(labels.size) >= first
    about &= media_time_s <= media_time_s[opened] + EARLY_S + _ROUNDING_S
    hit = any(begins <= opened <= ends for begins, ends in anomalies)
    return ClipEvent(first, opened, last, of.stretches, false=not labels[about].any(), hit=hit)


def _anomaly(first: int, last: int, events: Sequence[ClipEvent], media_time_s: npt.NDArray[np.float64]) -> ClipAnomaly:
    stretches = [stretch for event in events for stretch in event.stretches]
    told = [opens for opens, _ in stretches if first <= opens <= last]
    delay_s = max(0.0, float(media_time_s[min(told)] - media_time_s[first])) if told else None
    return ClipAnomaly(first, last, delay_s, any(opens <= last and ends >= first for opens, ends in stretches))
