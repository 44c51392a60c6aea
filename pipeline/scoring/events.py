"""From smoothed scores to events: hysteresis in height (two thresholds) and in time (frames to open, time to close)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

from pipeline.alerts import Alert, AlertKind, Event, Region
from pipeline.camera_settings import AlertSettings
from pipeline.scoring.thresholds import Thresholds
from pipeline.types import Prediction


@dataclass(slots=True)
class Peak:
    """The active frame with the highest raw anomaly score.

    Attributes:
        score: that score.
        at_s: Unix time of its capture.
        index: of the frame in its session.
        region: where in the image it is anomalous; None without a map.
    """

    score: float
    at_s: float
    index: int
    region: Region | None

    @classmethod
    def of(cls, prediction: Prediction) -> Peak:
        """A frame as a peak; its map is read now, so that an open event is a few numbers."""
        anomaly_map, header = prediction.anomaly_map, prediction.header
        region = None if anomaly_map is None else anomalous_region(anomaly_map)
        return cls(prediction.anomaly_score, header.captured_at_s, header.index, region)


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
        frames: how many are active.
    """

    session: int
    index: int
    start_s: float
    started_at_s: float
    end_s: float
    peak: Peak
    frames: int = 1

    @classmethod
    def starting(cls, prediction: Prediction) -> EventSpan:
        """A stretch of one frame."""
        header = prediction.header
        time_s = header.media_time_s
        return cls(header.session, header.index, time_s, header.captured_at_s, time_s, Peak.of(prediction))

    def extend(self, prediction: Prediction) -> None:
        """Take in the next active frame."""
        self.frames += 1
        self.end_s = max(self.end_s, prediction.header.media_time_s)
        if prediction.anomaly_score > self.peak.score:
            self.peak = Peak.of(prediction)


@dataclass(slots=True)
class TrackerState:
    """All that an ``EventTracker`` remembers.

    Attributes:
        opened: events opened so far.
        session: of the last frame; None before the first.
        time_s: its media time.
        rising: anomalous frames, too few yet for an event.
        open: the open event.
        quiet_s: media time since the open event's last active frame.
        unsaid_s: media time since the open event's last alert.
    """

    opened: int = 0
    session: int | None = None
    time_s: float = 0.0
    rising: EventSpan | None = None
    open: EventSpan | None = None
    quiet_s: float = 0.0
    unsaid_s: float = 0.0


class EventTracker:
    """Opens and closes events of one camera.

    An event opens with the ``open_frames``-th consecutive frame whose smoothed score is at or above the threshold, and
    starts at the first of them. It ends once smoothed scores have stayed below the close threshold for ``close_s`` of
    media time, when the session changes, or at ``finish``; its end is its last *active* frame, one whose smoothed score
    was at or above the close threshold. Its peak is the active frame with the highest raw anomaly score. Events of a
    camera never overlap. While it is open an ``update`` follows every ``update_s`` of media time.

    An event's id is ``CAMERA-MS-SESSION-INDEX`` of its first frame, MS being the Unix milliseconds of its capture: the
    same frames give the same id, and no two runs share one.

    Where damaged streams go back in media time, no time passes.

    Args:
        camera_id: the camera.
        settings: frames and durations.
        thresholds: what smoothed scores are held against.
    """

    def __init__(self, camera_id: str, settings: AlertSettings, thresholds: Thresholds) -> None:
        self.camera_id = camera_id
        self.state = TrackerState()
        """What it remembers; setting it goes on from there."""
        self.joined: EventSpan | None = None
        """The open event that the last frame is an active one of; None where it is of none."""
        self._settings = settings
        self._thresholds = thresholds

    def update(self, prediction: Prediction, smoothed: float, now_s: float) -> list[Alert]:
        """Take in the camera's next frame.

        Args:
            prediction: the frame; above all frames before it.
            smoothed: its smoothed anomaly score.
            now_s: Unix time.

        Returns:
            Alerts in the order in which they are to be emitted; mostly none.
        """
        state, header = self.state, prediction.header
        same_session = header.session == state.session
        self.joined = None
        alerts = [] if same_session else self.finish(now_s)
        elapsed_s = max(0.0, header.media_time_s - state.time_s) if same_session else 0.0
        state.session, state.time_s = header.session, header.media_time_s
        if state.open is None:
            return alerts + self._watch(prediction, smoothed, now_s)
        return alerts + self._follow(state.open, prediction, smoothed, elapsed_s, now_s)

    def finish(self, now_s: float) -> list[Alert]:
        """Close the open event, if there is one: the stream has ended.

        Args:
            now_s: Unix time.
        """
        span = self.state.open
        self.state.open = self.state.rising = None
        return [self._alert("end", span, now_s)] if span is not None else []

    def _watch(self, prediction: Prediction, smoothed: float, now_s: float) -> list[Alert]:
        """No event is open: count anomalous frames in a row."""
        state = self.state
        if smoothed < self._thresholds.opening:
            state.rising = None
            return []
        if state.rising is None:
            state.rising = EventSpan.starting(prediction)
        else:
            state.rising.extend(prediction)
        if state.rising.frames < self._settings.open_frames:
            return []
        self.joined = state.open = state.rising
        state.rising = None
        state.quiet_s = state.unsaid_s = 0.0
        state.opened += 1
        return [self._alert("new", state.open, now_s)]

    def _follow(
        self, span: EventSpan, prediction: Prediction, smoothed: float, elapsed_s: float, now_s: float
    ) -> list[Alert]:
        """An event is open: extend it, close it, or emit an update."""
        state = self.state
        state.unsaid_s += elapsed_s
        thresholds = self._thresholds
        if smoothed >= (thresholds.closing if prediction.paired else thresholds.unpaired_closing):
            span.extend(prediction)
            self.joined = span
            state.quiet_s = 0.0
        else:
            state.quiet_s += elapsed_s
            if state.quiet_s >= self._settings.close_s:
                return self.finish(now_s)
        if state.unsaid_s < self._settings.update_s:
            return []
        state.unsaid_s = 0.0
        return [self._alert("update", span, now_s)]

    def _alert(self, kind: AlertKind, span: EventSpan, now_s: float) -> Alert:
        event = open_event(self.camera_id, span, self._thresholds.opening)
        return Alert(replace(event, end_s=span.end_s) if kind == "end" else event, kind, now_s)


def event_id(camera_id: str, span: EventSpan) -> str:
    """The id of an event: the same for the same frames, and never the same in two runs."""
    return f"{camera_id}-{round(span.started_at_s * 1000)}-{span.session}-{span.index}"


def first_index(event_id: str) -> int:
    """Index, in its session, of an event's first frame.

    Raises:
        ValueError: it does not end in one, as those of ``event_id`` do.
    """
    return int(event_id.rpartition("-")[2])


def open_event(camera_id: str, span: EventSpan, threshold: float) -> Event:
    """What is known of an event while it is open."""
    peak = span.peak
    return Event(
        event_id=event_id(camera_id, span),
        camera_id=camera_id,
        session=span.session,
        start_s=span.start_s,
        end_s=None,
        started_at_s=span.started_at_s,
        peak_score=peak.score,
        peak_at_s=peak.at_s,
        peak_index=peak.index,
        threshold=threshold,
        region=peak.region,
    )


def anomalous_region(anomaly_map: npt.NDArray[np.float16]) -> Region | None:
    """Box around the spot that stands out most.

    The spot is the connected component (diagonals count) that holds the map's maximum, of all positions at or above the
    middle between the map's median and its maximum.

    Args:
        anomaly_map: shape (h, w).

    Returns:
        The box, or None where the map is flat or not finite: nothing stands out.
    """
    values = anomaly_map.astype(np.float32)
    median, maximum = float(np.median(values)), float(values.max())
    if not np.isfinite(values).all() or maximum <= median:
        return None
    labels: npt.NDArray[np.int32] = ndimage.label(values >= median + (maximum - median) / 2, np.ones((3, 3)))[0]  # pyright: ignore
    spot = labels == labels[np.unravel_index(int(values.argmax()), values.shape)]
    height, width = values.shape
    rows, columns = np.flatnonzero(spot.any(axis=1)), np.flatnonzero(spot.any(axis=0))
    return Region(
        left=float(columns[0] / width),
        top=float(rows[0] / height),
        right=float((columns[-1] + 1) / width),
        bottom=float((rows[-1] + 1) / height),
    )
