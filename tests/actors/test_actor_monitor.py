import os
import threading
import time

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from actors.actor_monitor import ActorMonitor, call_until_answered, cause_of, wait_for_start
from pipeline.errors import RunError

pytestmark = pytest.mark.usefixtures("ray_session")


class Answering:
    """An actor that hangs, for good, once it is told to."""

    def __init__(self):
        self.hanging = False

    def report(self):
        while self.hanging:
            time.sleep(1.0)
        return os.getpid()

    def hang(self):
        self.hanging = True

    def break_down(self):
        os._exit(1)


@pytest.fixture
def actor():
    made = []

    def create():
        made.append(ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=2)(Answering).remote())
        return made[-1]

    yield ActorMonitor(create)
    for handle in made:
        ray.kill(handle)


def follow(actor, condition):
    give_up_at = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < give_up_at
        ray.wait([actor.poll(time.monotonic())], timeout=0.1)
        actor.collect(time.monotonic())


def test_an_actor_that_has_not_answered_for_half_a_minute_is_killed_and_comes_back(actor):
    follow(actor, lambda: actor.alive)
    before, now = actor.report, time.monotonic()
    ray.get(actor.handle.hang.remote())
    actor.poll(now)
    actor.collect(now + 29.0)
    assert (actor.alive, actor.report) == (True, before)
    actor.collect(now + 31.0)
    assert (actor.alive, actor.report, actor.died_at) == (False, None, now + 31.0)
    follow(actor, lambda: actor.alive and actor.report != before)


def test_an_actor_that_died_is_known_to_be_dead_until_it_answers_again(actor):
    follow(actor, lambda: actor.alive)
    before = actor.report
    actor.handle.break_down.remote()
    follow(actor, lambda: not actor.alive)
    assert actor.report is None
    assert actor.died_at is not None
    follow(actor, lambda: actor.alive)
    assert actor.report != before
    assert actor.died_at is None


def test_an_actor_that_is_gone_for_good_is_created_anew(actor):
    follow(actor, lambda: actor.alive)
    before = actor.report
    ray.kill(actor.handle, no_restart=True)
    follow(actor, lambda: actor.alive and actor.report not in {None, before})


class Odd:
    """An actor that may not start, and whose files cannot be closed."""

    def __init__(self, how):
        self.asked = 0
        if how == "hangs":
            threading.Event().wait()
        if how == "fails":
            raise OSError("no such weights")

    def pid(self):
        return os.getpid()

    def close(self, within_s):
        self.asked += 1
        raise ValueError(f"no room at rtsp://viewer:hunter2@gate/main (asked {self.asked} times)")

    def hang(self, within_s):
        threading.Event().wait()

    def answer(self, within_s):
        return within_s


@pytest.fixture
def odd():
    made = []

    def create(how="works"):
        made.append(ray.remote(num_cpus=0, max_restarts=-1)(Odd).remote(how))
        return made[-1]

    yield create
    for handle in made:
        ray.kill(handle)


def test_whoever_does_not_start_is_named(odd):
    with pytest.raises(RunError, match=r"^eager did not start: OSError: no such weights$"):
        wait_for_start({odd("fails").pid.remote(): "eager"}, threading.Event(), 60.0)
    well = odd()
    assert ray.get(well.pid.remote(), timeout=60.0)
    with pytest.raises(RunError, match=r"^expected all actors to start within 1 s, got no answer from late$"):
        wait_for_start({well.pid.remote(): "well", odd("hangs").pid.remote(): "late"}, threading.Event(), 1.0)


def left_of(seconds):
    ends_at = time.monotonic() + seconds
    return lambda: max(ends_at - time.monotonic(), 0.0)


def test_an_actor_that_answers_with_an_error_is_not_asked_again(odd):
    with pytest.raises(RayTaskError) as caught:
        call_until_answered(odd().close.remote, left_of(60.0))
    assert cause_of(caught.value) == "no room at rtsp://***@gate/main (asked 1 times)"


def test_an_actor_that_is_restarting_is_asked_until_it_answers_or_time_is_over(odd):
    handle = odd()
    os.kill(ray.get(handle.pid.remote(), timeout=60.0), 9)
    assert 0.0 < call_until_answered(handle.answer.remote, left_of(60.0)) < 60.0
    with pytest.raises(GetTimeoutError):
        call_until_answered(handle.hang.remote, left_of(0.5))
