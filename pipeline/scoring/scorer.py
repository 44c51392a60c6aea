"""From what detectors say to scores and alerts of all cameras, with the counts of frames."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from pipeline.alerts import Alert, Notice
from pipeline.camera_settings import CameraSettings
from pipeline.models.card import ModelCard
from pipeline.normal_footage import AddedStretch
from pipeline.runtime.latency import LatencyHistogram
from pipeline.runtime.status import ScoringStatus
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.calibrations import Calibrations
from pipeline.scoring.camera import CameraScoring
from pipeline.scoring.camera_state import CameraState, end_abandoned
from pipeline.scoring.dismissed import Dismissal, dismissals_of
from pipeline.scoring.drift import DriftMonitor
from pipeline.scoring.evidence import Moment
from pipeline.scoring.light import LightMonitor, light_threshold, settling_s
from pipeline.types import Dropped, Prediction, Score
from pipeline.verdicts import Verdict

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows from some frames.

    Attributes:
        scores: in order.
        alerts: in order.
        states: of every camera that has changed, as JSON, by camera id.
        moments: of the alerts about events, by the event's id.
    """

    scores: list[Score] = field(default_factory=list[Score])
    alerts: list[Alert | Notice] = field(default_factory=list[Alert | Notice])
    states: dict[str, str] = field(default_factory=dict[str, str])
    moments: dict[str, Moment] = field(default_factory=dict[str, Moment])

    def take(self, alerts: Sequence[Alert | Notice], camera: CameraScoring) -> None:
        """Add alerts that a camera has just raised."""
        self.alerts.extend(alerts)
        self.moments.update({alert.event.event_id: camera.moment() for alert in alerts if isinstance(alert, Alert)})


class Scorer:
    """Scores the frames of several cameras, each by its own normal footage, as the model knows it that saw the frame.

    Args:
        card: of the model whose predictions come at first.
        states: what an earlier process of the same run remembered, as JSON by camera id.
    """

    def __init__(self, card: ModelCard, states: Mapping[str, str] | None = None) -> None:
        self._cards = {card.fingerprint: card}
        self._wanted = card.fingerprint
        self._states = dict(states or {})
        self._settings: dict[str, CameraSettings] = {}
        self._settings_of: dict[str, CameraSettings] = {}  # of those below, removed ones included
        self._cameras: dict[str, CameraScoring] = {}
        self._meters: dict[str, _Meter] = {}
        self._archived: set[str] = set()  # removed long ago
        self._calibrations = Calibrations()
        self._dismissals: dict[str, tuple[Dismissal, ...]] = {}

    def judge(self, verdicts: Iterable[Verdict]) -> None:
        """Take in what people said of events.

        Args:
            verdicts: all there are, one per event.
        """
        self._dismissals = dismissals_of(verdicts)
        for camera_id, camera in self._cameras.items():
            camera.silence(self._dismissals.get(camera_id, ()))

    def use(self, cards: Sequence[ModelCard], normal: Mapping[str, Sequence[AddedStretch]] | None = None) -> None:
        """Know these models, too; what was not seen by any is expected to be seen by the last of them.

        Args:
            cards: at least one; a model that was known before and is none of them may be forgotten.
            normal: normal footage of these models beside what their cards hold, by fingerprint.
        """
        self._cards = {card.fingerprint: card for card in cards}
        self._wanted = cards[-1].fingerprint
        self._calibrations.use(normal or {})
        self._calibrations.keep(self._cards)

    def configure(
        self, cameras: Iterable[CameraSettings], now_s: float, removed_cameras: Iterable[CameraSettings] = ()
    ) -> Outcome:
        """Score these cameras from now on; the open events of others end, and what is remembered of them is kept.

        Args:
            cameras: the cameras.
            now_s: Unix time.
            removed_cameras: cameras that were removed, of which frames may still come. One that this process does not
                know, since it was removed before or while this process was started, goes on with its counts. Of others
                only the state is kept: their frames were written off long ago.
        """
        wanted, removed_cameras = {camera.id: camera for camera in cameras}, tuple(removed_cameras)
        outcome = Outcome()
        for camera_id in [camera_id for camera_id in self._settings if camera_id not in wanted]:
            del self._settings[camera_id]
            self._end(camera_id, now_s, outcome)
        for camera_id, settings in wanted.items():
            before = self._settings.get(camera_id)
            if before is None or _scoring_settings(before) != _scoring_settings(settings):
                if before is not None:
                    self._end(camera_id, now_s, outcome)
                self._cameras[camera_id] = self._scoring(settings)
                self._meters.setdefault(camera_id, _Meter())
            elif not self._cameras[camera_id].is_held_against(self._calibrated(settings)):  # scores are what they were
                self._cameras[camera_id] = self._scoring(settings)
            self._settings[camera_id] = settings
        for settings in removed_cameras:
            if settings.id not in self._cameras:
                self._cameras[settings.id] = self._scoring(settings)
                self._meters[settings.id] = _Meter()
                self._end(settings.id, now_s, outcome)
        for camera_id in self._cameras.keys() - wanted.keys() - {settings.id for settings in removed_cameras}:
            self._states[camera_id] = self._cameras.pop(camera_id).state.as_json()  # it may come back
            del self._meters[camera_id], self._settings_of[camera_id]
        self._archived = self._states.keys() - self._cameras.keys()
        return outcome

    def close(self, now_s: float) -> Outcome:
        """End all open events, also those that an earlier process of the run left to this one.

        Args:
            now_s: Unix time.
        """
        outcome = Outcome()
        for camera_id in self._cameras:
            self._end(camera_id, now_s, outcome)
        for camera_id in self._states.keys() - self._cameras.keys():  # started anew, and not told of any camera yet
            state = self._restored(camera_id)
            if state is not None:
                outcome.alerts.extend(end_abandoned(camera_id, state, now_s))
        self._settings.clear()
        return outcome

    def knows(self, camera_ids: Iterable[str], model: str) -> bool:
        """Whether a model is in use, and all of these cameras have been configured at some time.

        Args:
            camera_ids: the cameras.
            model: its fingerprint.
        """
        return model in self._cards and self._cameras.keys() | self._archived >= set(camera_ids)

    def update(self, results: Iterable[Prediction | Dropped], model: str, now_s: float) -> Outcome:
        """Take in what became of frames; those of one camera in order.

        Args:
            results: what detectors say; frames whose result is known already, or was decided long ago, are passed over.
            model: fingerprint of the model that made all of these predictions.
            now_s: Unix time.

        Raises:
            KeyError: a frame of a camera that was never configured, or a model that is not in use.
        """
        outcome = Outcome()
        touched: set[str] = set()
        for result in results:
            if result.header.camera_id in self._archived:
                continue
            camera = self._cameras[result.header.camera_id]
            touched.add(camera.camera_id)
            if isinstance(result, Dropped):
                camera.drop(result)
                continue
            if camera.model != model and camera.is_new(result.header):
                camera = self._change_model(camera, model, now_s, outcome)
            score, raised = camera.update(result, now_s)
            if score is not None:
                self._meters[camera.camera_id].add(score)
                outcome.scores.append(score)
            outcome.take(raised, camera)
        outcome.states.update({camera_id: self._cameras[camera_id].state.as_json() for camera_id in sorted(touched)})
        return outcome

    def finish(self, camera_ids: Iterable[str], now_s: float) -> Outcome:
        """Close the open events of cameras that ended."""
        outcome = Outcome()
        for camera_id in camera_ids:
            self._end(camera_id, now_s, outcome)
        return outcome

    def status(self) -> Mapping[str, ScoringStatus]:
        """Counts of every camera, by id."""
        return {camera_id: self._meters[camera_id].status(camera) for camera_id, camera in self._cameras.items()}

    def _end(self, camera_id: str, now_s: float, outcome: Outcome) -> None:
        camera = self._cameras.get(camera_id)
        if camera is None:
            return
        outcome.take(camera.finish(now_s), camera)
        outcome.states[camera_id] = camera.state.as_json()

    def _change_model(self, camera: CameraScoring, model: str, now_s: float, outcome: Outcome) -> CameraScoring:
        """Have a camera scored by another model from now on."""
        outcome.take(camera.leave_model(model, now_s), camera)
        changed = self._cameras[camera.camera_id] = self._scoring(self._settings_of[camera.camera_id])
        outcome.alerts.extend(changed.end_untold_light(now_s))
        return changed

    def _calibrated(self, settings: CameraSettings) -> dict[str, Calibration]:
        """What a camera that is known is to be held against, by its zones."""
        card = self._cards.get(self._cameras[settings.id].model) or self._cards[self._wanted]
        return self._calibrations.by_zones(card, settings)

    def _scoring(self, settings: CameraSettings) -> CameraScoring:
        """A camera, by the model that it was scored by last, or else by the one that is wanted."""
        self._settings_of[settings.id] = settings
        known = self._cameras.get(settings.id)
        state = known.state if known else self._restored(settings.id)
        card = self._cards.get(state.model if state is not None else "") or self._cards[self._wanted]
        if not any(card.normal_scores.get(settings.scene_name, ())):
            _log.warning(
                "camera %s: the model has no normal scores of scene %r (it has: %s); using those of all scenes",
                settings.id,
                settings.scene_name,
                ", ".join(sorted(card.normal_scores)) or "none",
                extra={"camera": settings.id},
            )
        if not self._calibrations.knows_zones(card, settings):
            _log.warning(
                "camera %s: beside the model lie no maps to tell what normal footage scores within its zones; using "
                "the thresholds of the whole image",
                settings.id,
                extra={"camera": settings.id},
            )
        falsely_h = settings.health.drift_falsely_h
        camera = CameraScoring(
            settings.id,
            self._calibrations.of(card, settings),
            settings.alerts,
            state,
            zoning=settings.zoning,
            by_zones=self._calibrations.by_zones(card, settings),
            time_zone=ZoneInfo(settings.time_zone),
            light=_light_monitor(card, settings),
            drift=None if falsely_h is None else DriftMonitor(settings.id, falsely_h),
            model=card.fingerprint,
        )
        camera.silence(self._dismissals.get(settings.id, ()))
        return camera

    def _restored(self, camera_id: str) -> CameraState | None:
        text = self._states.get(camera_id)
        if text is None:
            return None
        try:
            return CameraState.of_json(text)
        except ValueError as error:
            _log.error("camera %s: its counts start at 0: %s", camera_id, error, extra={"camera": camera_id})
            return None


def _light_monitor(card: ModelCard, settings: CameraSettings) -> LightMonitor | None:
    after_s = settings.health.light_changed_s
    if after_s is None:
        return None
    threshold = light_threshold(card.normal_common, settings.scene_name, card.normal_fps, settings.sample_fps)
    if threshold is None:
        return None
    alerts = settings.alerts
    return LightMonitor(
        settings.id, threshold, after_s, pause_s=alerts.light_pause_s, settles_s=settling_s(alerts.smoothing_s)
    )


class _Meter:
    """Latency and rate of one camera, since this process started."""

    def __init__(self) -> None:
        self._latency = LatencyHistogram()
        self._scored = 0
        self._first_at_s = self._last_at_s = 0.0
        self._frame_at_s: float | None = None

    def add(self, score: Score) -> None:
        if self._scored == 0:
            self._first_at_s = score.scored_at_s
        self._last_at_s = score.scored_at_s
        self._frame_at_s = score.header.captured_at_s
        self._scored += 1
        self._latency.add(score.latency_s)

    def status(self, camera: CameraScoring) -> ScoringStatus:
        lasted_s = self._last_at_s - self._first_at_s
        p50_s, p99_s = self._latency.quantiles_s(0.50, 0.99)
        thresholds = camera.thresholds
        return ScoringStatus(
            scored=camera.scored,
            dropped=camera.dropped,
            events=camera.events,
            latency_p50_s=p50_s,
            latency_p99_s=p99_s,
            scored_fps=(self._scored - 1) / lasted_s if lasted_s > 0.0 else None,
            scored_frame_at_s=self._frame_at_s,
            threshold=thresholds.opening,
            thresholds=thresholds.version,
            expected_per_hour=thresholds.expected_per_hour,
            interval_per_hour=thresholds.interval_per_hour,
            normal_hours=thresholds.hours,
            provisional=thresholds.provisional,
            hours_missing=thresholds.hours_missing,
            light_changed=camera.light_changed,
            drifted=camera.drifted,
            armed=camera.armed,
            model=camera.model,
            counted=camera.counted,
        )


def _scoring_settings(settings: CameraSettings) -> tuple[object, ...]:
    """What of a camera's settings decides its scores, and what is said of them."""
    place = settings.scene_name, settings.zones, settings.time_zone
    return (
        *place,
        settings.sample_fps,
        settings.alerts,
        settings.health.light_changed_s,
        settings.health.drift_falsely_h,
    )
