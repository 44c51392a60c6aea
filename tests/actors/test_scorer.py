"""A scorer that is started anew: what it must know of cameras nobody told it of."""

import multiprocessing
import os
import signal
from dataclasses import replace
from fractions import Fraction

import pytest

from actors.plans import stream_plan
from actors.scorer import ScorerActor
from pipeline.models.card import read_card
from pipeline.runtime.messages import ScorerOrder
from pipeline.sinks.redis_reader import read_alerts
from pipeline.types import FrameHeader, Prediction
from tests.faults.live import live_config

ALARMING = 1e9


@pytest.fixture
def plan(trained, redis_url, tmp_path):
    config = live_config({"gate": "rtsp://10.0.0.1/x", "yard": "rtsp://10.0.0.2/x"}, tmp_path / "run", redis_url)
    return stream_plan(config, read_card(trained.folder), trained.folder, redis_url)


def predictions(camera_id, first, count):
    return [
        Prediction(FrameHeader(camera_id, 0, i, i, Fraction(1, 10), 1000.0 + i / 10, i), ALARMING)
        for i in range(first, first + count)
    ]


def killed(scorer):
    """What is left of a scorer that was killed is its store and its journal."""
    assert scorer._redis.flush()
    scorer._redis.close()
    scorer._store.close()
    scorer._parquet.close()


def kinds(redis_url, camera_id):
    return [alert["kind"] for alert in read_alerts(redis_url) if alert["camera_id"] == camera_id]


def test_a_scorer_killed_at_the_very_end_still_ends_the_events_that_were_open(plan, redis_url):
    scorer = ScorerActor(plan)
    scorer.configure(ScorerOrder(1, plan.cameras))
    assert scorer.add(predictions("gate", 0, 3))
    killed(scorer)
    assert kinds(redis_url, "gate") == ["new"]
    assert ScorerActor(plan).close()[0] == []  # nobody tells it of cameras any more
    assert kinds(redis_url, "gate") == ["new", "end"]


def test_frames_of_a_camera_removed_while_the_scorer_was_away_are_taken_and_hold_up_nobody(plan, redis_url):
    scorer = ScorerActor(plan)
    scorer.configure(ScorerOrder(1, plan.cameras))
    assert scorer.add(predictions("gate", 0, 3))
    killed(scorer)
    scorer = ScorerActor(plan)
    gate, yard = plan.cameras
    scorer.configure(ScorerOrder(2, (yard,), (gate,)))
    assert scorer._redis.flush()
    assert kinds(redis_url, "gate") == ["new", "end"]
    assert scorer.add([*predictions("gate", 3, 2), *predictions("yard", 0, 1)])
    assert {name: status.scored for name, status in scorer.report().cameras.items()} == {"yard": 1, "gate": 5}
    assert scorer.close()[0] == []
    assert kinds(redis_url, "gate") == ["new", "end", "new", "end"]


def test_a_camera_removed_long_ago_is_no_longer_told_of_holds_up_nobody_and_goes_on_in_its_books(plan, redis_url):
    gate, yard = plan.cameras
    scorer = ScorerActor(plan)
    scorer.configure(ScorerOrder(1, plan.cameras))
    assert scorer.add(predictions("gate", 0, 3))
    scorer.configure(ScorerOrder(2, (yard,)))
    assert set(scorer.report().cameras) == {"yard"}
    assert scorer.add([*predictions("gate", 3, 1), *predictions("yard", 0, 1)])  # of a detector that hung for long
    killed(scorer)
    scorer = ScorerActor(plan)
    assert not scorer.add(predictions("gate", 3, 1))  # nobody has told it yet who is who
    scorer.configure(ScorerOrder(2, (yard,)))
    assert scorer.add([*predictions("gate", 3, 1), *predictions("yard", 1, 1)])
    scorer.configure(ScorerOrder(3, (gate, yard)))
    assert scorer.add(predictions("gate", 4, 1))
    assert {name: status.scored for name, status in scorer.report().cameras.items()} == {"yard": 2, "gate": 4}
    assert scorer.close()[0] == []
    assert kinds(redis_url, "gate") == ["new", "end", "new", "end"]


def test_all_detectors_run_the_model_as_the_first_one_asked_to_also_after_the_scorer_died(plan):
    first = {"precision": "bfloat16", "compiled": True, "why": "measured"}
    scorer = ScorerActor(plan)
    assert scorer.agree(first) == first
    assert scorer.agree({**first, "precision": "float32"}) == first
    killed(scorer)
    scorer = ScorerActor(plan)
    assert scorer.agree({**first, "compiled": False}) == first
    scorer.close()
    other = ScorerActor(replace(plan, name="another-run"))  # decides for itself
    assert other.agree({**first, "precision": "float32"})["precision"] == "float32"
    other.close()


def close_and_die(plan, sink):
    """In a process of its own: it is killed where it would close one of its sinks."""
    scorer = ScorerActor(plan)
    getattr(scorer, sink).close = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    scorer.close()


@pytest.mark.parametrize("sink", ["_parquet", "_redis", "_store"])
@pytest.mark.parametrize("successor", ["the same run", "the next run"])
def test_a_scorer_killed_after_it_said_that_the_run_is_over_leaves_nothing_to_be_said_of_it(
    plan, redis_url, sink, successor
):
    dying = multiprocessing.get_context("spawn").Process(target=close_and_die, args=(plan, sink))
    dying.start()
    dying.join(60.0)
    assert dying.exitcode == -signal.SIGKILL
    after = plan if successor == "the same run" else replace(plan, name="next")
    assert ScorerActor(after).close()[0] == []
    told = [alert for alert in read_alerts(redis_url) if alert["kind"].startswith("run_")]
    runs = 1 if after is plan else 2
    assert [alert["kind"] for alert in told] == ["run_started", "run_ended"] * runs
    assert len({alert["event_id"] for alert in told}) == runs


def test_a_scorer_that_is_asked_to_close_once_more_says_no_second_time_that_the_run_is_over(plan, redis_url):
    scorer = ScorerActor(plan)
    assert scorer.close()[0] == []
    assert scorer.close(failure="the run failed: its terminal is gone")[0] == []
    assert [alert["kind"] for alert in read_alerts(redis_url)] == ["run_started", "run_ended"]
