"""The command as its user starts it: SIGHUP reloads the cameras, SIGTERM ends it in time, other terminals reach it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline.sinks.parquet_reader import read_clip_scores
from tests.faults.live import QUICK
from tests.models_for_tests import TINY
from tests.rtsp import RtspServer, require_rtsp, write_footage

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


def test_a_running_stream_takes_over_edited_cameras_obeys_other_terminals_and_ends_in_time(trained, cameras, tmp_path):
    config, log = tmp_path / "cameras.yaml", tmp_path / "stderr.txt"
    gate = {"id": "gate", "url": cameras.url("gate", credentials=f"viewer:{SECRET}"), "scene": "plaza"}
    yard = {"id": "yard", "url": cameras.url("yard"), "scene": "road"}
    sections = {**TINY, "camera_defaults": QUICK, "output": {"folder": str(tmp_path / "run")}}

    def write(*listed):
        config.write_text(yaml.safe_dump({**sections, "cameras": list(listed)}))

    def scored(*camera_ids):
        shown = other("status", "--json", config=config)
        assert SECRET not in shown.stdout + shown.stderr
        counts = {(s := json.loads(line))["camera_id"]: s["scored"] for line in shown.stdout.splitlines()}
        return set(counts) == set(camera_ids) and all(counts.values())

    write(gate)
    with log.open("w") as err:
        running = subprocess.Popen(
            [*COMMAND, "stream", "--config", str(config), "--model", str(trained.folder)], stdout=err, stderr=err
        )
    try:
        until(lambda: scored("gate"), "the first camera is scored")
        write(gate, yard)
        running.send_signal(signal.SIGHUP)
        until(lambda: "camera yard: added" in log.read_text(), "the new camera is taken over")
        until(lambda: scored("gate", "yard"), "both are scored")
        until(lambda: " yard  yard-" in log.read_text(), "alerts of the new camera are shown, too")
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
        running.send_signal(signal.SIGTERM)
        assert running.wait(30.0) == 0
        assert time.monotonic() - asked_at < 10.0
    finally:
        running.kill()
    said = log.read_text()
    assert SECRET not in said
    assert "Traceback" not in said
    rows = read_clip_scores(tmp_path / "run" / "scores")
    assert set(rows) == {"gate", "yard"}
    assert not list((tmp_path / "run").glob(".*staging/*"))
