"""What is said of cameras and of the run: alerts about events, and notices. Frozen, free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AlertKind = Literal["new", "update", "evidence", "end"]
Channel = Literal["appearance", "motion"]
Severity = Literal["low", "medium", "high"]
EventEnd = Literal["over", "still_there", "interrupted"]
NoticeKind = Literal[
    "camera_offline",
    "camera_online",
    "camera_frozen",
    "camera_dark",
    "camera_moved",
    "light_changed",
    "camera_drifted",
    "storage_failing",
    "storage_restored",
    "run_started",
    "run_ended",
    "run_lost",
]


@dataclass(frozen=True, slots=True)
class Region:
    """A box in relative image coordinates, each in [0, 1]: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of anomalous frames of one camera.

    Attributes:
        event_id: stable over all alerts of the event; the same frames give the same id.
        camera_id: the camera.
        session: the connection in which it happened; an event never spans two.
        start_s: media time of its first anomalous frame, seconds.
        end_s: media time of its last anomalous frame, seconds; None while it is open.
        started_at_s: Unix time at which the first anomalous frame was captured.
        peak_score: highest anomaly score so far.
        peak_at_s: Unix time at which the frame of the highest score was captured.
        peak_index: index of that frame in the session.
        threshold: the camera's threshold when the event opened.
        region: where in the image the peak frame is anomalous, or None without a map.
        started_local: ``started_at_s`` in the camera's time zone, ISO 8601 with its offset.
        peak_p_value: of the peak frame.
        peak_smoothed: highest smoothed score so far.
        thresholds: version of the thresholds by which it opened.
        expected_per_hour: events an hour that normal footage opens at that threshold; None where nobody has counted.
        provisional: whether there was too little normal footage for the budget that was asked for.
        once_in_h: once in how many hours normal footage reaches ``peak_smoothed``; None where nobody can tell.
        severity: how much rarer than the camera's budget normal footage reaches ``peak_smoothed``: ``low``, ``medium``
            from ten times on, ``high`` from a hundred times on; ``medium`` where nobody can tell.
        zone: name of the watched zone that holds the middle of ``region``; None where there is none.
        channel: what stood out more in the peak frame; None where only one was seen.
        stretches: how often it went on after it had ended, within the cooldown, plus 1.
        ended: how it ended; None while it is open.
        picture: its peak as a JPEG, path relative to the run's output folder; None where it is not written (yet).
        clip: the same of its clip.
    """

    event_id: str
    camera_id: str
    session: int
    start_s: float
    end_s: float | None
    started_at_s: float
    peak_score: float
    peak_at_s: float
    peak_index: int
    threshold: float
    region: Region | None = None
    started_local: str = ""
    peak_p_value: float = 1.0
    peak_smoothed: float = 0.0
    thresholds: str = ""
    expected_per_hour: float | None = None
    provisional: bool = False
    once_in_h: float | None = None
    severity: Severity = "low"
    zone: str | None = None
    channel: Channel | None = None
    stretches: int = 1
    ended: EventEnd | None = None
    picture: str | None = None
    clip: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """A message about an event, in the order new, update..., end; ``evidence`` whenever pictures of it were written.

    Attributes:
        event: the event as it stood when the alert was emitted.
        kind: what happened to it.
        emitted_at_s: Unix time.
    """

    event: Event
    kind: AlertKind
    emitted_at_s: float


@dataclass(frozen=True, slots=True)
class Notice:
    """A message about a camera or the run itself, rather than of what a camera sees.

    Attributes:
        kind: what is out of order, or in order again. ``camera_offline`` is followed by ``camera_online`` once frames
            come again, ``storage_failing`` by ``storage_restored``, ``run_started`` by ``run_ended`` or ``run_lost``;
            all others, and ``camera_offline`` of a camera that is watched no longer, by one of the same kind with
            ``until_at_s`` set.
        event_id: the same for both.
        camera_id: the camera; None where the run itself is meant.
        reason: why, in one line without credentials.
        since_at_s: Unix time at which it began.
        until_at_s: Unix time at which it ended; None while it lasts.
        emitted_at_s: Unix time.
    """

    kind: NoticeKind
    event_id: str
    camera_id: str | None
    reason: str
    since_at_s: float
    until_at_s: float | None
    emitted_at_s: float


@dataclass(frozen=True, slots=True)
class Digest:
    """Events of a camera that a sink was not told of one by one. Each sink has digests of its own, and Redis none.

    Attributes:
        event_id: its own; the same if it is made again.
        camera_id: the camera.
        events: how many.
        since_at_s: Unix time at which the first of them began.
        until_at_s: Unix time up to which they are told.
        highest: the most unusual of them, as it stood then.
        emitted_at_s: Unix time.
        kind: as alerts and notices have one.
    """

    event_id: str
    camera_id: str
    events: int
    since_at_s: float
    until_at_s: float
    highest: Event
    emitted_at_s: float
    kind: Literal["digest"] = "digest"
