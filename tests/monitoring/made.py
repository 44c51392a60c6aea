"""A run of two cameras as its supervisor tells of it."""

from dataclasses import replace

from pipeline.monitoring.run_watch import ModelInfo, RunWatch
from pipeline.runtime.activity_meter import ActivityMeter
from pipeline.runtime.messages import CameraReport, DetectorReport, ScorerReport
from pipeline.runtime.status import CameraStatus, RunStatus, ScoringStatus
from pipeline.runtime.tally import BATCH_FRAMES, SECONDS, DetectorLoad, Histogram, Tally
from pipeline.types import FrameCounts, Trouble

SCORING = ScoringStatus(90, {}, 2, 0.05, 0.2, 5.0, 1_700_000_000.0, 50.0)
GATE = CameraStatus(
    "gate", "gate", "streaming", True, 3, FrameCounts(100, 90, {"overload": 5, "stale": 1}), SCORING,
    (), 0, 1_700_000_001.0, "", False,
)  # fmt: skip
YARD = replace(
    GATE, camera_id="yard", state="waiting", session=0, counts=FrameCounts(0, 0, {}), conditions=("offline",),
    scoring=replace(SCORING, scored=0, events=0, scored_frame_at_s=None), last_frame_at_s=None,
)  # fmt: skip
REMOVED = replace(GATE, camera_id="old", state="removed", counts=FrameCounts(10, 10, {}))


def histogram(edges, *values):
    made = Histogram(edges)
    for value in values:
        made.add(value)
    return made.counts()


def activity():
    seconds = histogram(SECONDS, 0.004, 0.2)
    return ActivityMeter("run-1", 0.0).update(
        {"run-1-scorer": ScorerReport(
            1, 0, {}, node="a1", failing={"parquet": True, "redis": False},
            tally=Tally(1.0, {"scoring": seconds, "all": seconds}, {"parquet": 7, "redis": 0}),
        )},
        {"run-1-camera-0": CameraReport(1, {}, waiting=3, tally=Tally(1.0, {"camera_buffer": seconds}))},
        {
            "run-1-detector-0": DetectorReport(
                1, {}, load=DetectorLoad(12.5, 10, 90, 4, 0.25), node="b2",
                tally=Tally(1.0, {"inbox": seconds, "prediction": seconds, "batch_frames": histogram(BATCH_FRAMES, 9)}),
            ),
            "run-1-detector-1": None,
        },
    )  # fmt: skip


def status(**changes):
    alerts = {"emitted": 5, "delivered": 3, "withheld": 0, "dropped": 0, "waiting": 2}
    whole = RunStatus(
        cameras=(GATE, YARD, REMOVED),
        done=False,
        troubles=(Trouble("a", "a"),),
        alerts={**alerts, "sinks": {"pager": {**alerts, "waiting": 1, "withheld": 4, "delivered": 0}}},
        archived=FrameCounts(1000, 1000, {}),
        paused=frozenset({"yard"}),
        unread=("roof",),
        activity=activity(),
    )
    return replace(whole, **changes)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def watch(clock=None):
    """One that was told of this run just now."""
    watch = RunWatch(clock or Clock())
    watch.tell_models((ModelInfo("0123456789ab", "cflow", "mobilenetv2_100"),))
    watch.tell("running", status())
    return watch
