"""A run over several nodes, as they come, are drained and die: every camera is read, once, and the books are exact."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import ray

from actors import run as run_module
from actors.cluster import ray_cluster
from actors.cluster_nodes import living_nodes
from actors.supervisor import Supervisor
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts
from tests.alert_kinds import checked_evidence, without_evidence
from tests.cluster.nodes import ray_nodes
from tests.faults.live import LiveRun, live_config
from tests.models_for_tests import TINY
from tests.videos import write_video

pytestmark = [pytest.mark.ray, pytest.mark.server]

CAMERAS = tuple(f"cam{number}" for number in range(6))
PATIENCE_S = 120.0


class Watched(Supervisor):
    """Is found by the test, which looks at what was decided."""

    newest = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        Watched.newest = self


class Campus:
    """Nodes with temporary folders of their own, as machines have, and a run over them."""

    def __init__(self, nodes, folder):
        self._nodes, self._folder, self.ids = nodes, folder, {}

    def add(self, name):
        before = {node.id for node in living_nodes()}
        temporary = self._folder / name
        temporary.mkdir()
        self._nodes.add(name, cpus=2, TMPDIR=str(temporary))
        (self.ids[name],) = {node.id for node in living_nodes()} - before

    def kill(self, name):
        self._nodes.kill(name)

    def drain(self, name):
        command = [Path(sys.executable).with_name("ray"), "drain-node", "--address", self._nodes.address]
        command += ["--node-id", self.ids[name], "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message", "spot", "--deadline-remaining-seconds", "600"]
        subprocess.run(command, check=True, env=self._nodes.environment, capture_output=True, timeout=60.0)

    def stream(self, videos, folder, redis_url, model_folder):
        runtime = {**TINY["runtime"], "cameras_per_process": 2, "detectors": 2, "device": "cpu"}
        config = live_config(videos, folder, redis_url, runtime=runtime)
        looped = tuple(camera.model_copy(update={"loop": True}) for camera in config.cameras)
        self.live = LiveRun(config.model_copy(update={"cameras": looped}), model_folder)

    @property
    def desired_states(self):
        return Watched.newest._desired_states

    def cameras_on(self):
        """How many cameras are to be read on each node, by the name that it has here."""
        names = {node: name for name, node in self.ids.items()}
        placement = self.desired_states._placement
        homes = placement.processes
        return Counter(names[homes[p]] for c in CAMERAS if (p := placement.process(c)) is not None)

    def takes(self):
        """Which node's processes the detectors of each node take from."""
        names = {node: name for name, node in self.ids.items()}
        homes, newest = self.desired_states.processes, self.desired_states.newest
        reports = {name: actor.report for name, actor in Watched.newest._actors.detectors.items()}
        return {
            (names.get(reports[name].node), names[homes[process]])
            for name in self.desired_states.detectors
            if reports.get(name) is not None and name in newest
            for process in newest[name].processes
        }

    def wait(self, condition, what):
        self.live.wait(condition, what, PATIENCE_S)


@pytest.fixture(scope="module")
def campus(no_ray, tmp_path_factory, trained):
    """Six cameras over two nodes; whatever the tests do to these, the books are exact in the end."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("nodes")
    with ray_nodes(home) as nodes, pytest.MonkeyPatch.context() as patch, EmbeddedRedis(folder / "redis") as redis_url:
        for name in ("HOME", "RAY_AUTH_MODE"):
            patch.setenv(name, nodes.environment[name])
        patch.setattr(run_module, "Supervisor", Watched)
        nodes.start_head(labels="cflow/role=state")
        video = write_video(folder / "a.mp4", 50, size_px=(64, 96), fps=10)
        with ray_cluster(nodes.address):
            made = Campus(nodes, folder)
            made.add("a")
            made.add("b")
            made.stream(dict.fromkeys(CAMERAS, str(video)), folder / "run", redis_url, trained.folder)
            made.live.wait_for_scores(*CAMERAS, longest_s=PATIENCE_S)
            yield made
            final = made.live.end()
            _check_books(final, folder / "run", redis_url, made.live.plan.name)


def _check_books(final, folder, redis_url, run):
    rows = read_clip_scores(folder / "scores")
    assert {camera.camera_id for camera in final.cameras} == set(CAMERAS)
    for camera in final.cameras:
        found = rows[camera.camera_id]
        frames = set(zip(found.session.tolist(), found.index.tolist(), strict=True))
        assert camera.counts.in_flight == 0
        assert camera.counts.scored == found.index.size == len(frames), camera
    alerts = [alert for alert in read_alerts(redis_url) if alert["camera_id"] or run in alert["event_id"]]
    assert final.alerts["delivered"] == final.alerts["emitted"] == len(alerts)
    events = {}
    for alert in alerts:
        events.setdefault(alert["event_id"], []).append(alert["kind"])
    assert len(events) > len(CAMERAS)
    for kinds in events.values():
        pairs = (["run_started", "run_ended"], ["camera_offline", "camera_online"])
        of_event = without_evidence(kinds)
        assert kinds in pairs or of_event == ["new", *["update"] * (len(of_event) - 2), "end"]
    # Written on the nodes that read the cameras, and brought to that of the run's folder.
    assert checked_evidence(alerts, folder) > 0


def test_cameras_are_spread_and_each_process_is_taken_by_the_detector_on_its_node(campus):
    assert campus.cameras_on() == {"a": 3, "b": 3}
    campus.wait(lambda: campus.takes() == {("a", "a"), ("b", "b")}, "detectors take from their own nodes")
    campus.live.wait_for_scores(*CAMERAS)


def test_a_node_that_is_added_is_used(campus):
    campus.add("c")
    campus.wait(lambda: campus.cameras_on() == {"a": 2, "b": 2, "c": 2}, "the new node has its share")
    campus.live.wait_for_scores(*CAMERAS, longest_s=PATIENCE_S)
    assert all(camera.counts.dropped.get("camera_lost", 0) == 0 for camera in campus.live.status.cameras)
    assert all(camera.counts.dropped.get("detector_lost", 0) == 0 for camera in campus.live.status.cameras)


def test_a_node_that_is_drained_is_left_in_good_order_before_it_goes(campus):
    lost = {camera.camera_id: camera.counts.dropped.get("detector_lost", 0) for camera in campus.live.status.cameras}
    campus.drain("a")
    campus.wait(lambda: campus.cameras_on() == {"b": 3, "c": 3}, "its cameras are read elsewhere")
    campus.wait(lambda: "a" not in {detector for detector, _ in campus.takes()}, "its detector is another one's")
    campus.live.wait_for_scores(*CAMERAS, longest_s=PATIENCE_S)
    campus.kill("a")
    campus.live.wait_for_scores(*CAMERAS, longest_s=PATIENCE_S)
    for camera in campus.live.status.cameras:
        assert camera.counts.dropped.get("detector_lost", 0) == lost[camera.camera_id]


def test_a_node_that_is_killed_loses_no_camera(campus):
    campus.kill("b")
    campus.wait(lambda: campus.cameras_on() == {"c": 6}, "its cameras are read elsewhere")
    campus.live.wait_for_scores(*CAMERAS, longest_s=PATIENCE_S)
    gone = campus.ids["b"]
    assert gone not in campus.desired_states.processes.values()
    named = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
    assert set(campus.desired_states.processes) <= named
