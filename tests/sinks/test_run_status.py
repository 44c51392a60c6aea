"""Whether a run lives, as Redis tells anybody: renewed every second, and known to be over or lost."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import RedisError
from pipeline.sinks.redis_reader import read_statuses
from pipeline.sinks.run_status import RunStatusWriter, read_run
from pipeline.sinks.schema import ALIVE_FOR_S, ALIVE_KEY, RUN_KEY

CAMERAS = {"gate": {"state": "streaming", "decoded": 3}, "yard": {"state": "opening"}}


def until(condition, longest_s=10.0):
    give_up_at = time.monotonic() + longest_s
    while not (found := condition()):
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    return found


def state(url):
    run = read_run(url)
    return None if run is None else (run["state"], run["is_alive"])


def test_a_run_is_alive_from_its_start_and_its_cameras_are_replaced_all_at_once(server):
    assert read_run(server.url) is None
    with RunStatusWriter(server.url, "run-1") as told:
        until(lambda: state(server.url) == ("starting", True))
        told.write("running", {"scored": 2}, CAMERAS)
        until(lambda: read_statuses(server.url) == CAMERAS)
        told.write("running", {"scored": 3}, {"gate": {"state": "finished"}})
        until(lambda: read_statuses(server.url) == {"gate": {"state": "finished"}})
        run = until(lambda: (found := read_run(server.url)) and found["scored"] == 3 and found)
        assert (run["run"], run["pid"], run["is_alive"]) == ("run-1", os.getpid(), True)
        assert 0 <= run["silent_s"] < ALIVE_FOR_S
        told.write("ended", {"scored": 3}, {})
    assert state(server.url) == ("ended", False)
    assert read_statuses(server.url) == {}
    assert not server.client().exists(ALIVE_KEY)


def test_a_run_that_failed_says_why_without_credentials(server):
    with pytest.raises(RuntimeError), RunStatusWriter(server.url, "run-1") as told:
        told.write("running", {}, CAMERAS)
        raise RuntimeError("rtsp://viewer:hunter2@gate/main\nwent up in smoke")
    run = read_run(server.url)
    assert (run["state"], run["is_alive"]) == ("failed", False)
    assert run["reason"] == "rtsp://***@gate/main went up in smoke"
    assert read_statuses(server.url) == CAMERAS


def test_a_redis_that_goes_and_comes_back_empty_is_told_again(server):
    with RunStatusWriter(server.url, "run-1") as told:
        told.write("running", {"scored": 1}, CAMERAS)
        until(lambda: state(server.url) == ("running", True))
        server.kill()
        told.write("running", {"scored": 2}, CAMERAS)
        server.start()
        server.client().flushall()
        until(lambda: (run := read_run(server.url)) and run["scored"] == 2)
        told.write("ended", {"scored": 2}, CAMERAS)
    assert state(server.url) == ("ended", False)


KILLED = """
import sys, time
from pipeline.sinks.run_status import RunStatusWriter
with RunStatusWriter(sys.argv[1], "run-1") as told:
    told.write("running", {}, {})
    print("begun", flush=True)
    time.sleep(600)
"""


def test_a_run_that_is_killed_is_known_to_be_lost_within_seconds(server):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, server.url], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    until(lambda: state(server.url) == ("running", True))
    process.kill()
    process.wait(10.0)
    process.stdout.close()
    killed_at = time.monotonic()
    until(lambda: state(server.url) == ("running", False), ALIVE_FOR_S + 2.0)
    assert time.monotonic() - killed_at < ALIVE_FOR_S + 1.0
    assert read_run(server.url)["silent_s"] >= ALIVE_FOR_S - 1.5


@pytest.mark.parametrize("text", ["[]", "{}", "no json", json.dumps({"run": 1, "state": "x", "updated_at_s": 1})])
def test_what_is_not_ours_is_one_line(server, text):
    server.client().set(RUN_KEY, text)
    with pytest.raises(RedisError, match="cflow:run: expected a JSON object as docs/alerts"):
        read_run(server.url)
