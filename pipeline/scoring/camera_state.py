"""All that is remembered of one camera between its frames: order, counts, smoothing, the open event, and the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from pipeline.alerts import Alert, Notice
from pipeline.scoring.adaptation import AdaptationState
from pipeline.scoring.drift import DriftState, end_drift
from pipeline.scoring.event_span import event_of
from pipeline.scoring.light import LightState, end_light_change
from pipeline.scoring.smoothing import SmootherState
from pipeline.scoring.tracker_state import TrackerState
from pipeline.types import DropReason


@dataclass(slots=True)
class CameraState:
    """What must outlive the scorer's process.

    As JSON it is below 1 kB; while an event is open or cools down below 3 kB, and each thing that stays adds 200 bytes.

    Attributes:
        last: (session, index) of the newest frame whose result is known; None before the first.
        next_serial: of the frame that should come next.
        counter_id: of the frame counters by which it is counted.
        former: by the id of those before, the newest few, what ``next_serial`` was in the end.
        scored: frames that got a score.
        dropped: frames that were dispatched and got none, by reason.
        smoother: of the raw scores.
        tracker: of events.
        light: of what is said of the whole image.
        drift: of what is said of its normal scores.
        adaptation: by how much thresholds have followed these.
        model: fingerprint of the model by whose scores the rest was decided.
        zones: key of the regime that held at the last frame.
    """

    last: tuple[int, int] | None = None
    next_serial: int = 0
    counter_id: str = ""
    former: dict[str, int] = field(default_factory=dict[str, int])
    scored: int = 0
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    smoother: SmootherState = field(default_factory=SmootherState)
    tracker: TrackerState = field(default_factory=TrackerState)
    light: LightState = field(default_factory=LightState)
    drift: DriftState = field(default_factory=DriftState)
    adaptation: AdaptationState = field(default_factory=AdaptationState)
    model: str = ""
    zones: str = ""

    def as_json(self) -> str:
        """One line of JSON."""
        return _STATES.dump_json(self).decode()

    @classmethod
    def of_json(cls, text: str) -> CameraState:
        """Read what ``as_json`` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            return _STATES.validate_json(text)
        except ValidationError as error:
            raise ValueError(f"expected a camera's state, got {text[:80]!r}") from error

    def count_dropped(self, reason: DropReason, frames: int = 1) -> None:
        """Count frames that will never be scored."""
        self.dropped[reason] = self.dropped.get(reason, 0) + frames

    def count_by(self, counter_id: str) -> None:
        """Expect the serials of these frame counters from now on; those of others will come no more."""
        if self.next_serial:
            self.former[self.counter_id] = self.next_serial
        self.counter_id, self.next_serial = counter_id, self.former.pop(counter_id, 0)
        for oldest in list(self.former)[:-_FORMER_COUNTERS]:
            del self.former[oldest]


_FORMER_COUNTERS = 3
_STATES = TypeAdapter(CameraState)
_RUN_LOST = "the run was lost"


def end_abandoned(camera_id: str, state: CameraState, now_s: float) -> list[Alert | Notice]:
    """The end of what lasted when its whole run was killed: of an event, a change of light, a drift.

    Args:
        camera_id: the camera.
        state: as the run left it.
        now_s: Unix time.
    """
    span = state.tracker.open
    over = [
        *end_light_change(camera_id, replace(state.light), now_s, now_s, _RUN_LOST),
        *end_drift(camera_id, replace(state.drift), now_s, now_s, _RUN_LOST),
    ]
    if span is None:
        return [*over]
    return [Alert(event_of(camera_id, span, "interrupted"), "end", now_s), *over]
