"""Actors of a live run die, cameras come and go: scoring goes on and the frame counts stay exact."""

import json
import threading

import psutil
import pytest
import ray

from actors.cluster import NAMESPACE
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts, read_statuses
from tests.alert_kinds import checked_evidence, without_evidence
from tests.faults.live import LiveRun, actors_of, kill_actors, live_config
from tests.rtsp import RtspServer, require_rtsp, write_footage

pytestmark = pytest.mark.usefixtures("ray_session")
PASSWORD = "hunter2secret"


@pytest.fixture(scope="module")
def cameras(tmp_path_factory):
    require_rtsp()
    video = write_footage(tmp_path_factory.mktemp("footage") / "a.mp4")
    with RtspServer(dict.fromkeys(("gate", "yard", "door"), video)) as server:
        yield server


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def live(ray_session, trained, cameras, redis_url, tmp_path_factory):
    """Two cameras, each in a process of its own; whatever the tests did to them, the counts are exact in the end."""
    urls = {name: cameras.url(name, credentials=f"viewer:{PASSWORD}") for name in ("gate", "yard")}
    started = LiveRun(live_config(urls, tmp_path_factory.mktemp("live") / "run", redis_url), trained.folder)
    started.wait_for_scores("gate", "yard", longest_s=120.0)
    yield started
    final = started.end()
    rows = read_clip_scores(started.folder / "scores")
    for camera in final.cameras:
        found = rows[camera.camera_id]
        assert camera.counts.in_flight == 0
        assert camera.counts.scored == found.index.size
        assert len(set(zip(found.session.tolist(), found.index.tolist(), strict=True))) == found.index.size
    cameras = {"gate", "yard", "door", "film"}
    alerts = [a for a in read_alerts(redis_url) if a["camera_id"] in cameras or started.plan.name in a["event_id"]]
    assert final.alerts["delivered"] == final.alerts["emitted"] == len(alerts)
    _assert_each_once_and_in_order(alerts)
    assert checked_evidence(alerts, started.folder) > 0
    _assert_no_password(started.folder)


def _assert_each_once_and_in_order(alerts):
    events = {}
    for alert in alerts:
        events.setdefault(alert["event_id"], []).append(alert["kind"])
    for kinds in events.values():
        if kinds[0] == "run_started":
            assert kinds == ["run_started", "run_ended"]
        elif kinds[0] == "camera_offline":
            assert kinds in (["camera_offline", "camera_online"], ["camera_offline"] * 2)  # the second: removed, paused
        else:
            of_event = without_evidence(kinds)
            assert of_event == ["new", *["update"] * (len(of_event) - 2), "end"]


def _assert_no_password(folder):
    for path in folder.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path


def test_a_scorer_that_is_killed_comes_back_with_its_counts_and_open_events(live):
    before = {name: live.camera(name) for name in ("gate", "yard")}
    assert len(kill_actors("ScorerActor")) == 1
    live.wait_for_scores("gate", "yard")
    for name, then in before.items():
        now = live.camera(name)
        assert now.counts.scored > then.counts.scored
        assert now.scoring.events >= then.scoring.events
        assert now.session == then.session  # no camera stopped


def test_a_detector_that_is_killed_loses_what_it_held_counted_and_no_camera_stops(live):
    sessions = {name: live.camera(name).session for name in ("gate", "yard")}
    assert kill_actors("DetectorActor")
    live.wait(lambda: any("detector" in trouble for trouble in live.troubles), "the death is told")
    live.wait_for_scores("gate", "yard", longest_s=120.0)
    assert {name: live.camera(name).session for name in sessions} == sessions
    assert all(live.camera(name).counts.in_flight < 20 for name in sessions)


def test_cameras_of_a_process_that_is_killed_are_read_again_and_what_it_held_is_counted(live):
    before = {name: live.camera(name) for name in ("gate", "yard")}
    assert len(kill_actors("CameraActor")) == 2
    live.wait_for_scores("gate", "yard")
    for name, then in before.items():
        now = live.camera(name)
        assert now.session > then.session
        assert now.counts.decoded > then.counts.decoded


class KeptAway:
    """Kills every camera process but one, as soon as Ray has started it again, while the block lasts."""

    def __init__(self, survivor):
        self.survivor = survivor
        self.killed = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._kill, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(10.0)

    def _kill(self):
        command = psutil.Process()
        while not self._over.wait(0.02):
            for process in actors_of(command, "CameraActor"):
                if process.pid != self.survivor:
                    process.kill()
                    self.killed += 1


def test_cameras_of_a_process_that_stays_away_go_to_another_one_and_stay_there(live):
    processes = [ray.get_actor(f"{live.plan.name}-camera-{number}", namespace=NAMESPACE) for number in (0, 1)]
    survivor = ray.get(processes[0].pid.remote(), timeout=30.0)
    readers = [set(ray.get(process.report.remote(), timeout=30.0).readers) for process in processes]
    before = {name: live.camera(name) for name in ("gate", "yard")}
    (moved,), (stayed,) = readers[1], readers[0]
    with KeptAway(survivor) as away:
        live.wait(lambda: away.killed >= 2, "it was started again, and killed again")
        live.wait(lambda: live.camera(moved).session > before[moved].session, "its camera is read by another", 30.0)
        live.wait_for_scores(moved, stayed)
    assert live.camera(stayed).session == before[stayed].session  # untouched by all this
    assert set(ray.get(processes[0].report.remote(), timeout=30.0).readers) == {"gate", "yard"}
    session = live.camera(moved).session
    live.wait(lambda: not any("camera-1 died" in trouble.text for trouble in live.status.troubles), "it is back")
    live.wait_for_scores(moved, stayed)
    assert live.camera(moved).session == session
    assert ray.get(processes[1].report.remote(), timeout=30.0).readers == {}


def test_a_camera_is_added_paused_resumed_and_removed_while_the_others_go_on(live, cameras):
    live.ask(do="add", camera={"id": "door", "url": cameras.url("door"), "scene": "plaza"})
    live.wait_for_scores("door", "gate")
    live.ask(do="pause", id="door")
    live.wait(lambda: live.camera("door").state == "paused", "it is paused")
    scored = live.camera("door").counts.scored
    live.wait_for_scores("gate", "yard")
    assert live.camera("door").counts.scored <= scored + 5  # what was in flight
    live.ask(do="resume", id="door")
    live.wait_for_scores("door")
    live.ask(do="remove", id="door")
    live.wait(lambda: live.camera("door").state == "removed", "it is removed")
    live.wait(lambda: live.camera("door").counts.in_flight == 0, "nothing is in flight")
    live.wait_for_scores("gate", "yard")
    assert [camera["id"] for camera in live.ask(do="list")["cameras"]] == ["gate", "yard"]


def test_a_file_added_beside_live_cameras_is_read_at_its_own_speed(live, tmp_path):
    film = write_footage(tmp_path / "film.mp4", seconds=4.0)
    live.ask(do="add", camera={"id": "film", "url": str(film)})
    live.wait(lambda: any(c.camera_id == "film" and c.state == "finished" for c in live.status.cameras), "it ends")
    live.ask(do="remove", id="film")
    live.wait(lambda: live.camera("film").counts.in_flight == 0, "nothing is in flight")

    def captured_at_s():
        rows = read_clip_scores(live.folder / "scores").get("film")
        return () if rows is None else rows.captured_at_s

    live.wait(lambda: len(captured_at_s()) == live.camera("film").counts.scored, "its rows are on disk")
    assert captured_at_s()[-1] - captured_at_s()[0] > 3.0  # of 4 s; unpaced it takes a part of a second


def test_a_camera_that_goes_away_is_told_with_the_reason_and_so_is_its_return(live, cameras, redis_url):
    last = list(read_alerts(redis_url))[-1]["id"]

    def told(kind):
        return [a for a in read_alerts(redis_url, since=last) if a["kind"] == kind and a["camera_id"] == "gate"]

    cameras.command("stall", "gate")
    live.wait(lambda: bool(told("camera_offline")), "it is told that the camera is offline")
    live.wait(lambda: "offline" in live.camera("gate").conditions, "the status says so, too")
    (offline,) = told("camera_offline")
    assert "gate" in offline["reason"]
    assert "no frame for" in offline["reason"]
    assert PASSWORD not in json.dumps(offline)
    live.wait_for_scores("yard")
    cameras.command("resume", "gate")
    live.wait(lambda: bool(told("camera_online")), "it is told that it is back")
    (online,) = told("camera_online")
    assert (online["event_id"], online["since_at_s"]) == (offline["event_id"], offline["since_at_s"])
    live.wait_for_scores("gate")


def test_a_camera_that_is_removed_while_it_is_offline_ends_its_outage_with_that_reason(live, cameras, redis_url):
    last = list(read_alerts(redis_url))[-1]["id"]

    def told():
        notices = [alert for alert in read_alerts(redis_url, since=last) if alert["camera_id"] == "door"]
        return [notice for notice in notices if notice["kind"].startswith("camera_")]

    live.ask(do="add", camera={"id": "door", "url": cameras.url("door"), "scene": "plaza"})
    live.wait_for_scores("door")
    cameras.command("stall", "door")
    live.wait(lambda: bool(told()), "it is told that the camera is offline")
    live.ask(do="remove", id="door")
    live.wait(lambda: len(told()) == 2, "it is told that nobody watches it any more")
    cameras.command("resume", "door")
    live.wait(lambda: live.camera("door").counts.in_flight == 0, "nothing is in flight")
    live.wait_for_scores("gate", "yard")
    begun, over = told()
    assert (begun["kind"], over["kind"]) == ("camera_offline", "camera_offline")
    assert (begun["until_at_s"], over["reason"]) == (None, "the camera was removed")
    assert (over["event_id"], over["since_at_s"]) == (begun["event_id"], begun["since_at_s"])
    assert over["until_at_s"] > begun["since_at_s"]


def test_the_status_in_redis_holds_every_camera_without_credentials(live, redis_url):
    live.wait(lambda: set(read_statuses(redis_url)) == {"gate", "yard"}, "both are there")
    statuses = read_statuses(redis_url)
    assert PASSWORD not in json.dumps(statuses)
    for status in statuses.values():
        assert status["decoded"] >= status["scored"] + sum(status["dropped"].values())
