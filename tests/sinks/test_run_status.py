"""Whether a run lives, as Redis tells anybody: renewed every second, and known to be over or lost."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import RedisError, RunError, StoppedError
from pipeline.sinks import run_status
from pipeline.sinks.redis_reader import read_statuses
from pipeline.sinks.run_status import RunStatusWriter, living_run, read_run
from pipeline.sinks.schema import ALIVE_FOR_S, ALIVE_KEY, CAMERAS_KEY, RUN_KEY

CAMERAS = {"gate": {"state": "streaming", "decoded": 3}, "yard": {"state": "opening"}}


def until(condition, longest_s=60.0):
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
    with pytest.raises(RunError), RunStatusWriter(server.url, "run-1") as told:
        told.write("running", {}, CAMERAS)
        raise RunError("rtsp://viewer:hunter2@gate/main\nwent up in smoke")
    run = read_run(server.url)
    assert (run["state"], run["is_alive"]) == ("failed", False)
    assert run["reason"] == "rtsp://***@gate/main went up in smoke"
    assert read_statuses(server.url) == CAMERAS


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (KeyboardInterrupt(), "failed", "it was interrupted"),
        (SystemExit(1), "failed", "SystemExit: 1"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
        (
            OSError(28, "No space left on device", "/run"),
            "failed",
            "OSError: [Errno 28] No space left on device: '/run'",
        ),
        (ValueError("redis://:hunter2@box/0\nis odd"), "failed", "ValueError: redis://***@box/0 is odd"),
        (StoppedError("stopped; nothing was scored"), "ended", "stopped; nothing was scored"),
        (None, "ended", ""),
    ],
)
def test_however_a_run_is_left_its_status_says_how_it_ended_and_why(server, error, state, reason):
    with contextlib.suppress(BaseException), RunStatusWriter(server.url, "run-1"):
        if error is not None:
            raise error
    run = read_run(server.url)
    assert (run["state"], run["reason"], run["is_alive"]) == (state, reason, False)


def test_a_run_begins_without_the_cameras_of_the_one_before_it(server):
    server.client().hset(CAMERAS_KEY, "yard", '{"camera_id": "yard", "state": "streaming"}')
    with RunStatusWriter(server.url, "run-2"):
        until(lambda: state(server.url) == ("starting", True))
        assert read_statuses(server.url) == {}


def test_the_last_status_is_written_at_once(server, monkeypatch):
    monkeypatch.setattr(run_status, "_RENEW_EVERY_S", 3600.0)
    with RunStatusWriter(server.url, "run-1") as told:
        until(lambda: state(server.url) == ("starting", True))
        told.write("running", {"scored": 2}, {})
        told.write("ended", {"scored": 3}, {})
        until(lambda: state(server.url) == ("ended", False))  # the next renewal is an hour off


PASSWORD = "hunter2secret"


def test_a_redis_that_refuses_the_status_alone_is_reported_and_so_is_that_the_end_was_not_written(server, caplog):
    may = ("+ping", "+client", "+multi", "+exec", "+set", "+del", "+xadd")
    server.client().execute_command("ACL", "SETUSER", "run", "on", f">{PASSWORD}", "~cflow:*", *may)
    with RunStatusWriter(server.url.replace("unix://", f"unix://run:{PASSWORD}@"), "run-1") as told:
        until(lambda: state(server.url) == ("starting", True))
        assert told.trouble is None
        told.write("running", {}, CAMERAS)
        trouble = until(lambda: told.trouble)
        assert "how the run stands is not written, and it looks dead: Redis refuses" in trouble
        assert "'hset'" in trouble
        server.client().execute_command("ACL", "SETUSER", "run", "+hset")
        until(lambda: told.trouble is None)
        assert read_statuses(server.url) == CAMERAS
        assert caplog.messages == []
        server.client().execute_command("ACL", "SETUSER", "run", "-hset")
        told.write("ended", {}, CAMERAS)
    (line,) = caplog.messages
    assert "how the run ended was not written" in line
    assert PASSWORD not in line + trouble


class EndsMeanwhile:
    """In front of a server: before it hears a reader ask whether the run lives, the run ends in good order."""

    def __init__(self, server):
        self.server = server
        self.ended = False
        self.path = server.sockets / "between.sock"
        self.url = f"unix://{self.path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        reader, _ = self._listener.accept()
        with reader, socket.socket(socket.AF_UNIX) as behind:
            behind.connect(self.server.url.removeprefix("unix://"))
            threading.Thread(target=self._pass_on, args=(behind, reader), daemon=True).start()
            while asked := reader.recv(65536):
                if b"PTTL" in asked:
                    with RunStatusWriter(self.server.url, "run-1"):
                        pass
                    self.ended = True
                behind.sendall(asked)

    def _pass_on(self, source, sink):
        with contextlib.suppress(OSError):
            while answer := source.recv(65536):
                sink.sendall(answer)


def test_a_run_that_ends_well_while_somebody_looks_is_not_taken_for_lost(server):
    with RunStatusWriter(server.url, "run-1"):
        until(lambda: state(server.url) == ("starting", True))
        between = EndsMeanwhile(server)
        run = read_run(between.url)
        assert between.ended
        assert (run["state"], run["is_alive"]) in {("starting", True), ("ended", False)}


def test_a_run_that_lives_is_named_to_whoever_would_begin_another_and_one_that_ended_is_not(server):
    assert living_run(server.url) is None
    with RunStatusWriter(server.url, "run-1\x1b[2J"):
        until(lambda: state(server.url) == ("starting", True))
        line = living_run(server.url)
    assert "expected no other run in this Redis, but 'run-1\\x1b[2J' on" in line
    assert line.isprintable()
    assert living_run(server.url) is None


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
    assert server.client().pttl(ALIVE_KEY) <= 1000 * ALIVE_FOR_S  # Redis keeps the time
    until(lambda: state(server.url) == ("running", False))
    assert read_run(server.url)["silent_s"] >= ALIVE_FOR_S - 1.5


@pytest.mark.parametrize("text", ["[]", "{}", "no json", json.dumps({"run": 1, "state": "x", "updated_at_s": 1})])
def test_what_is_not_ours_is_one_line(server, text):
    server.client().set(RUN_KEY, text)
    with pytest.raises(RedisError, match="cflow:run: expected a JSON object as docs/alerts"):
        read_run(server.url)
