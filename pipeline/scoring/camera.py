"""Turns what detectors say of one camera's frames into scores, alerts and counts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import tzinfo

from pipeline.alerts import Alert, Notice, Region
from pipeline.camera_settings import AlertSettings
from pipeline.scoring.adaptation import follow, moved
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.camera_state import CameraState
from pipeline.scoring.dismissed import Dismissal
from pipeline.scoring.drift import DriftMonitor, end_drift
from pipeline.scoring.event_span import event_id
from pipeline.scoring.events import EventTracker
from pipeline.scoring.evidence import Moment, PeakFrame
from pipeline.scoring.light import LightMonitor, end_light_change
from pipeline.scoring.smoothing import CausalSmoother, SmootherState
from pipeline.scoring.thresholds import Thresholds
from pipeline.types import Dropped, FrameHeader, Prediction, Score, Suppressed
from pipeline.zoning import EVERYTHING, Regime, Zoning

_UNWATCHED = "the camera is no longer watched"
_OTHER_MODEL = "another model scores now"
_CANNOT_TELL = "the model that scores now cannot tell"
_log = logging.getLogger(__name__)


class CameraScoring:
    """Turns what detectors say of one camera's frames into scores, alerts and counts. Pure: no clock, no input.

    Args:
        camera_id: the camera.
        calibration: what its scores are set against.
        settings: when it raises an alarm.
        state: what an earlier process remembered.
        zoning: its zones over the week; None for a camera without zones.
        by_zones: what scores are set against instead while zones hold, by the key of their regime.
        time_zone: by whose clock times are told; None for the machine's.
        light: watches the whole image; None where nobody can tell, or wants to know, that it looks different.
        drift: watches its normal scores; None where nobody wants to know that they have drifted.
        model: fingerprint of the model whose normal frames these are.
    """

    def __init__(
        self,
        camera_id: str,
        calibration: Calibration,
        settings: AlertSettings,
        state: CameraState | None = None,
        *,
        zoning: Zoning | None = None,
        by_zones: Mapping[str, Calibration] | None = None,
        time_zone: tzinfo | None = None,
        light: LightMonitor | None = None,
        drift: DriftMonitor | None = None,
        model: str = "",
    ) -> None:
        self.camera_id = camera_id
        self._calibration = calibration
        self._smoother = CausalSmoother(settings.smoothing_s)
        self._zoning, self._regime = zoning, EVERYTHING
        self._by_zones = {"": calibration, **(by_zones or {})}
        self._tracker = EventTracker(
            camera_id, settings, calibration.thresholds, time_zone=time_zone, zone_of=self._zone_of
        )
        self._state = state or CameraState(model=model)
        self._smoother.state, self._tracker.state = self._state.smoother, self._state.tracker
        self._peak: PeakFrame | None = None
        self._light = light
        if light is not None:
            light.state = self._state.light
        self._drift, self._adapts = drift, settings.adapt == "slow"
        if drift is not None:
            drift.state = self._state.drift
        self._go_on_in(self._state.zones)

    @property
    def state(self) -> CameraState:
        """What it remembers."""
        self._state.smoother, self._state.tracker = self._smoother.state, self._tracker.state
        return self._state

    @property
    def thresholds(self) -> Thresholds:
        """What its smoothed scores are held against."""
        return self._tracker.thresholds

    def is_held_against(self, by_zones: Mapping[str, Calibration]) -> bool:
        """Whether these are the thresholds that it has.

        Args:
            by_zones: by the key of the zones that hold.
        """
        return all(
            self._by_zones[zones].thresholds.version == one.thresholds.version for zones, one in by_zones.items()
        )

    @property
    def model(self) -> str:
        """Fingerprint of the model by whose scores what it remembers was decided."""
        return self._state.model

    @property
    def scored(self) -> int:
        """Frames that got a score."""
        return self._state.scored

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that were dispatched to a detector and got no score, by reason."""
        return dict(self._state.dropped)

    @property
    def events(self) -> int:
        """Events opened so far."""
        return self._tracker.state.opened

    @property
    def counted(self) -> dict[str, int]:
        """Frames whose result is known, by the id of the frame counters that dispatched them; the newest come last."""
        return {**self._state.former, self._state.counter_id: self._state.next_serial}

    @property
    def armed(self) -> bool:
        """Whether events may open, as its zones were at the last frame."""
        return self._regime.armed

    @property
    def drifted(self) -> bool:
        """Whether its normal scores are not those of its normal footage any more, as was said."""
        return self._state.drift.since_at_s is not None

    @property
    def light_changed(self) -> bool:
        """Whether its whole image looks different, as was said."""
        return self._state.light.since_at_s is not None

    def update(self, prediction: Prediction, now_s: float) -> tuple[Score | None, list[Alert | Notice]]:
        """Take in a frame.

        Args:
            prediction: what the detector says of it.
            now_s: Unix time.

        Returns:
            The score, or None for a frame that is not above the last one (it was seen before, or counted as lost) or
            whose score or common surprise is not finite (``not_finite``), and the alerts in order.

        Raises:
            ValueError: the frame is another camera's; nothing has changed then.
        """
        header = prediction.header
        if not self._accepts(header):
            return None, []
        self._enter(EVERYTHING if self._zoning is None else self._zoning.at(header.captured_at_s))
        aligned = self._aligned(prediction)
        if not (math.isfinite(aligned.anomaly_score) and math.isfinite(prediction.common_surprise)):
            # It would stay in what is smoothed for good.
            self._state.count_dropped("not_finite")
            return None, []
        last = self._smoother.state
        elapsed_s = max(0.0, header.media_time_s - last.time_s) if header.session == last.session else 0.0
        smoothed = self._smoother.update(aligned.anomaly_score, header.session, header.media_time_s)
        self._state.scored += 1
        p_value = self._calibration.p_value(prediction.anomaly_score, paired=prediction.paired)
        light = [] if self._light is None else self._light.update(header, prediction.common_surprise, now_s)
        held = self._held()
        raised = self._tracker.update(aligned, smoothed, now_s, p_value=p_value, held=held)
        event = self._tracker.joined
        self._note_peak(prediction)
        score = Score(
            header=header,
            anomaly_score=aligned.anomaly_score,
            smoothed_score=smoothed,
            p_value=p_value,
            threshold=self.thresholds.opening,
            thresholds=self.thresholds.version,
            close_threshold=self.thresholds.closing if prediction.paired else self.thresholds.unpaired_closing,
            scored_at_s=now_s,
            latency_s=now_s - header.captured_at_s,
            event_id=None if event is None else event_id(self.camera_id, event),
            event_start_s=None if event is None else event.start_s,
            anomaly_map=prediction.anomaly_map,
            paired=prediction.paired,
            common_surprise=prediction.common_surprise,
            model=self._state.model,
            event_stretch=None if event is None else event.stretches,
            suppressed=self._tracker.suppressed,
        )
        drift = (
            []
            if event is not None or score.is_anomalous or held
            else self._learn(prediction, aligned, elapsed_s, now_s)
        )
        return score, [*raised, *light, *drift]

    def silence(self, dismissals: Sequence[Dismissal]) -> None:
        """Open nothing for the like of events that were dismissed, and of no others."""
        self._tracker.dismissals = dismissals

    def moment(self) -> Moment:
        """What is to be known of an alert that its newest frame has raised."""
        return Moment(self._tracker.state.time_s, self._peak)

    def is_new(self, header: FrameHeader) -> bool:
        """Whether a frame is above all before it."""
        return self._state.last is None or header.order > self._state.last

    def leave_model(self, model: str, now_s: float) -> list[Alert | Notice]:
        """End what was decided by one model's scores, before the first frame of another one.

        Scores of two models share no scale. So the open event ends, whose peak and threshold are of the old one, and
        smoothing starts anew; a change of light that was said lasts until the new one's frames tell that it is over.

        Args:
            model: fingerprint of the other model.
            now_s: Unix time.
        """
        alerts = self._tracker.leave_scale(now_s)
        state = self.state
        state.model = model
        state.smoother = self._smoother.state = SmootherState()
        state.light.smoother, state.light.turned_s = SmootherState(), None
        state.light.unsettled_s = 0.0
        drift = end_drift(self.camera_id, state.drift, now_s, now_s, _OTHER_MODEL)
        state.adaptation.moved, state.adaptation.steps = 0.0, 0
        return [*alerts, *drift]

    def end_untold_light(self, now_s: float) -> list[Alert | Notice]:
        """End a change of light that lasts, where the model cannot tell when it will be over.

        Args:
            now_s: Unix time.
        """
        if self._light is not None:
            return []
        return [*end_light_change(self.camera_id, self._state.light, now_s, now_s, _CANNOT_TELL)]

    def drop(self, dropped: Dropped) -> None:
        """Take in a frame that a detector did not score.

        Raises:
            ValueError: the frame is another camera's; nothing has changed then.
        """
        if self._accepts(dropped.header):
            self._state.count_dropped(dropped.reason)

    def finish(self, now_s: float) -> list[Alert | Notice]:
        """Close the open event, if there is one, and end a change of light: the stream has ended, or the run has.

        Args:
            now_s: Unix time.
        """
        light = end_light_change(self.camera_id, self._state.light, now_s, now_s, _UNWATCHED)
        drift = end_drift(self.camera_id, self._state.drift, now_s, now_s, _UNWATCHED)
        return [*self._tracker.finish(now_s), *light, *drift]

    def _learn(self, prediction: Prediction, aligned: Prediction, elapsed_s: float, now_s: float) -> list[Notice]:
        """See in a frame that is no part of an event how the camera's normal scores are."""
        calibration, header = self._calibration, prediction.header
        if self._adapts and follow(
            self._state.adaptation, aligned.anomaly_score, calibration.median, calibration.spread, elapsed_s
        ):
            self._go_on_in(self._state.zones)
            _log.info(
                "camera %s: thresholds follow its normal scores: %.4g from now on (version %s)",
                self.camera_id,
                self.thresholds.opening,
                self.thresholds.version,
                extra={"camera": self.camera_id},
            )
        if self._drift is None or calibration.drift is None:
            return []
        return self._drift.update(calibration.drift, header, prediction.anomaly_score, now_s, paired=prediction.paired)

    def _note_peak(self, prediction: Prediction) -> None:
        """Keep the map of the frame that is the highest so far of what is, or may become, an event."""
        header, state = prediction.header, self._tracker.state
        span = state.open or state.rising
        if span is not None and (span.session, span.peak.index) == header.order:
            self._peak = PeakFrame(header.session, header.index, header.media_time_s, prediction.anomaly_map)

    def _enter(self, regime: Regime) -> None:
        """Score by the zones that hold now.

        Scores under other zones share no scale, so smoothing begins anew, and so does what was about to open. An event
        that is open goes on, held against the new thresholds: night falls on it as on the rest.
        """
        self._regime = regime
        if regime.key != self._state.zones:
            self._state.zones = regime.key
            self._smoother.state, self._tracker.state.beside = SmootherState(), SmootherState()
            self._tracker.state.rising = None
            self._go_on_in(regime.key)

    def _go_on_in(self, zones: str) -> None:
        self._calibration = self._by_zones.get(zones, self._by_zones[""])
        calibration = self._calibration
        self._tracker.thresholds = moved(calibration.thresholds, self._state.adaptation, calibration.spread)

    def _held(self) -> Suppressed:
        """Why no event may open at this frame."""
        if not self._regime.armed:
            return "not_armed"
        return "light" if self._light is not None and self._light.pauses else ""

    def _zone_of(self, region: Region, at_s: float) -> str | None:
        """Name of the watched zone that holds the middle of a region at a time."""
        if self._zoning is None:
            return None
        return self._zoning.at(at_s).zone_at((region.left + region.right) / 2, (region.top + region.bottom) / 2)

    def _aligned(self, prediction: Prediction) -> Prediction:
        """The frame with its score on the scale that all frames of the camera share."""
        alignment = self._calibration.alignment
        if prediction.paired or alignment is None:
            return prediction
        return replace(prediction, anomaly_score=alignment.aligned(prediction.anomaly_score))

    def _accepts(self, header: FrameHeader) -> bool:
        """Whether a frame is above all before it; if so it is the last one now, and what is missing below it is lost.

        Smoothing and events are causal, so a frame that comes late can no longer be used; and the same frame, sent
        again by a detector that got no answer, must not count twice. A camera's frames come in the order of their
        serials, so those that are passed over died with the process that had them. Where other frame counters gave the
        serial (the camera is read on another node), those before will bring nothing more.
        """
        if header.camera_id != self.camera_id:
            raise ValueError(f"camera {self.camera_id}: expected its own frames, got one of camera {header.camera_id}")
        state = self._state
        if not self.is_new(header):
            return False
        if header.counter_id != state.counter_id:
            state.count_by(header.counter_id)
        if header.serial > state.next_serial:
            state.count_dropped("detector_lost", header.serial - state.next_serial)
        state.last, state.next_serial = header.order, header.serial + 1
        return True
