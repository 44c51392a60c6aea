"""Several scorers, each with its slice of the cameras: one dies or hangs, and neither rows nor alerts are wrong."""

import signal

import psutil
import pytest
import ray

from actors import actor_monitor
from actors.cluster import NAMESPACE
from pipeline.runtime.slices import ScorerSlices
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts
from tests.alert_kinds import without_evidence
from tests.faults.live import LiveRun, live_config
from tests.rtsp import write_footage

pytestmark = pytest.mark.usefixtures("ray_session")
CAMERAS = ("a", "c", "g", "yard", "b", "f")  # two in each of three slices


@pytest.fixture(scope="module")
def live(ray_session, trained, tmp_path_factory):
    """Six cameras and three scorers; whatever the tests did to them, everything is exact in the end."""
    folder = tmp_path_factory.mktemp("scorers")
    video = write_footage(folder / "a.mp4")
    with EmbeddedRedis(folder / "redis") as redis_url:
        sections = {"cameras": [{"id": name, "url": str(video), "loop": True} for name in CAMERAS]}
        config = live_config({}, folder / "run", redis_url, **sections)
        runtime = config.runtime.model_copy(update={"scorers": 3, "cameras_per_process": 6})
        started = LiveRun(config.model_copy(update={"runtime": runtime}), trained.folder)
        started.wait_for_scores(*CAMERAS, longest_s=120.0)
        yield started
        final = started.end()
        alerts = list(read_alerts(redis_url))
    rows = read_clip_scores(started.folder / "scores")
    for camera in final.cameras:
        found = rows[camera.camera_id]
        assert camera.counts.in_flight == 0
        assert camera.counts.decoded == camera.counts.scored + sum(camera.counts.dropped.values())
        assert camera.counts.scored == found.index.size
        assert len(set(zip(found.session.tolist(), found.index.tolist(), strict=True))) == found.index.size
    assert len(final.cameras) == len(CAMERAS)
    assert (final.unwritten, final.alerts["waiting"]) == ((), 0)
    assert final.alerts["delivered"] == final.alerts["emitted"] == len(alerts)
    kinds = {}
    for alert in alerts:
        kinds.setdefault(alert["event_id"], []).append(alert["kind"])
    (of_run,) = [said for said in kinds.values() if said[0] == "run_started"]
    assert of_run == ["run_started", "run_ended"]
    assert alerts[-1]["kind"] == "run_ended"
    events = [without_evidence(said) for said in kinds.values() if said[0] == "new"]
    assert all(said == ["new", *["update"] * (len(said) - 2), "end"] for said in events)
    assert {alert["camera_id"] for alert in alerts} == {None, *CAMERAS}


def process_of(live, number):
    handle = ray.get_actor(live.plan.scorers[number], namespace=NAMESPACE)
    return psutil.Process(ray.get(handle.pid.remote(), timeout=60.0))


def slice_of(live, number):
    return [name for name in CAMERAS if ScorerSlices(live.plan.scorers).scorer_of(name) == live.plan.scorers[number]]


def scored(live, names):
    return {name: live.camera(name).counts.scored for name in names}


def test_a_scorer_that_is_killed_comes_back_with_its_own_cameras_and_no_camera_stops(live):
    before, sessions = scored(live, CAMERAS), {name: live.camera(name).session for name in CAMERAS}
    process_of(live, 1).kill()
    live.wait(lambda: any("scorer-1 died" in trouble for trouble in live.troubles), "its death is told")
    live.wait_for_scores(*CAMERAS)
    assert all(count > before[name] for name, count in scored(live, CAMERAS).items())
    assert {name: live.camera(name).session for name in CAMERAS} == sessions


def test_while_a_scorer_hangs_the_cameras_of_others_are_scored_and_then_its_own_again(live, monkeypatch):
    monkeypatch.setattr(actor_monitor, "_PATIENCE_S", 3600.0)  # it is not killed for it
    hanging, own = process_of(live, 2), slice_of(live, 2)
    others = [name for name in CAMERAS if name not in own]
    hanging.send_signal(signal.SIGSTOP)
    try:
        before = scored(live, CAMERAS)
        live.wait(
            lambda: all(scored(live, others)[name] > before[name] + 30 for name in others),
            "others are scored for longer than calls to it find room",
            120.0,
        )
    finally:
        hanging.send_signal(signal.SIGCONT)
    live.wait_for_scores(*CAMERAS)
