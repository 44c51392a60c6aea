"""The frames that are, or may become, one event: what is remembered of them, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo

from pipeline.alerts import Channel, Event, EventEnd, Region, Severity
from pipeline.budget import events_per_hour
from pipeline.scoring.regions import anomalous_region, union
from pipeline.scoring.still import Anchor
from pipeline.scoring.thresholds import Thresholds
from pipeline.types import Prediction

_MEDIUM, _HIGH = 10.0, 100.0  # times as rare as the budget


@dataclass(slots=True)
class Peak:
    """The active frame with the highest raw anomaly score.

    Attributes:
        score: that score.
        at_s: Unix time of its capture.
        index: of the frame in its session.
        region: where in the image it is anomalous; None without a map.
        p_value: of that score.
        channel: what stood out more; None where motion was not seen.
    """

    score: float
    at_s: float
    index: int
    region: Region | None
    p_value: float = 1.0
    channel: Channel | None = None

    @classmethod
    def of(cls, prediction: Prediction, p_value: float) -> Peak:
        """A frame as a peak; its map is read now, so that an open event is a few numbers."""
        anomaly_map, header = prediction.anomaly_map, prediction.header
        region = None if anomaly_map is None else anomalous_region(anomaly_map)
        channel = None
        if prediction.paired:
            channel = "motion" if prediction.motion_share >= 0.5 else "appearance"
        return cls(prediction.anomaly_score, header.captured_at_s, header.index, region, p_value, channel)


@dataclass(slots=True)
class Opening:
    """By what an event opened; it is told of the event to its end, whatever thresholds follow.

    Attributes:
        threshold: that smoothed scores reached.
        thresholds: version of the camera's thresholds.
        expected_per_hour: events an hour that normal footage opens there; None where nobody has counted.
        budget_per_hour: events an hour that normal footage may open; None where nobody has said.
        provisional: whether there was too little normal footage for the budget.
        started_local: when its first frame was captured, in the camera's time zone, ISO 8601.
    """

    threshold: float
    thresholds: str = ""
    expected_per_hour: float | None = None
    budget_per_hour: float | None = None
    provisional: bool = False
    started_local: str = ""

    @classmethod
    def by(cls, thresholds: Thresholds, budget: str | None, started_at_s: float, time_zone: tzinfo | None) -> Opening:
        """An opening at a camera's present thresholds.

        Args:
            thresholds: of the camera.
            budget: of the camera, as its settings have it.
            started_at_s: Unix time of the event's first frame.
            time_zone: the camera's; None for the machine's.
        """
        local = datetime.fromtimestamp(started_at_s, time_zone).astimezone(time_zone)
        return cls(
            threshold=thresholds.opening,
            thresholds=thresholds.version,
            expected_per_hour=thresholds.expected_per_hour,
            budget_per_hour=thresholds.expected_per_hour if budget is None else events_per_hour(budget),
            provisional=thresholds.provisional,
            started_local=local.isoformat(timespec="seconds"),
        )


@dataclass(slots=True)
class EventSpan:
    """Frames that are, or may become, one event.

    Attributes:
        session: of all its frames.
        index: of its first frame.
        start_s: media time of its first frame.
        started_at_s: Unix time of that frame's capture.
        end_s: media time of its last active frame.
        peak: its highest score.
        peak_smoothed: its highest smoothed score.
        frames: how many are active.
        lasted_s: media time from its first frame on, while it rises.
        opening: by what it opened; None while it rises.
        once_in_h: once in how many hours normal footage reaches ``peak_smoothed``, as last told.
        zone: watched zone of its peak.
        told_smoothed: its highest smoothed score when that was last weighed.
        updates: how often it was told since it opened.
        stretches: how often it went on after it had ended, plus 1.
        extent: box around all places where it was seen.
        anchor: the place that it has not left; None without a map.
        unlooked_s: media time since its place was last looked at.
    """

    session: int
    index: int
    start_s: float
    started_at_s: float
    end_s: float
    peak: Peak
    peak_smoothed: float
    frames: int = 1
    lasted_s: float = 0.0
    opening: Opening | None = None
    once_in_h: float | None = None
    zone: str | None = None
    told_smoothed: float = 0.0
    updates: int = 0
    stretches: int = 1
    extent: Region | None = None
    anchor: Anchor | None = None
    unlooked_s: float = 0.0

    @classmethod
    def starting(cls, prediction: Prediction, smoothed: float, p_value: float) -> EventSpan:
        """A stretch of one frame."""
        header, peak = prediction.header, Peak.of(prediction, p_value)
        time_s = header.media_time_s
        span = cls(header.session, header.index, time_s, header.captured_at_s, time_s, peak, smoothed)
        span.extent = peak.region
        return span

    def extend(self, prediction: Prediction, smoothed: float, p_value: float) -> bool:
        """Take in the next active frame; whether it is the peak now."""
        self.frames += 1
        self.end_s = max(self.end_s, prediction.header.media_time_s)
        self.peak_smoothed = max(self.peak_smoothed, smoothed)
        if prediction.anomaly_score <= self.peak.score:
            return False
        self.peak = Peak.of(prediction, p_value)
        self.extent = union(self.extent, self.peak.region)
        return True

    def resume(self, further: EventSpan) -> None:
        """Go on with a later stretch of the same cause."""
        self.stretches += 1
        self.frames += further.frames
        self.end_s = max(self.end_s, further.end_s)
        self.peak_smoothed = max(self.peak_smoothed, further.peak_smoothed)
        self.extent = union(self.extent, further.extent)
        if further.peak.score > self.peak.score:
            self.peak, self.zone = further.peak, further.zone


def event_id(camera_id: str, span: EventSpan) -> str:
    """The id of an event: the same for the same frames, and never the same in two runs."""
    return f"{camera_id}-{round(span.started_at_s * 1000)}-{span.session}-{span.index}"


def first_index(event_id: str) -> int:
    """Index, in its session, of an event's first frame.

    Raises:
        ValueError: it does not end in one, as those of ``event_id`` do.
    """
    return int(event_id.rpartition("-")[2])


def severity_of(span: EventSpan) -> Severity:
    """How much rarer than the budget an event is: 10 times is ``medium``, 100 times ``high``.

    Where nobody can tell it is ``medium``: neither is it withheld from those who do not want what is common, nor does
    it pass for what they are woken for.

    Args:
        span: it has opened; what is asked for a quantile is what that is expected to open.
    """
    budget_per_hour = None if span.opening is None else span.opening.budget_per_hour
    if span.once_in_h is None or not budget_per_hour:
        return "medium"
    rarer = span.once_in_h * budget_per_hour
    return "high" if rarer >= _HIGH else "medium" if rarer >= _MEDIUM else "low"


def event_of(camera_id: str, span: EventSpan, ended: EventEnd | None = None) -> Event:
    """What is known of an event.

    Args:
        camera_id: the camera.
        span: its frames; it has opened.
        ended: how it ended; None while it is open.
    """
    peak, opening = span.peak, span.opening
    assert opening is not None
    return Event(
        event_id=event_id(camera_id, span),
        camera_id=camera_id,
        session=span.session,
        start_s=span.start_s,
        end_s=None if ended is None else span.end_s,
        started_at_s=span.started_at_s,
        peak_score=peak.score,
        peak_at_s=peak.at_s,
        peak_index=peak.index,
        threshold=opening.threshold,
        region=peak.region,
        started_local=opening.started_local,
        peak_p_value=peak.p_value,
        peak_smoothed=span.peak_smoothed,
        thresholds=opening.thresholds,
        expected_per_hour=opening.expected_per_hour,
        provisional=opening.provisional,
        once_in_h=span.once_in_h,
        severity=severity_of(span),
        zone=span.zone,
        channel=peak.channel,
        stretches=span.stretches,
        ended=ended,
    )
