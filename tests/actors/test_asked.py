import os
import time

import pytest
import ray

from actors import asked
from actors.asked import Asked

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

    yield Asked(create)
    for handle in made:
        ray.kill(handle)


def follow(actor, condition):
    give_up_at = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < give_up_at
        ray.wait([actor.ask(time.monotonic())], timeout=0.1)
        actor.absorb(time.monotonic())


def test_an_actor_that_no_longer_answers_is_killed_and_comes_back(actor, monkeypatch):
    follow(actor, lambda: actor.alive)
    before = actor.report
    monkeypatch.setattr(asked, "_PATIENCE_S", 1.0)
    ray.get(actor.handle.hang.remote())
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
