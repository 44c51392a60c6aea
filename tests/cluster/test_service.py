"""A service: a run that belongs to a cluster, whose head keeps what it knows in Redis, and to no command."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts, read_scores, read_statuses
from pipeline.sinks.run_status import read_run
from tests.cluster.nodes import FAST_HEALTH_CHECKS, ray_nodes
from tests.faults.live import QUICK
from tests.models_for_tests import TINY
from tests.sinks.made import Server
from tests.videos import write_video

pytestmark = [pytest.mark.ray, pytest.mark.server]

ROOT = Path(__file__).parents[2]
FRAMES = 40


@pytest.fixture(scope="module")
def nodes(tmp_path_factory, redis_program):
    """A head without a camera or a detector, a node for the state, and one for everything."""
    home = tmp_path_factory.mktemp("owner")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (home / "head").mkdir()
    kept = Server(home / "head", "--port", str(port), binary=redis_program)
    kept.start()
    variables = {**FAST_HEALTH_CHECKS, "RAY_REDIS_ADDRESS": f"127.0.0.1:{port}"}
    try:
        with ray_nodes(home, head_variables=variables) as running:
            running.start_head(cpus=0)
            running.add("state", cpus=1, labels="cflow/role=state")
            running.add("work", cpus=2)
            yield running
    finally:
        kept.remove()


class Service:
    """What its user types, on a machine that has the cluster's token and address."""

    def __init__(self, nodes, server, model, folder):
        self.nodes, self.redis_url, self.model, self.folder = nodes, server.url, model, folder
        self.clip = write_video(folder / "clip.mp4", FRAMES)

    def type(self, *words, address=True, **environment):
        command = [sys.executable, ROOT / "run_cluster.py", *map(str, words)]
        command += ["--address", self.nodes.address] if address else []
        environment = {**self.nodes.environment, **environment}
        return subprocess.run(
            command, check=False, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=240
        )

    def said(self, *words):
        done = self.type(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, **sections):
        cameras = [{"id": name, "url": str(self.clip), "loop": True} for name in ("a", "b")]
        output = {"folder": str(self.folder / "run"), "rotate_s": 2}
        settings = {**TINY, "camera_defaults": QUICK, "cameras": cameras, "output": output}
        settings |= {"redis": {"url": self.redis_url}, **sections}
        (self.folder / "c.yaml").write_text(json.dumps(settings))  # JSON is YAML
        return self.type("stream", "--config", "c.yaml", "--model", self.model, "--detach")

    def processes(self, kind):
        """Processes of a kind of actor, on all nodes."""
        found = []
        for node in self.nodes.nodes.values():
            for process in node.processes():
                try:
                    found += [process] if " ".join(process.cmdline()).startswith(f"ray::{kind}") else []
                except psutil.Error:
                    continue
        return found

    def wait_for_frames(self, *cameras):
        """Wait until some were scored that were captured from now on."""
        since_s = time.time()
        for camera in cameras:
            self.wait_for(lambda name=camera: read_scores(self.redis_url, name, 1)[0]["captured_at_s"] > since_s)

    def wait_for(self, condition, longest_s=120.0):
        give_up_at = time.monotonic() + longest_s
        while not condition():
            stands = read_run(self.redis_url), read_statuses(self.redis_url)
            assert time.monotonic() < give_up_at, f"it did not happen in time: {stands}"
            time.sleep(0.1)

    def wait_for_status(self, *words):
        """Wait until the command ``status`` prints them all."""
        self.wait_for(lambda: all(word in self.said("status") for word in words))

    def check_books(self, *cameras):
        """Every frame was scored once or is counted once, and every alert was told once."""
        run, statuses = read_run(self.redis_url), read_statuses(self.redis_url)
        assert (run["state"], statuses.keys()) == ("ended", set(cameras))
        rows = read_clip_scores(self.folder / "run" / "scores")
        for name, status in statuses.items():
            assert status["decoded"] == status["scored"] + sum(status["dropped"].values())
            frames = list(zip(rows[name].session.tolist(), rows[name].index.tolist(), strict=True))
            assert len(frames) == len(set(frames)) == status["scored"] > 0
            sent = [(score["session"], score["index"]) for score in read_scores(self.redis_url, name, 10_000)]
            assert sorted(sent) == sorted(frames)
        alerts = list(read_alerts(self.redis_url))
        assert run["alerts"]["delivered"] == run["alerts"]["emitted"] == len(alerts)
        told = Counter((alert["event_id"], alert["kind"], alert.get("peak_index")) for alert in alerts)
        assert Counter(alert["kind"] for alert in alerts if alert["camera_id"] is None) == {
            "run_started": 1,
            "run_ended": 1,
        }
        assert {kind for (_, kind, _), count in told.items() if count > 1} <= {"update", "evidence"}

    def check_nothing_is_left(self):
        for kind in ("ServiceActor", "ScorerActor", "CameraActor", "DetectorActor"):
            self.wait_for(lambda kind=kind: not self.processes(kind), 30.0)


@pytest.fixture
def service(nodes, server, trained, tmp_path):
    made = Service(nodes, server, trained.folder, tmp_path)
    yield made
    made.type("stop")  # where the test has failed before


def test_what_cannot_become_a_service_is_answered_in_a_line_and_leaves_nothing(service, tmp_path):
    refused = service.start(redis={"url": "embedded"})
    assert (refused.returncode, refused.stderr.count("error:")) == (2, 1)
    assert "redis.url: expected a Redis that others reach, got 'embedded'" in refused.stderr
    refused = service.start(redis={"url": "redis://:hunter2@127.0.0.1:1/0"})
    assert (refused.returncode, "hunter2" in refused.stderr) == (2, False)
    assert "error: redis.url: redis://***@127.0.0.1:1/0: " in refused.stderr
    service.check_nothing_is_left()
    nobody = service.type("stop")
    assert (nobody.returncode, nobody.stdout) == (2, "")
    assert nobody.stderr == f"error: --address {service.nodes.address}: expected a service, found none\n"
    stranger = service.type("status", HOME=str(tmp_path), RAY_AUTH_MODE="")
    assert (stranger.returncode, "the Ray cluster asks for a token: expected it in" in stranger.stderr) == (2, True)


def test_frames_are_scored_while_the_supervisor_hangs_and_one_that_was_killed_goes_on_with_exact_books(service):
    started = service.start(runtime={**TINY["runtime"], "spare_detectors": 0})
    assert started.returncode == 0, started.stderr
    assert f"stop: cflow-stream stop --address {service.nodes.address}" in started.stdout
    assert "camera once: added" in service.said("cameras", "add", "once", str(service.clip))
    assert "camera b: paused" in service.said("cameras", "pause", "b")
    (supervisor,) = service.processes("ServiceActor")
    actors = [process.pid for kind in ("ScorerActor", "CameraActor") for process in service.processes(kind)]
    os.kill(supervisor.pid, signal.SIGSTOP)
    service.wait_for_frames("a")
    supervisor.kill()
    shown = [json.loads(line) for line in service.said("cameras", "list", "--json").splitlines()]
    assert [(camera["id"], camera["paused"]) for camera in shown] == [("a", False), ("b", True), ("once", False)]
    (successor,) = service.processes("ServiceActor")
    assert successor.pid != supervisor.pid
    assert actors == [process.pid for kind in ("ScorerActor", "CameraActor") for process in service.processes(kind)]
    service.wait_for_frames("a")
    service.wait_for_status("once", "paused", "running")  # the successor says so once it has asked the scorer
    totals = service.said("stop")
    service.check_books("a", "b", "once")
    run = read_run(service.redis_url)
    assert totals.startswith(f"{run['decoded']:,} frames decoded, {run['scored']:,} scored, ")
    assert read_statuses(service.redis_url)["once"]["decoded"] == FRAMES
    service.check_nothing_is_left()
    assert not (service.folder / "run" / "supervision.json").exists()


def test_a_service_outlives_the_head_and_goes_on_when_the_machine_with_its_state_is_back(service):
    assert service.start(runtime=TINY["runtime"]).returncode == 0  # a spare detector is loading when the head dies
    service.wait_for_frames("a", "b")
    supervisor = service.processes("ServiceActor")[0].pid
    service.nodes.kill("head")
    service.wait_for_frames("a", "b")
    assert "expected a running Ray cluster, got nobody who listens" in service.type("stop").stderr
    service.nodes.start_head(cpus=0)
    assert "camera b: paused" in service.said("cameras", "pause", "b")
    assert [process.pid for process in service.processes("ServiceActor")] == [supervisor]
    service.nodes.kill("state")
    service.nodes.add("state", cpus=1, labels="cflow/role=state")
    assert "paused" in service.said("cameras", "list")
    service.wait_for_frames("a")
    service.said("stop")
    service.check_books("a", "b")
    service.check_nothing_is_left()
