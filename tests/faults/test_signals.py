"""The command as its user starts it: SIGHUP reloads the cameras, signals end it in time, other terminals reach it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.models.card import read_card
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts
from tests.faults.live import QUICK, actors_of
from tests.models_for_tests import TINY
from tests.rtsp import RtspServer, require_rtsp, write_footage

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / "run_cluster.py")]
SECRET = "hunter2secret"


@pytest.fixture
def cameras(tmp_path):
    require_rtsp()
    video = write_footage(tmp_path / "a.mp4")
    with RtspServer(dict.fromkeys(("gate", "yard"), video)) as server:
        yield server


def other(*words, config):
    """Another terminal."""
    return subprocess.run(
        [*COMMAND, *words, "--config", str(config)], capture_output=True, text=True, check=False, timeout=60.0
    )


def until(condition, what, longest_s=120.0):
    give_up_at = time.monotonic() + longest_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {longest_s:g} s: {what}"
        time.sleep(0.2)


def terminate(running):
    running.send_signal(signal.SIGTERM)


def press_ctrl_c(running):
    """What a terminal does: every process of the group is told."""
    os.killpg(running.pid, signal.SIGINT)


def begin(config, model_folder, log):
    command = [*COMMAND, "stream", "--config", str(config), "--model", str(model_folder)]
    with log.open("w") as err:
        return subprocess.Popen(command, stdout=err, stderr=err, start_new_session=True)


def test_a_running_stream_takes_over_edited_cameras_answers_other_terminals_and_ends_in_time(
    trained, cameras, tmp_path
):
    config, log = tmp_path / "cameras.yaml", tmp_path / "stderr.txt"
    gate = {"id": "gate", "url": cameras.url("gate", credentials=f"viewer:{SECRET}"), "scene": "plaza"}
    yard = {"id": "yard", "url": cameras.url("yard"), "scene": "road"}
    sections = {**TINY, "camera_defaults": QUICK, "output": {"folder": str(tmp_path / "run")}}

    def write(*listed):
        config.write_text(yaml.safe_dump({**sections, "cameras": list(listed)}))

    def scored(*camera_ids):
        shown = other("status", "--json", config=config)
        assert SECRET not in shown.stdout + shown.stderr
        statuses = [json.loads(line) for line in shown.stdout.splitlines()][1:]  # the first is the run's
        counts = {status["camera_id"]: status["scored"] for status in statuses}
        return set(counts) == set(camera_ids) and all(counts.values())

    write(gate)
    running = begin(config, trained.folder, log)
    try:
        until(lambda: scored("gate"), "the first camera is scored")
        write(gate, yard)
        running.send_signal(signal.SIGHUP)
        until(lambda: "camera yard: added" in log.read_text(), "the new camera is taken over")
        until(lambda: scored("gate", "yard"), "both are scored")
        until(lambda: "dismiss yard-" in log.read_text(), "alerts of the new camera are shown, too")
        config.write_text("cameras: [{id: gate, colour: red}]")
        running.send_signal(signal.SIGHUP)
        until(lambda: "not reloaded" in log.read_text(), "a faulty file is refused")
        write(gate, yard)
        listed = other("cameras", "list", config=config)
        assert SECRET not in listed.stdout
        assert [line.split()[0] for line in listed.stdout.splitlines()] == ["gate", "yard"]
        assert other("cameras", "remove", "yard", config=config).stdout.strip() == "camera yard: removed"
        until(lambda: scored("gate"), "one is left")
        refused = other("cameras", "remove", "yard", config=config)
        assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
        asked_at = time.monotonic()
        terminate(running)
        assert running.wait(30.0) == 0
        assert time.monotonic() - asked_at < 20.0
    finally:
        running.kill()
    said = log.read_text()
    assert SECRET not in said
    assert "Traceback" not in said
    rows = read_clip_scores(tmp_path / "run" / "scores")
    assert set(rows) == {"gate", "yard"}
    assert not list((tmp_path / "run").glob(".*staging/*"))


@pytest.mark.parametrize(("hung", "stop"), [("ScorerActor", terminate), (None, press_ctrl_c)])
def test_a_stream_ends_in_time_with_nothing_left_behind_though_its_scorer_hangs(trained, cameras, tmp_path, hung, stop):
    config, log = tmp_path / "cameras.yaml", tmp_path / "stderr.txt"
    listed = [{"id": "gate", "url": cameras.url("gate"), "scene": "plaza"}]
    sections = {"camera_defaults": QUICK, "output": {"folder": str(tmp_path / "run")}, "cameras": listed}
    config.write_text(yaml.safe_dump({**TINY, **sections}))
    running = begin(config, trained.folder, log)
    try:
        until(lambda: "dismiss gate-" in log.read_text(), "the camera is scored")
        everyone = psutil.Process(running.pid).children(recursive=True)
        if hung is not None:
            (hanging,) = actors_of(psutil.Process(running.pid), hung)
            hanging.suspend()
        asked_at = time.monotonic()
        stop(running)
        assert running.wait(30.0) == 0
        assert time.monotonic() - asked_at < 20.0
        until(lambda: not any(is_running(process) for process in everyone), "no process is left", 60.0)
    finally:
        running.kill()
    said = log.read_text()
    assert ("scorer-0 did not come back in time" in said) == (hung is not None)
    assert "Traceback" not in said


def test_a_second_ctrl_c_ends_a_stream_at_once_and_it_says_that_it_was_interrupted(
    trained, cameras, redis_url, tmp_path
):
    config, log = tmp_path / "cameras.yaml", tmp_path / "stderr.txt"
    listed = [{"id": "gate", "url": cameras.url("gate"), "scene": "plaza"}]
    sections = {"camera_defaults": QUICK, "output": {"folder": str(tmp_path / "run")}, "redis": {"url": redis_url}}
    config.write_text(yaml.safe_dump({**TINY, **sections, "cameras": listed}))
    running = begin(config, trained.folder, log)
    try:
        until(lambda: "dismiss gate-" in log.read_text(), "the camera is scored")
        everyone = psutil.Process(running.pid).children(recursive=True)
        for detector in actors_of(psutil.Process(running.pid), "DetectorActor"):
            detector.suspend()  # its frames keep the run from ending
        press_ctrl_c(running)
        until(lambda: "stopping: " in log.read_text(), "the first one is heard")
        asked_at = time.monotonic()
        press_ctrl_c(running)
        assert running.wait(30.0) != 0
        assert time.monotonic() - asked_at < 15.0
        until(lambda: not any(is_running(process) for process in everyone), "no process is left", 60.0)
    finally:
        running.kill()
    found = other("status", config=config)
    assert (found.returncode, "failed" in found.stdout, "it was interrupted" in found.stdout) == (1, True, True)
    told = [alert for alert in read_alerts(redis_url) if alert["kind"].startswith("run_")]
    assert [alert["kind"] for alert in told] == ["run_started", "run_lost"]
    assert told[1]["reason"] == "the run failed: it was interrupted"


def test_a_training_that_is_process_1_ends_on_sigterm_and_the_same_command_goes_on(trained, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may make a process number 1")
    config, log = tmp_path / "c.yaml", tmp_path / "stderr.txt"
    config.write_text(yaml.safe_dump({**TINY, "training": {**TINY["training"], "epochs": 1_000_000}}))
    words = ["train", "--config", str(config), "--data", str(trained.dataset.root), "--out", str(tmp_path / "model")]
    with log.open("w") as err:
        running = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *COMMAND, *words], stderr=err)
    try:
        until(lambda: "flows: " in log.read_text() or running.poll() is not None, "it is fitted")
        if "unshare failed" in log.read_text():
            pytest.skip(f"this machine lets nobody make a process number 1: {log.read_text()}")
        (first,) = psutil.Process(running.pid).children()
        first.terminate()
        assert running.wait(60.0) == 128 + signal.SIGTERM
    finally:
        running.kill()
    assert "interrupted after" in log.read_text().splitlines()[-1]
    assert "the same command goes on from there" in log.read_text().splitlines()[-1]
    assert not read_card(tmp_path / "model").provenance.completed
    assert (tmp_path / "model.training" / "state.safetensors").exists()


def is_running(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
