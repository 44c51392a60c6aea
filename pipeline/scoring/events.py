"""From smoothed scores to events: hysteresis in height (two thresholds) and in time, cooldown, and things that stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo

from pipeline.alerts import Alert, AlertKind, EventEnd, Region
from pipeline.camera_settings import AlertSettings
from pipeline.scoring.dismissed import Dismissal, beside_dismissed
from pipeline.scoring.event_span import EventSpan, Opening, event_of, severity_of
from pipeline.scoring.regions import touch, union
from pipeline.scoring.smoothing import ROUNDING_S, CausalSmoother, SmootherState
from pipeline.scoring.still import (
    LOOK_EVERY_S,
    beside_still_things,
    is_still,
    look,
    with_thing,
)
from pipeline.scoring.thresholds import Thresholds
from pipeline.scoring.tracker_state import TrackerState
from pipeline.types import Prediction, Suppressed

_MOST_DOUBLINGS = 6  # of the time between updates
_LONGEST_COOLDOWNS = 10  # an event that began longer ago is not continued, whatever comes
_SEVERITIES = ("low", "medium", "high")


class EventTracker:
    """Opens and closes events of one camera.

    An event opens with the first frame that completes ``open_frames`` consecutive frames whose smoothed score is at or
    above the threshold, and ``open_s`` of media time since the first of them, which is its start. It ends as ``over``
    once smoothed scores have stayed below the close threshold for ``close_s`` of media time, and as ``interrupted``
    when the session changes or at ``finish``; its end is its last *active* frame, one whose smoothed score was at or
    above the close threshold. Its peak is the active frame with the highest raw anomaly score. Events of a camera never
    overlap.

    What opens within ``cooldown_s`` after an event was over, where that event was seen, continues it: an ``update``
    under the same id says so, and a further ``end`` follows.

    An event that stays in one place for ``still_after_s`` ends as ``still_there``. What that thing makes anomalous
    opens nothing more until its place has been as normal footage for as long as the cooldown. What happens elsewhere,
    or makes the score clearly higher than the thing ever did, opens a new event. So it is with what was dismissed,
    until the verdict expires.

    While an event is open an ``update`` follows after ``update_s`` of media time, then after twice, four times as long
    and so on, and after ``update_s`` where its severity has risen.

    An event's id is ``CAMERA-MS-SESSION-INDEX`` of its first frame, MS being the Unix milliseconds of its capture: the
    same frames give the same id, and no two runs share one.

    Where damaged streams go back in media time, no time passes.

    Args:
        camera_id: the camera.
        settings: frames and durations.
        thresholds: what smoothed scores are held against.
        time_zone: the camera's; None for the machine's.
        zone_of: name of the watched zone that a region is in at a Unix time; None where it is in none.
    """

    def __init__(
        self,
        camera_id: str,
        settings: AlertSettings,
        thresholds: Thresholds,
        *,
        time_zone: tzinfo | None = None,
        zone_of: Callable[[Region, float], str | None] | None = None,
    ) -> None:
        self.camera_id = camera_id
        self.state = TrackerState()
        """What it remembers; setting it goes on from there."""
        self.joined: EventSpan | None = None
        """The open event that the last frame is an active one of; None where it is of none."""
        self.suppressed: Suppressed = ""
        """Why the last frame, though anomalous, counts for nothing; empty where it counts or is not anomalous."""
        self.thresholds = thresholds
        """What smoothed scores are held against from the next frame on."""
        self.dismissals: Sequence[Dismissal] = ()
        """What was dismissed on the camera."""
        self._settings = settings
        self._time_zone = time_zone
        self._zone_of = zone_of
        self._smoother = CausalSmoother(settings.smoothing_s)

    def update(
        self,
        prediction: Prediction,
        smoothed: float,
        now_s: float,
        *,
        p_value: float = 1.0,
        held: Suppressed = "",
    ) -> list[Alert]:
        """Take in the camera's next frame.

        Args:
            prediction: the frame; above all frames before it.
            smoothed: its smoothed anomaly score.
            now_s: Unix time.
            p_value: of its anomaly score.
            held: why nothing opens at this frame, whatever it shows. While the light has changed, time stands still for
                an open event; for every other reason it ends.

        Returns:
            Alerts in the order in which they are to be emitted; mostly none.
        """
        state, header = self.state, prediction.header
        same_session = header.session == state.session
        self.joined, self.suppressed = None, ""
        alerts = [] if same_session else self.finish(now_s)
        elapsed_s = max(0.0, header.media_time_s - state.time_s) if same_session else 0.0
        state.session, state.time_s = header.session, header.media_time_s
        if state.cooling is not None:
            self._cool(state.cooling, elapsed_s)
        if held:
            return alerts + self._hold(smoothed, held, now_s)
        counted = smoothed
        if state.still:
            prediction, counted = self._beside_still_things(prediction, smoothed, elapsed_s)
        told = counted
        if self.dismissals:
            thresholds, closing = self.thresholds, self._closing(prediction)
            prediction, counted = beside_dismissed(prediction, counted, self.dismissals, thresholds.opening, closing)
        if state.open is None:
            alerts += self._watch(prediction, counted, p_value, elapsed_s, now_s)
        else:
            alerts += self._follow(state.open, prediction, counted, p_value, elapsed_s, now_s)
        if counted < self.thresholds.opening <= smoothed and self.joined is None:
            self.suppressed = "still_there" if told < self.thresholds.opening else "dismissed"
        return alerts

    def finish(self, now_s: float) -> list[Alert]:
        """Close the open event, if there is one: the stream has ended. Nothing that comes continues it.

        Args:
            now_s: Unix time.
        """
        alerts = self._end(self.state.open, "interrupted", now_s) if self.state.open is not None else []
        self.state.rising = self.state.cooling = None
        return alerts

    def leave_scale(self, now_s: float) -> list[Alert]:
        """``finish``, and forget still things: scores that follow share no scale with those before.

        Args:
            now_s: Unix time.
        """
        alerts = self.finish(now_s)
        self.state.still, self.state.beside = [], SmootherState()
        return alerts

    def _cool(self, span: EventSpan, elapsed_s: float) -> None:
        """Time passes after the end of an event."""
        state, settings = self.state, self._settings
        state.cooled_s += elapsed_s
        span.unlooked_s += elapsed_s
        since_start_s = state.time_s - span.start_s
        if state.cooled_s > settings.cooldown_s or since_start_s > _LONGEST_COOLDOWNS * settings.cooldown_s:
            state.cooling = None

    def _hold(self, smoothed: float, held: Suppressed, now_s: float) -> list[Alert]:
        state = self.state
        state.rising = None
        if smoothed >= self.thresholds.opening:
            self.suppressed = held
        if held == "light" or state.open is None:
            return []
        return self._end(state.open, "interrupted", now_s)

    def _beside_still_things(
        self, prediction: Prediction, smoothed: float, elapsed_s: float
    ) -> tuple[Prediction, float]:
        """The frame as it is without still things, and what of its smoothed score is not theirs."""
        state, settings, closing = self.state, self._settings, self._closing(prediction)
        self._smoother.state = state.beside
        seen = beside_still_things(
            prediction, smoothed, state.still, self._smoother, self.thresholds.opening, closing, elapsed_s
        )
        state.beside = self._smoother.state
        gone_after_s = max(settings.cooldown_s, settings.close_s)
        state.still = [thing for thing in state.still if thing.quiet_s < gone_after_s]
        return seen

    def _closing(self, prediction: Prediction) -> float:
        return self.thresholds.closing if prediction.paired else self.thresholds.unpaired_closing

    def _watch(
        self, prediction: Prediction, smoothed: float, p_value: float, elapsed_s: float, now_s: float
    ) -> list[Alert]:
        """No event is open: count anomalous frames in a row, and for how long they come."""
        state, settings = self.state, self._settings
        if smoothed < self.thresholds.opening:
            state.rising = None
            return []
        span = state.rising
        if span is None:
            span = state.rising = EventSpan.starting(prediction, smoothed, p_value)
        else:
            span.extend(prediction, smoothed, p_value)
            span.lasted_s += elapsed_s
        if span.frames < settings.open_frames or span.lasted_s < settings.open_s - ROUNDING_S:
            return []
        state.rising = None
        state.quiet_s = state.unsaid_s = 0.0
        self._place(span)
        if state.cooling is not None and touch(state.cooling.extent, span.peak.region):
            self.joined = state.open = state.cooling
            state.open.resume(span)
            state.cooling = None
            return [self._alert("update", state.open, now_s)]
        span.opening = Opening.by(self.thresholds, settings.budget, span.started_at_s, self._time_zone)
        span.told_smoothed = span.peak_smoothed
        self.joined = state.open = span
        state.opened += 1
        return [self._alert("new", span, now_s)]

    def _follow(
        self,
        span: EventSpan,
        prediction: Prediction,
        smoothed: float,
        p_value: float,
        elapsed_s: float,
        now_s: float,
    ) -> list[Alert]:
        """An event is open: extend it, close it, or emit an update."""
        state, settings = self.state, self._settings
        state.unsaid_s += elapsed_s
        span.unlooked_s += elapsed_s
        if smoothed >= self._closing(prediction):
            self.joined = span
            state.quiet_s = 0.0
            if span.extend(prediction, smoothed, p_value):
                self._place(span)
            if span.unlooked_s >= LOOK_EVERY_S or span.anchor is None:
                self._look(span, prediction, smoothed)
            if is_still(span.anchor, settings.still_after_s):
                return self._leave_still(span, prediction, now_s)
        else:
            state.quiet_s += elapsed_s
            if state.quiet_s >= settings.close_s:
                return self._end(span, "over", now_s)
        return [self._alert("update", span, now_s)] if self._is_update_due(span) else []

    def _look(self, span: EventSpan, prediction: Prediction, smoothed: float) -> None:
        anchor, region = look(
            span.anchor,
            prediction.anomaly_map,
            prediction.anomaly_score,
            smoothed,
            self._closing(prediction),
            span.unlooked_s,
        )
        span.anchor, span.extent, span.unlooked_s = anchor, union(span.extent, region), 0.0

    def _leave_still(self, span: EventSpan, prediction: Prediction, now_s: float) -> list[Alert]:
        """The event ends, though what it is about stays."""
        state, anchor = self.state, span.anchor
        assert anchor is not None
        assert prediction.anomaly_map is not None  # it was just looked at
        state.still = with_thing(state.still, anchor, prediction.anomaly_map.shape)
        state.beside = SmootherState()
        return self._end(span, "still_there", now_s)

    def _is_update_due(self, span: EventSpan) -> bool:
        unsaid_s, update_s = self.state.unsaid_s, self._settings.update_s
        if unsaid_s >= update_s * 2 ** min(span.updates, _MOST_DOUBLINGS):
            return True
        if unsaid_s < update_s or span.peak_smoothed <= span.told_smoothed:
            return False
        told = severity_of(span)
        self._weigh(span)
        return _SEVERITIES.index(severity_of(span)) > _SEVERITIES.index(told)

    def _place(self, span: EventSpan) -> None:
        """Say in which zone the peak is."""
        peak = span.peak
        if self._zone_of is not None and peak.region is not None:
            span.zone = self._zone_of(peak.region, peak.at_s)

    def _end(self, span: EventSpan, ended: EventEnd, now_s: float) -> list[Alert]:
        state = self.state
        state.open = state.rising = None
        alert = self._alert("end", span, now_s, ended)
        if ended == "over" and self._settings.cooldown_s > 0.0:
            state.cooling, state.cooled_s = span, 0.0
        return [alert]

    def _alert(self, kind: AlertKind, span: EventSpan, now_s: float, ended: EventEnd | None = None) -> Alert:
        self._weigh(span)
        if kind == "update":
            span.updates += 1
            self.state.unsaid_s = 0.0
        return Alert(event_of(self.camera_id, span, ended), kind, now_s)

    def _weigh(self, span: EventSpan) -> None:
        """Say how rare the highest smoothed score so far is."""
        span.once_in_h, span.told_smoothed = self.thresholds.once_in_h(span.peak_smoothed), span.peak_smoothed
