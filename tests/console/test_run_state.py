"""Whether a run lives, in words."""

import pytest

from pipeline.console.run_state import RunNews, is_well, run_line, trouble_lines
from pipeline.errors import RedisError
from pipeline.sinks.schema import ALIVE_FOR_S


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
    assert is_well(found) == well
    assert words in run_line(found)


def test_troubles_are_shown_in_lines_that_no_terminal_obeys():
    found = run(troubles=["disk\x1b[2J full", 3], faults=["Redis: 2 alerts were not delivered"])
    assert trouble_lines(found) == ["disk\\x1b[2J full", "3", "Redis: 2 alerts were not delivered"]
    assert trouble_lines(run(troubles="none")) == []
    assert trouble_lines(None) == []


def test_whoever_follows_is_told_once_that_a_run_was_lost_and_that_another_began():
    news = RunNews()
    said = [news.seen(found) for found in [None, run(), run(), run(is_alive=False), run(is_alive=False), run()]]
    assert said[:3] == [None, None, None]
    assert "LOST" in said[3]
    assert said[4] is None
    assert "running" in said[5]
    assert "ended" in news.seen(run("ended", False))
    assert news.seen(run("ended", False)) is None


def test_whoever_comes_after_the_loss_is_told_of_it():
    assert "LOST" in RunNews().seen(run(is_alive=False))


def test_a_redis_that_stays_away_is_told_once_and_so_is_its_return():
    news = RunNews()
    assert news.seen(run()) is None
    error = RedisError("redis.url: nobody answers there")
    said = [news.unanswered(error) for _ in range(2 * ALIVE_FOR_S)]
    assert [line is not None for line in said] == [n == ALIVE_FOR_S - 1 for n in range(2 * ALIVE_FOR_S)]
    assert "no sign of life" in said[ALIVE_FOR_S - 1]
    assert "running" in news.seen(run())
