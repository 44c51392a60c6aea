"""How a run stands: what the supervisor answers, what goes into Redis and what the tables show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pipeline.runtime.activity import RunActivity
from pipeline.runtime.model_swap import ModelStatus
from pipeline.types import FrameCounts, Trouble


@dataclass(frozen=True, slots=True)
class ScoringStatus:
    """What the scorer knows of one camera.

    Attributes:
        scored: frames that got a score.
        dropped: frames that were dispatched to a detector and got none, by reason.
        events: events so far, an open one included.
        latency_p50_s: median time from decoder to score, in seconds; None before the first frame.
        latency_p99_s: its 99th percentile.
        scored_fps: frames per second between the first and the last score; None before the second frame.
        scored_frame_at_s: Unix time at which the newest scored frame was captured; None before the first.
        threshold: the camera's threshold.
        thresholds: version of its thresholds.
        expected_per_hour: events an hour that normal footage opens at that threshold; None where nobody has counted.
        interval_per_hour: 95 % interval of that rate; None where no footage proves anything.
        normal_hours: of normal footage in which they were counted.
        provisional: whether that is too little for the budget that was asked for.
        hours_missing: how many more hours of it would do.
        armed: whether events may open, as its zones were at the newest scored frame.
        drifted: whether the camera's normal scores are no longer those of its normal footage.
        light_changed: whether the camera's whole image looks different than in training.
        model: fingerprint of the model that it is scored by.
        counted: by the id of frame counters, how many of the frames dispatched by them are scored or dropped: all below
            a serial. The last one is that of the newest frame; of those before only the newest few are here.
    """

    scored: int
    dropped: dict[str, int]
    events: int
    latency_p50_s: float | None
    latency_p99_s: float | None
    scored_fps: float | None
    scored_frame_at_s: float | None
    threshold: float
    thresholds: str = ""
    expected_per_hour: float | None = None
    interval_per_hour: tuple[float, float] | None = None
    normal_hours: float = 0.0
    provisional: bool = False
    hours_missing: float = 0.0
    armed: bool = True
    light_changed: bool = False
    drifted: bool = False
    model: str = ""
    counted: dict[str, int] = field(default_factory=dict[str, int])


ReaderState = Literal["opening", "streaming", "waiting", "paused", "finished", "failed", "stopped"]
ENDED: frozenset[ReaderState] = frozenset({"finished", "failed", "stopped"})


@dataclass(frozen=True, slots=True)
class ReaderStatus:
    """What a reader has done so far, in this process and in those before it.

    Attributes:
        state: ``opening`` until the first frame comes, ``waiting`` before a live camera is tried again.
        live: whether it is a live stream, which reconnects; a file ends.
        counter_id: name of the set of counters; another one counts from 0.
        session: number of the newest connection that opened.
        decoded: frames that came, damaged ones included.
        dispatched: frames that were dispatched to a detector.
        dropped: frames that never will be, by reason.
        missing: frames that the file promised and that never came.
        error: why the last connection failed or ended, redacted, one line; empty while frames come.
        last_frame_at_s: Unix time of the newest sound frame; None before the first in this process.
        conditions: what the pictures show: ``frozen``, ``dark``, ``moved``.
        untimed: why a live camera's frames are timed by their arrival; empty while its own clock is believed.
    """

    state: ReaderState
    live: bool
    counter_id: str
    session: int
    decoded: int
    dispatched: int
    dropped: dict[str, int]
    missing: int
    error: str
    last_frame_at_s: float | None
    conditions: frozenset[str]
    untimed: str = ""

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more and the reader counts no more."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera.

    Attributes:
        camera_id: the camera.
        scene: its scene in the model.
        state: of its reader, or ``removed``.
        live: whether it is a live stream.
        session: number of the current connection.
        counts: its frame counts.
        scoring: what the scorer knows.
        conditions: what is out of order: ``offline``, ``frozen``, ``dark``, ``moved``, ``light_changed``, ``drifted``.
        missing: frames that a file promised and that never came.
        last_frame_at_s: Unix time of the newest frame; None before the first.
        error: why the stream failed or ended, in one line; empty when all is well.
        settled: whether it ended and no frame is in flight.
        untimed: why a live camera's frames are timed by their arrival; empty where they are not.
    """

    camera_id: str
    scene: str
    state: str
    live: bool
    session: int
    counts: FrameCounts
    scoring: ScoringStatus
    conditions: tuple[str, ...]
    missing: int
    last_frame_at_s: float | None
    error: str
    settled: bool
    untimed: str = ""

    def as_json(self) -> dict[str, Any]:
        """A flat object, as documented in docs/alerts.md."""
        scoring = self.scoring
        return {
            "camera_id": self.camera_id,
            "scene": self.scene,
            "state": self.state,
            "live": self.live,
            "session": self.session,
            "decoded": self.counts.decoded,
            "scored": self.counts.scored,
            "dropped": self.counts.dropped,
            "in_flight": self.counts.in_flight,
            "conditions": list(self.conditions),
            "missing": self.missing,
            "last_frame_at_s": self.last_frame_at_s,
            "error": self.error,
            "untimed": self.untimed,
            "events": scoring.events,
            "latency_p50_s": scoring.latency_p50_s,
            "latency_p99_s": scoring.latency_p99_s,
            "scored_fps": scoring.scored_fps,
            "scored_frame_at_s": scoring.scored_frame_at_s,
            "threshold": scoring.threshold,
            "thresholds": scoring.thresholds,
            "expected_per_hour": scoring.expected_per_hour,
            "interval_per_hour": scoring.interval_per_hour,
            "normal_hours": scoring.normal_hours,
            "provisional": scoring.provisional,
            "hours_missing": scoring.hours_missing,
            "armed": scoring.armed,
            "model": scoring.model,
        }


@dataclass(frozen=True, slots=True)
class RunStatus:
    """All cameras of a run.

    Attributes:
        cameras: in the order of the config.
        done: whether every camera is settled and its last event closed.
        unwritten: what could not be written in the end, one line each.
        troubles: what is wrong at present beside single cameras.
        alerts: how many were emitted, delivered to Redis, dropped, and wait.
        tunings: how the detectors' models are run, each way once.
        model: how the run stands to its models.
        archived: frame counts of all cameras together that ``cameras`` leaves out: above all those that were removed
            long ago.
        paused: ids of the cameras that are not to be read at present.
        unread: ids of cameras that are wanted and of which nobody has reported yet; ``cameras`` leaves them out.
        activity: what the actors do.
    """

    cameras: tuple[CameraStatus, ...]
    done: bool
    unwritten: tuple[str, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    alerts: dict[str, Any] = field(default_factory=dict[str, Any])
    tunings: tuple[str, ...] = ()
    model: ModelStatus = field(default_factory=ModelStatus)
    archived: FrameCounts = field(default_factory=lambda: FrameCounts(0, 0, {}))
    paused: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()
    activity: RunActivity = field(default_factory=RunActivity)

    def counts(self) -> FrameCounts:
        """The frame counts of all cameras together, removed ones included."""
        all_counts = [self.archived, *(camera.counts for camera in self.cameras)]
        dropped: Counter[str] = Counter()
        for counts in all_counts:
            dropped.update(counts.dropped)
        return FrameCounts(sum(c.decoded for c in all_counts), sum(c.scored for c in all_counts), dict(dropped))

    def totals(self) -> dict[str, Any]:
        """What is said of the run as a whole, as documented in docs/alerts.md."""
        counts = self.counts()
        return {
            "cameras": sum(camera.state != "removed" for camera in self.cameras),
            "decoded": counts.decoded,
            "scored": counts.scored,
            "dropped": counts.dropped,
            "alerts": dict(self.alerts),
            "model": self.model.as_json(),
            "troubles": [trouble.text for trouble in self.troubles],
            "faults": list(self.unwritten),
        }

    def cameras_as_json(self) -> dict[str, dict[str, Any]]:
        """The status of every camera that is not removed, as docs/alerts.md has it, by id."""
        return {camera.camera_id: camera.as_json() for camera in self.cameras if camera.state != "removed"}


def totals_line(totals: Mapping[str, Any]) -> str:
    """What became of all frames and alerts of a run, in one line.

    Args:
        totals: as ``RunStatus.totals`` gives them.
    """
    dropped, alerts = totals["dropped"], totals["alerts"]
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items()))
    frames = f"{totals['decoded']:,} frames decoded, {totals['scored']:,} scored, {sum(dropped.values()):,} dropped"
    frames += f" ({reasons})" if reasons else ""
    waiting = alerts.get("waiting", 0)
    return f"{frames}; {alerts.get('emitted', 0):,} alerts" + (f", {waiting:,} not delivered yet" if waiting else "")


def sum_counts(all_counts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts added up key by key, also where a value is a mapping of counts in its turn.

    Args:
        all_counts: of every scorer, how many alerts it has emitted, delivered, dropped, and how many wait.
    """
    total: dict[str, Any] = {}
    for counts in all_counts:
        for key, value in counts.items():
            if isinstance(value, Mapping):
                total[key] = sum_counts([total.get(key, {}), cast("Mapping[str, Any]", value)])
            else:
                total[key] = total.get(key, 0) + value
    return total
