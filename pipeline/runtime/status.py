"""How a run stands: what the supervisor answers, what goes into Redis and what the tables show."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.types import FrameAccount


@dataclass(frozen=True, slots=True)
class ScoringStatus:
    """What the scorer knows of one camera.

    Attributes:
        scored: frames that got a score.
        dropped: frames that could get none, by reason.
        events: events so far, an open one included.
        latency_p50_s: median time from decoder to verdict, in seconds; None before the first frame.
        latency_p99_s: its 99th percentile.
        scored_fps: frames per second between the first and the last verdict; None before the second frame.
        threshold: the camera's threshold.
    """

    scored: int
    dropped: dict[str, int]
    events: int
    latency_p50_s: float | None
    latency_p99_s: float | None
    scored_fps: float | None
    threshold: float


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera.

    Attributes:
        camera_id: the camera.
        scene: its scene in the model.
        state: of its reader (``pipeline.video.reader.State``).
        live: whether it is a live stream.
        session: number of the current connection.
        account: its books.
        scoring: what the scorer knows.
        corrupt_packets: packets that did not decode.
        missing: frames that a file promised and that never came.
        error: why the stream failed or ended, in one line; empty when all is well.
        settled: whether it ended and no frame is in flight.
    """

    camera_id: str
    scene: str
    state: str
    live: bool
    session: int
    account: FrameAccount
    scoring: ScoringStatus
    corrupt_packets: int
    missing: int
    error: str
    settled: bool

    def as_json(self) -> dict[str, Any]:
        """A flat object, as documented in docs/alerts.md."""
        scoring = asdict(self.scoring)
        del scoring["scored"], scoring["dropped"]  # the account holds them
        return {
            "camera_id": self.camera_id,
            "scene": self.scene,
            "state": self.state,
            "live": self.live,
            "session": self.session,
            "decoded": self.account.decoded,
            "scored": self.account.scored,
            "dropped": self.account.dropped,
            "in_flight": self.account.in_flight,
            "corrupt_packets": self.corrupt_packets,
            "missing": self.missing,
            "error": self.error,
            **scoring,
        }


@dataclass(frozen=True, slots=True)
class RunStatus:
    """All cameras of a run.

    Attributes:
        cameras: in the order of the config.
        done: whether every camera is settled and its last event closed.
        faults: what went wrong beside single cameras, one line each.
    """

    cameras: tuple[CameraStatus, ...]
    done: bool
    faults: tuple[str, ...] = field(default=())
