"""What alarms are worth: written decisions and events against labels. Nothing is decided anew, no threshold chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv

from pipeline.evaluation.events import EventRows, event_rows
from pipeline.sinks.parquet_reader import CameraScores

MERGED_GAP_S = 0.5
"""Anomalous stretches of a clip with no more normal time between them are one anomaly."""

EARLY_S = 0.5
"""How much earlier than what it is about an event may open: labels begin where people saw enough of it."""

CONFIDENCE = 0.95

_ROUNDING_S = 1e-6
_LATE = 0.9

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
    """

    first: int
    opened: int
    last: int
    stretches: tuple[tuple[int, int], ...]
    false: bool


@dataclass(frozen=True, slots=True)
class ClipAlarms:
    """What was decided on one clip, beside its labels.

    Attributes:
        normal_frames: frames whose label is normal.
        normal_above: those of them that were taken for anomalous: smoothed score at or above the threshold.
        normal_s: media time that normal frames last.
        events: of the clip, in order.
        delays_s: of each anomaly, in order: media time from its first frame to the first at which an event was open, 0
            where one was open before; None where none was open during it.
    """

    normal_frames: int
    normal_above: int
    normal_s: float
    events: tuple[ClipEvent, ...]
    delays_s: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Alarms:
    """Alarms on some clips, at thresholds that were fixed beforehand; what does not exist is None.

    Attributes:
        normal_above_threshold: share of the normal frames whose smoothed score was at or above the threshold.
        normal_hours: media time that normal frames last.
        events: events that opened.
        false_events: those that opened for nothing, whatever came while they were open.
        false_events_per_hour: of normal footage.
        false_events_interval: of that rate, 95 %, as of a Poisson process.
        anomalies: stretches of anomalous frames, those half a second apart or less taken together.
        anomalies_found: those during which an event was open.
        delay_median_s: from the first frame of an anomaly that was found to the first at which an event was open.
        delay_p90_s: nine of ten of these are not above it.
    """

    normal_above_threshold: float | None
    normal_hours: float
    events: int
    false_events: int
    false_events_per_hour: float | None
    false_events_interval: tuple[float, float] | None
    anomalies: int
    anomalies_found: int
    delay_median_s: float | None
    delay_p90_s: float | None


def clip_alarms(labels: BoolArray, rows: CameraScores) -> ClipAlarms:
    """Set a clip's written decisions and events beside its labels.

    Args:
        labels: bool (T,), True for anomalous.
        rows: of the clip's T frames, one each.

    Raises:
        ScoresError: a row's event is none of ours.
    """
    events = tuple(_event(of, labels, rows.media_time_s) for of in event_rows(rows))
    anomalies = merged_stretches(labels, rows.media_time_s)
    return ClipAlarms(
        normal_frames=int((~labels).sum()),
        normal_above=int((rows.is_anomalous & ~labels).sum()),
        normal_s=float(frame_durations_s(rows.media_time_s)[~labels].sum()),
        events=events,
        delays_s=tuple(_delay_s(first, last, events, rows.media_time_s) for first, last in anomalies),
    )


def all_alarms(clips: Sequence[ClipAlarms]) -> Alarms:
    """What was decided on several clips together."""
    normal = sum(clip.normal_frames for clip in clips)
    above = sum(clip.normal_above for clip in clips)
    hours = sum(clip.normal_s for clip in clips) / 3600.0
    false = sum(event.false for clip in clips for event in clip.events)
    delays = [delay for clip in clips for delay in clip.delays_s]
    found = [delay for delay in delays if delay is not None]
    low, high = poisson_interval(false)
    return Alarms(
        normal_above_threshold=above / normal if normal else None,
        normal_hours=hours,
        events=sum(len(clip.events) for clip in clips),
        false_events=false,
        false_events_per_hour=false / hours if hours else None,
        false_events_interval=(low / hours, high / hours) if hours else None,
        anomalies=len(delays),
        anomalies_found=len(found),
        delay_median_s=float(np.median(found)) if found else None,
        delay_p90_s=float(np.quantile(found, _LATE, method="higher")) if found else None,
    )


def poisson_interval(count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact (Garwood) interval of a Poisson process's mean, of which ``count`` events were seen.

    Each side is left out with half of ``1 - confidence``.
    """
    tail = (1.0 - confidence) / 2.0
    low = float(gammaincinv(count, tail)) if count else 0.0
    return low, float(gammaincinv(count + 1, 1.0 - tail))


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


def _event(of: EventRows, labels: BoolArray, media_time_s: npt.NDArray[np.float64]) -> ClipEvent:
    first, opened, last = int(of.rows[0]), of.opened, int(of.rows[-1])
    about = np.arange(labels.size) >= first
    about &= media_time_s <= media_time_s[opened] + EARLY_S + _ROUNDING_S
    return ClipEvent(first, opened, last, of.stretches, false=not labels[about].any())


def _delay_s(first: int, last: int, events: Sequence[ClipEvent], media_time_s: npt.NDArray[np.float64]) -> float | None:
    """Time until an event was open during an anomaly; None where none was."""
    stretches = [stretch for event in events for stretch in event.stretches]
    opened = [opens for opens, ends in stretches if opens <= last and ends >= first]
    return max(0.0, float(media_time_s[min(opened)] - media_time_s[first])) if opened else None
