"""A run that was killed: everybody who looks is told so within seconds, and the next run says it for good."""

import json
import signal
import subprocess

import psutil
import pytest
import yaml

from pipeline.sinks.redis_reader import read_alerts, read_statuses
from pipeline.sinks.run_status import read_run
from tests.faults.live import QUICK, actors_of
from tests.faults.test_signals import COMMAND, begin, is_running, other, until
from tests.models_for_tests import TINY
from tests.rtsp import RtspServer, require_rtsp, write_footage

pytestmark = pytest.mark.ray


@pytest.fixture
def cameras(tmp_path):
    require_rtsp()
    with RtspServer({"gate": write_footage(tmp_path / "a.mp4")}) as server:
        yield server


@pytest.fixture
def config(cameras, redis_url, tmp_path):
    path = tmp_path / "cameras.yaml"
    listed = [{"id": "gate", "url": cameras.url("gate"), "scene": "plaza"}]
    sections = {"camera_defaults": QUICK, "output": {"folder": str(tmp_path / "run")}, "cameras": listed}
    path.write_text(yaml.safe_dump({**TINY, **sections, "redis": {"url": redis_url}}))
    return path


def process_of(command, program):
    """Of Ray's own processes, that of a run with this program."""
    return next(c for c in psutil.Process(command).children(recursive=True) if program in " ".join(c.cmdline()[:1]))


@pytest.mark.parametrize("killed", ["the command", "raylet/raylet", "gcs/gcs_server"])
def test_a_run_that_is_killed_is_lost_to_all_who_look_and_the_next_one_says_so(
    trained, config, redis_url, tmp_path, killed
):
    running = begin(config, trained.folder, tmp_path / "stderr.txt")
    follower = None
    try:
        until(lambda: "dismiss gate-" in (tmp_path / "stderr.txt").read_text(), "the camera is scored")
        until(lambda: read_run(redis_url)["state"] == "running", "the run is told to have started")  # once a second
        alive = other("status", config=config)
        assert alive.returncode == 0
        assert "running, last sign of life" in alive.stdout
        with (tmp_path / "follower.txt").open("w") as told:
            follow = [*COMMAND, "alerts", "--follow", "--config", str(config)]
            follower = subprocess.Popen(follow, stdout=subprocess.DEVNULL, stderr=told)
        until(lambda: "gate" in read_statuses(redis_url), "its camera has a status")
        everyone = psutil.Process(running.pid).children(recursive=True)
        if killed == "the command":
            running.send_signal(signal.SIGKILL)
        else:
            process_of(running.pid, killed).kill()
        until(lambda: not read_run(redis_url)["is_alive"], "its sign of life stops", 60.0)
        until(lambda: "run run-" in (tmp_path / "follower.txt").read_text(), "the follower is told", 30.0)
        dead = other("status", config=config)
        assert dead.returncode == 1
        assert ("LOST" if killed == "the command" else "failed") in dead.stdout, dead.stdout
        as_json = other("status", "--json", config=config)
        assert as_json.returncode == 1
        run, camera = map(json.loads, as_json.stdout.splitlines())
        assert (run["is_alive"], camera["camera_id"]) == (False, "gate")
        until(lambda: not any(is_running(process) for process in everyone), "no process is left", 30.0)
    finally:
        running.kill()
        if follower is not None:
            follower.kill()
            follower.wait(10.0)
    (begun,) = [alert for alert in read_alerts(redis_url) if alert["kind"] == "run_started"]
    again = subprocess.run(
        [*COMMAND, "stream", "--config", str(config), "--model", str(trained.folder), "--duration", "1"],
        capture_output=True, text=True, check=False, timeout=120.0,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    told = [alert for alert in read_alerts(redis_url) if alert["kind"].startswith("run_")]
    assert [alert["kind"] for alert in told] == ["run_started", "run_lost", "run_started", "run_ended"]
    assert told[1]["event_id"] == begun["event_id"]
    assert told[3]["event_id"] == told[2]["event_id"] != begun["event_id"]
    assert other("status", config=config).returncode == 0


def test_troubles_of_a_run_are_in_its_status_while_they_last(trained, config, redis_url, tmp_path):
    running = begin(config, trained.folder, tmp_path / "stderr.txt")
    try:
        until(lambda: "dismiss gate-" in (tmp_path / "stderr.txt").read_text(), "the camera is scored")
        (scorer,) = actors_of(psutil.Process(running.pid), "ScorerActor")
        raylet = process_of(running.pid, "raylet/raylet")  # would start it again before anybody has looked
        raylet.suspend()
        scorer.kill()
        until(
            lambda: any("scorer-0 died" in trouble for trouble in read_run(redis_url)["troubles"]), "it is told", 30.0
        )
        raylet.resume()
        until(lambda: not read_run(redis_url)["troubles"], "it is over", 60.0)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30.0) == 0
    finally:
        running.kill()
    assert (read_run(redis_url)["state"], read_run(redis_url)["is_alive"]) == ("ended", False)
