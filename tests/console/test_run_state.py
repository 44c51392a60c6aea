"""Whether a run lives, in words."""

import time

import pytest

from pipeline.console.run_state import RunWatcher, is_healthy, run_line, run_watched, trouble_lines
from pipeline.errors import RedisError
from pipeline.sinks.run_status import RunStatusWriter, read_run
from pipeline.sinks.schema import ALIVE_FOR_S
from tests.sinks.made import wait_until


def run(state="running", is_alive=True, silent_s=0.4, **more):
    return {"run": "run-1", "pid": 7, "host": "box", "state": state, "is_alive": is_alive, "silent_s": silent_s, **more}


@pytest.mark.parametrize(
    ("found", "well", "words"),
    [
        (run(), True, "run run-1 (process 7 on box): running, last sign of life 0.4 s ago"),
        (run("ended", False, 12.0, reason=""), True, "run run-1 (process 7 on box): ended 12.0 s ago"),
        (run("failed", False, 3.0, reason="no room"), False, "run run-1 (process 7 on box): failed 3.0 s ago: no room"),
        (run("running", False, 120.0), False, "LOST, last sign of life 120.0 s ago"),
        (run("starting", False, 120.0), False, "LOST"),
        (None, False, "none has written here"),
    ],
)
def test_a_run_is_alive_ended_failed_or_lost(found, well, words):
    assert is_healthy(found) == well
    assert words in run_line(found)


def test_troubles_are_shown_in_lines_that_no_terminal_obeys():
    found = run(troubles=["disk\x1b[2J full", 3], faults=["Redis: 2 alerts were not delivered"])
    assert trouble_lines(found) == ["disk\\x1b[2J full", "3", "Redis: 2 alerts were not delivered"]
    assert trouble_lines(run(troubles="none")) == []
    assert trouble_lines(None) == []


def test_whoever_follows_is_told_once_that_a_run_was_lost_and_that_another_began():
    watcher = RunWatcher()
    said = [watcher.seen(found, 0.0) for found in [None, run(), run(), run(is_alive=False), run(is_alive=False), run()]]
    assert said[:3] == [None, None, None]
    assert "LOST" in said[3]
    assert said[4] is None
    assert "running" in said[5]
    assert "ended" in watcher.seen(run("ended", False), 0.0)
    assert watcher.seen(run("ended", False), 0.0) is None


def test_whoever_comes_after_the_loss_is_told_of_it():
    assert "LOST" in RunWatcher().seen(run(is_alive=False), 0.0)


@pytest.mark.parametrize("call_takes_s", [1, 4])  # nobody answers there; it hangs
def test_a_redis_that_stays_away_is_told_once_within_seconds_and_so_is_its_return(call_takes_s):
    watcher = RunWatcher()
    assert watcher.seen(run(), 100.0) is None
    error = RedisError("redis.url: nobody answers there")
    times = [100.0 + call_takes_s * (n + 1) for n in range(12)]
    said = {now: line for now in times if (line := watcher.unanswered(error, now)) is not None}
    ((now, line),) = said.items()
    assert ALIVE_FOR_S <= now - 100.0 < ALIVE_FOR_S + call_takes_s
    assert f"run run-1: no sign of life for {now - 100.0:.0f} s: redis.url" in line
    assert "running" in watcher.seen(run(), 200.0)


def test_whoever_may_not_read_how_the_run_stands_is_told_so_once(server):
    server.client().execute_command("ACL", "SETUSER", "reader", "on", ">hunter2", "~cflow:alerts", "+@all")
    watcher, said = RunWatcher(), []
    for now in (1.0, 2.0):
        with pytest.raises(RedisError) as refused:
            read_run(server.url.replace("unix://", "unix://reader:hunter2@"))
        said.append(watcher.unanswered(refused.value, now))
    assert "how the run stands cannot be read, nor will its loss be noticed: redis.url: unix://***@" in said[0]
    assert said[1] is None


def test_whoever_follows_a_redis_that_hangs_is_told_within_ten_seconds(server):
    said = []
    with RunStatusWriter(server.url, "run-0"):
        pass
    with run_watched(server.url, said.append):
        wait_until(lambda: len(said) == 1)
        with RunStatusWriter(server.url, "run-1"):
            wait_until(lambda: len(said) == 2)
            server.freeze()
            frozen_at = time.monotonic()
            wait_until(lambda: len(said) == 3, 30.0)
            assert time.monotonic() - frozen_at < 25.0
            server.thaw()
    ended, begun, silent = said
    assert ("ended" in ended, "starting" in begun) == (True, True)
    assert "run run-1: no sign of life for" in silent
