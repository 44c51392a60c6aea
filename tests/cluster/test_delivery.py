"""Alerts of a run over several nodes, to a broker that restarts and to people, from scorers that die: none is lost."""

import json
import os
import signal

import psutil
import pytest

from actors.cluster import ray_cluster
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.redis_reader import read_alerts
from pipeline.sinks.run_status import read_run
from tests.cluster.nodes import ray_nodes
from tests.faults.live import QUICK, LiveRun, actors_of, live_config
from tests.models_for_tests import TINY
from tests.sinks.broker import Listener, MqttBroker
from tests.sinks.made import wait_until
from tests.sinks.mail_server import MailServer
from tests.videos import write_video

pytestmark = [pytest.mark.ray, pytest.mark.server]

CAMERAS = tuple(f"cam{number}" for number in range(4))
PATIENCE_S = 120.0


@pytest.fixture
def broker(tmp_path):
    running = MqttBroker(tmp_path / "broker").start()
    yield running
    running.stop()


@pytest.fixture
def mail():
    running = MailServer().start()
    yield running
    running.stop()


@pytest.fixture
def run(no_ray, tmp_path, trained, broker, mail):
    """Four cameras over two nodes, and two scorers; gives the run, the address of its Redis and what ends it."""
    sinks = [
        {"kind": "mqtt", "url": broker.url, "retry_max_s": 0.5},
        {"kind": "apprise", "url": mail.url, "digest_s": 3600, "notices": False, "picture_wait_s": 0},
    ]
    with (
        ray_nodes(tmp_path) as nodes,
        pytest.MonkeyPatch.context() as patch,
        EmbeddedRedis(tmp_path / "redis") as redis_url,
    ):
        for name in ("HOME", "RAY_AUTH_MODE"):
            patch.setenv(name, nodes.environment[name])
        nodes.start_head(labels="cflow/role=state")
        video = write_video(tmp_path / "a.mp4", 50, size_px=(64, 96), fps=10)
        with ray_cluster(nodes.address):
            for name in ("a", "b"):
                (tmp_path / name).mkdir()
                nodes.add(name, cpus=2, TMPDIR=str(tmp_path / name))
            runtime = {**TINY["runtime"], "cameras_per_process": 2, "scorers": 2, "device": "cpu"}
            videos = dict.fromkeys(CAMERAS, str(video))
            defaults = {**QUICK, "alerts": {**QUICK["alerts"], "cooldown_s": 0}}
            sections = {"runtime": runtime, "sinks": sinks, "camera_defaults": defaults}
            config = live_config(videos, tmp_path / "run", redis_url, **sections)
            looped = tuple(camera.model_copy(update={"loop": True}) for camera in config.cameras)
            yield LiveRun(config.model_copy(update={"cameras": looped}), trained.folder), redis_url


def of_cameras(heard) -> dict[str, list[tuple]]:
    """By camera, each alert once, in the order in which they came first."""
    said: dict[str, dict[tuple, None]] = {}
    for topic, payload, _ in heard:
        if topic.startswith("cflow/alerts/"):
            alert = json.loads(payload)
            said.setdefault(alert["camera_id"], {})[alert["event_id"], alert["kind"], alert["emitted_at_s"]] = None
    return {camera_id: list(alerts) for camera_id, alerts in said.items()}


def test_every_alert_of_every_camera_is_published_in_order_and_people_are_told_once_and_then_in_a_digest(
    run, broker, mail
):
    live, redis_url = run
    before = Listener(broker)
    live.wait_for_scores(*CAMERAS, longest_s=PATIENCE_S)
    live.wait(lambda: set(of_cameras(before.heard)) == set(CAMERAS), "each has an event", PATIENCE_S)
    broker.stop(signal.SIGKILL)
    broker.rights.write_text("user cflow\ntopic read #\n")  # nothing is published before somebody listens again
    broker.start()
    after = Listener(broker)
    for scorer in actors_of(psutil.Process(), "ScorerActor"):
        os.kill(scorer.pid, signal.SIGKILL)
    broker.rights.write_text("user cflow\ntopic readwrite #\n")
    broker.reload()
    live.wait_for_scores(*CAMERAS, longest_s=PATIENCE_S)
    live.wait(lambda: set(of_cameras(after.heard)) == set(CAMERAS), "each is heard of again", PATIENCE_S)
    assert {after.last(f"cflow/scorer/{number}") for number in range(2)} == {"online"}
    live.end()
    wait_until(lambda: {after.last(f"cflow/scorer/{number}") for number in range(2)} == {"offline"})
    in_redis: dict[str, list[tuple]] = {}
    told, withheld = set(), set()
    for alert in read_alerts(redis_url):
        if alert["camera_id"] in CAMERAS:
            said = alert["event_id"], alert["kind"], alert["emitted_at_s"]
            in_redis.setdefault(alert["camera_id"], []).append(said)
            if "start_s" in alert:
                (withheld if alert["withheld"] else told).add(alert["event_id"])
    assert of_cameras([*before.heard, *after.heard]) == in_redis
    counts = read_run(redis_url)["alerts"]["sinks"]
    assert [(counts[name]["waiting"], counts[name]["dropped"]) for name in ("mqtt", "apprise")] == [(0, 0)] * 2
    assert counts["apprise"]["emitted"] == counts["apprise"]["delivered"] + counts["apprise"]["withheld"]
    digests = [subject for subject in mail.subjects() if " more event" in subject]
    assert sum(int(subject.split()[1]) for subject in digests) == len(withheld - told)
    assert {subject.partition(":")[0] for subject in mail.subjects()} == set(CAMERAS)
    before.close()
    after.close()
