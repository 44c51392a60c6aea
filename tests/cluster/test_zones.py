"""Cameras with zones over several nodes: what happens where nobody looks wakes nobody."""

import json
import time
from collections import defaultdict

import numpy as np
import pytest

from pipeline.config_file import parse_config
from pipeline.datasets.synthetic import SyntheticSpec, render
from pipeline.models.card import read_card
from pipeline.scoring.calibrations import Calibrations
from pipeline.scoring.run_footage import normal_footage
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.redis_reader import read_alerts, read_scores, read_statuses
from pipeline.training.train import train
from pipeline.video.source import open_source
from tests.cluster.nodes import ray_nodes
from tests.faults.live import LiveRun
from tests.models_for_tests import TINY, tiny_config
from tests.videos import write_video

pytestmark = [pytest.mark.ray, pytest.mark.server]

PATIENCE_S = 180.0
SIZE_PX = (64, 96)
LEFT = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
ALERTS = {"quantile": 0.95, "close_quantile": 0.9, "smoothing_s": 0.2, "open_frames": 3}


@pytest.fixture(scope="module")
def plaza(tmp_path_factory):
    """A model of a plaza, a recording of it in which nothing moves, and one in whose left half something does."""
    folder = tmp_path_factory.mktemp("plaza")
    spec = SyntheticSpec(cameras=1, size_px=SIZE_PX, train_clips=2, train_frames=120, test_clips=1, test_frames=20)
    dataset = render(folder / "footage", spec)
    train(tiny_config(), dataset, folder / "model")
    with open_source(dataset.train[0].url, SIZE_PX) as source:
        empty = next(iter(source)).image
    random, frames = np.random.default_rng(0), [empty.copy() for _ in range(60)]
    for number in range(25, 45):
        top, left = 12 + number % 3 * 6, 6 + number * 7 % 14
        frames[number][top : top + 24, left : left + 22] = random.integers(0, 255, (24, 22, 3))
    write_video(folder / "still.mp4", [empty] * 60, size_px=SIZE_PX, fps=10)
    write_video(folder / "left.mp4", frames, size_px=SIZE_PX, fps=10)
    return folder


@pytest.fixture
def cluster(no_ray, tmp_path, monkeypatch):
    """A head, where the state is, and another node."""
    home = tmp_path / "home"
    home.mkdir()
    with ray_nodes(home) as nodes, EmbeddedRedis(tmp_path / "redis") as redis_url:
        for name in ("HOME", "RAY_AUTH_MODE"):
            monkeypatch.setenv(name, nodes.environment[name])
        nodes.start_head(labels="cflow/role=state")
        nodes.add("a")
        yield nodes, redis_url


def camera(camera_id, plaza, *zones, video="left.mp4", **changes):
    given = {"id": camera_id, "url": str(plaza / video), "scene": "plaza", "zones": list(zones), "time_zone": "UTC"}
    return {**given, "alerts": ALERTS, **changes}


def elsewhen():
    """Hours that are not now, nor soon."""
    hour = time.gmtime().tm_hour
    return f"{(hour + 8) % 24:02}:00-{(hour + 9) % 24:02}:00"


def threshold(plaza, given):
    """What the model's stored maps make of a camera's zones, as any process would tell."""
    card = read_card(plaza / "model")
    (settings,) = parse_config({"cameras": [given]}).cameras
    made = Calibrations(normal_footage(card, plaza / "model", [settings])).by_zones(card, settings)
    return made[settings.zoning.at(time.time()).key].thresholds.opening


def test_what_happens_in_an_ignored_zone_alarms_nobody_and_in_a_watched_one_it_does(plaza, cluster, tmp_path):
    nodes, redis_url = cluster
    yard, tree = {"name": "yard", "watch": LEFT}, {"name": "tree", "ignore": LEFT}
    cameras = [
        camera("bare", plaza),
        camera("watched", plaza, yard),
        camera("ignored", plaza, tree),
        camera("asleep", plaza, {**yard, "active": [{"hours": elsewhen()}]}),
        camera("quiet", plaza, video="still.mp4", loop=True),  # the run goes on as long as this one does
    ]
    output, redis = {"folder": str(tmp_path / "run")}, {"url": redis_url}
    live = LiveRun(
        parse_config({**TINY, "cameras": cameras, "output": output, "redis": redis}),
        plaza / "model",
        address=nodes.address,
    )

    def ended(*camera_ids):
        found = {one.camera_id: one for one in live.status.cameras}
        return all(name in found and found[name].settled for name in camera_ids)

    live.wait(lambda: ended("bare", "watched", "ignored", "asleep"), "files are scored", PATIENCE_S)
    late = camera("late", plaza, {**yard, "sensitivity": 2})  # zones that nobody had when the run began
    assert live.ask(do="add", camera=late)["said"].startswith("camera late: added")
    live.wait(lambda: ended("late"), "what was added is scored", PATIENCE_S)
    statuses = read_statuses(redis_url)
    live.end()

    events = defaultdict(list)
    for alert in read_alerts(redis_url):
        if alert["kind"] == "end":
            events[alert["camera_id"]].append(alert)
    assert set(events) == {"bare", "watched", "late"}, json.dumps(events, indent=1)
    for camera_id, zone in (("watched", "yard"), ("late", "yard"), ("bare", None)):
        assert {event["zone"] for event in events[camera_id]} == {zone}
    assert all(event["region"]["right"] <= 0.55 for name in ("watched", "late") for event in events[name])
    assert [statuses[name]["armed"] for name in ("asleep", "watched", "bare")] == [False, True, True]
    for given in (cameras[1], cameras[2], cameras[3], late):
        scores = read_scores(redis_url, given["id"], count=100)
        assert len(scores) == 60
        assert {score["threshold"] for score in scores} == {threshold(plaza, given)}, given["id"]
    assert {score["suppressed"] for score in read_scores(redis_url, "asleep", count=100)} == {"", "not_armed"}
    assert len({threshold(plaza, given) for given in (cameras[1], cameras[2], late)}) == 3
