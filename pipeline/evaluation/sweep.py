"""Alarms at every threshold: recall at a rate of false events, and instances for ActEV's measure. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.actev import Instance
from pipeline.evaluation.openings import Openings, OpeningStretch

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClipSweep:
    """What one clip's alarms are at any shift of its thresholds.

    Attributes:
        levels: shifts at which something changes, falling, (N,).
        false_events: how many events open for nothing at shifts above the first level, and from each on, (N + 1,).
        found: how many anomalies are found, likewise, (N + 1,).
        anomalies: how many there are.
        normal_s: time that normal frames last.
    """

    levels: FloatArray
    false_events: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    anomalies: int
    normal_s: float


@dataclass(frozen=True, slots=True)
class _Change:
    """How the event of a stretch is from a shift down.

    Attributes:
        level: that shift.
        opened: the frame at which it opens.
        is_false: whether it opens for nothing.
    """

    level: float
    opened: int
    is_false: bool


def clip_sweep(
    openings: Openings,
    labels: BoolArray,
    anomalies: Sequence[tuple[int, int]],
    about_until: npt.NDArray[np.int64],
    normal_s: float,
) -> ClipSweep:
    """Open every event that can open in a clip, from the highest threshold down.

    Args:
        openings: of the clip.
        labels: bool (T,), True for anomalous.
        anomalies: first and last frame of each.
        about_until: for each frame, the last one that an event which opens there may be about, (T,).
        normal_s: time that normal frames last.
    """
    changes = [
        (change, number)
        for number, stretch in enumerate(openings.stretches)
        for change in _changes(openings, stretch, labels, about_until)
    ]
    changes.sort(key=lambda of: -of[0].level)
    hit_by = np.zeros(len(anomalies), dtype=np.int64)
    last: dict[int, _Change] = {}  # of each stretch
    false_events, found, false = [0], [0], 0
    for change, number in changes:
        if (before := last.get(number)) is not None:
            hit_by[_anomalies_at(anomalies, before.opened)] -= 1
            false -= before.is_false
        last[number] = change
        hit_by[_anomalies_at(anomalies, change.opened)] += 1
        false += change.is_false
        false_events.append(false)
        found.append(int((hit_by > 0).sum()))
    return ClipSweep(
        levels=np.array([change.level for change, _ in changes], dtype=np.float64),
        false_events=np.array(false_events, dtype=np.int64),
        found=np.array(found, dtype=np.int64),
        anomalies=len(anomalies),
        normal_s=normal_s,
    )


def recall_at(clips: Sequence[ClipSweep], per_hour: float) -> float | None:
    """Highest share of the anomalies found at a shift, one for all clips, with no more false events an hour.

    Args:
        clips: all clips.
        per_hour: false events per hour of normal frames.

    Returns:
        The share; None without anomalies.
    """
    anomalies, hours = sum(clip.anomalies for clip in clips), sum(clip.normal_s for clip in clips) / 3600.0
    if not anomalies:
        return None
    levels = np.unique(np.concatenate([clip.levels for clip in clips]))
    false_events, found = np.zeros(levels.size, np.int64), np.zeros(levels.size, np.int64)
    for clip in clips:
        state = np.searchsorted(-clip.levels, -levels, side="right")
        false_events += clip.false_events[state]
        found += clip.found[state]
    few_enough = found[false_events <= per_hour * hours]
    return float(few_enough.max(initial=0)) / anomalies


def instances(openings: Openings) -> list[Instance]:
    """Every stretch in which an event can open, as sure as the highest shift at which one does."""
    return [Instance(of.first, of.last, of.openings[0].level) for of in openings.stretches]


def _changes(
    openings: Openings, stretch: OpeningStretch, labels: BoolArray, about_until: npt.NDArray[np.int64]
) -> list[_Change]:
    """The event of a stretch from the highest shift down."""
    found: list[_Change] = []
    for number, opening in enumerate(stretch.openings):
        below = stretch.openings[number + 1].level if number + 1 < len(stretch.openings) else -np.inf
        is_false = not labels[opening.began : about_until[opening.opened] + 1].any()
        earlier = np.flatnonzero(labels[stretch.first : opening.began])
        # It begins earlier at lower thresholds, and may then begin while something is anomalous.
        reaches = (
            openings.kept_from(stretch.first + int(earlier[-1]), opening) if is_false and earlier.size else -np.inf
        )
        found.append(_Change(opening.level, opening.opened, is_false and reaches < opening.level))
        if below < reaches < opening.level:
            found.append(_Change(reaches, opening.opened, False))
    return found


def _anomalies_at(anomalies: Sequence[tuple[int, int]], frame: int) -> list[int]:
    return [number for number, (first, last) in enumerate(anomalies) if first <= frame <= last]
