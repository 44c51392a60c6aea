"""All that is remembered of a camera's events between two frames."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.scoring.event_span import EventSpan
from pipeline.scoring.smoothing import SmootherState
from pipeline.scoring.still import StillThing


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
        cooling: the event that ended last, as long as what comes at its place continues it.
        cooled_s: media time since it ended.
        still: things that stay and were told, oldest first.
        beside: smoothed score of the image without their places.
    """

    opened: int = 0
    session: int | None = None
    time_s: float = 0.0
    rising: EventSpan | None = None
    open: EventSpan | None = None
    quiet_s: float = 0.0
    unsaid_s: float = 0.0
    cooling: EventSpan | None = None
    cooled_s: float = 0.0
    still: list[StillThing] = field(default_factory=list[StillThing])
    beside: SmootherState = field(default_factory=SmootherState)
