"""Actors that live in the process of the test: called at once, killed and brought back by hand, never waited for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from pipeline.errors import BadInputError
from pipeline.models.source import ModelSource
from pipeline.runtime.messages import CameraReport, DetectorReport, ScorerReport
from pipeline.runtime.tally import DetectorLoad


@dataclass
class Answer:
    """What a call gave, or what it raised; ``come`` is set by hand where it is to stay away for a while."""

    value: Any = None
    error: Exception | None = None
    come: bool = True

    def has_arrived(self):
        return self.come

    def get(self, within_s=None):
        if not self.come:
            raise GetTimeoutError
        if self.error is not None:
            raise self.error
        return self.value


class Actor:
    """Follows its desired states, and has the face of ``actors.actor_monitor.ActorMonitor``.

    Attributes:
        calls: what was called, with its arguments.
        refuses: by method, what it raises, every time.
        is_slow: whether calls stay unanswered, and without effect, until ``catch_up``.
    """

    def __init__(self):
        self.report, self.died_at = None, None
        self.calls, self.refuses, self.is_slow = [], {}, False
        self.failure = ""
        self.version = 0
        self.is_killed = False
        self._is_dead = False
        self._late = []

    def call(self, method, *arguments):
        if self._is_dead:
            return Answer(error=ActorDiedError())
        self.calls.append((method, *arguments))
        answer = Answer(come=False)
        self._late.append((answer, method, arguments))
        if not self.is_slow:
            self.catch_up()
        return answer

    def catch_up(self):
        for answer, method, arguments in self._late:
            try:
                if method in self.refuses:
                    raise self.refuses[method]
                answer.value = getattr(self, method)(*arguments)
            except Exception as error:
                answer.error = RayTaskError(method, "", error)
            answer.come = True
        self._late = []

    def called(self, method):
        """Arguments of every call of a method."""
        return [arguments for name, *arguments in self.calls if name == method]

    def call_until_answered(self, method, left_s):
        return self.call(method, left_s()).get()

    def collect(self, now):
        self.report = None if self._is_dead else self.stands()
        self.died_at = (self.died_at or now) if self._is_dead else None

    def die(self):
        """What it knew is gone."""
        self._is_dead, self.version = True, 0

    def come_back(self):
        self._is_dead = False

    def kill(self):
        self.die()
        self.is_killed = True

    def configure(self, desired):
        self.desired, self.version = desired, desired.version


class CameraProcess(Actor):
    """Says of its cameras what the test sets in ``readers``."""

    def __init__(self):
        super().__init__()
        self.readers, self.troubles = {}, ()

    def stands(self):
        return CameraReport(self.version, dict(self.readers), tuple(self.troubles))

    def stop(self):
        pass

    abandon = close = stop


class Detector(Actor):
    load, node = DetectorLoad(), ""

    def stands(self):
        return DetectorReport(self.version, {}, "as it stands", self.load, self.node)


class Scorer(Actor):
    """Says of cameras what the test sets in ``cameras``, and keeps the notices that it gets."""

    def __init__(self):
        super().__init__()
        self.cameras, self.troubles, self.notices, self.finished, self.storage = {}, (), {}, [], ""

    def stands(self):
        newest, troubles = max(self.notices, default=0), tuple(self.troubles)
        return ScorerReport(self.version, newest, dict(self.cameras), troubles, storage=self.storage)

    def notify(self, notices):
        self.notices |= dict(notices)

    def finish(self, camera_ids):
        self.finished += camera_ids

    def maintain(self, storage_elsewhere=""):
        pass

    def close(self, within_s, failure=""):
        return [], {"emitted": 1}


class Models:
    """Which model detectors get, as ``actors.served_models.ServedModels`` says."""

    def __init__(self):
        self.first, self.no_room = ModelSource("a" * 64, "/models/first"), False

    def offered(self, source):
        return source

    def folder(self, source):
        return Path(source.place)


class Fleet:
    """Makes such actors, as ``actors.fleet.Fleet`` makes real ones."""

    def __init__(self, run, *, active=1, spare=0, max_active=1, nodes=(), scorers=1):
        self.active, self.max_active = active, max(active, max_active)
        self.nodes, self.homes = nodes, {}
        self.scorers = tuple(f"{run}-scorer-{number}" for number in range(scorers))
        self.detectors = tuple(f"{run}-detector-{number}" for number in range(active + spare))
        self.made = {}
        self.dead = []
        self.models = Models()

    def scorer(self, number):
        return self._make(self.scorers[number], Scorer())

    def look_at_nodes(self):
        return self.nodes

    def spread_over(self):
        return [node.id for node in self.nodes]

    def place_detector(self, name, node):
        self.homes[name] = node

    def room_for_detectors(self):
        return self.max_active

    def check_room_beside(self, count, leaving):
        if self.models.no_room:
            raise BadInputError("expected room")

    def camera_process(self, name, node):
        self.homes[name] = node
        return self._make(name, CameraProcess())

    def detector(self, name):
        return self._make(name, Detector())

    def wait_for_start(self, actors, stop, within_s):
        self.started = list(actors)

    def poll(self, actors, within_s):
        pass

    def close(self):
        pass

    def dead_processes(self):
        return self.dead

    def _make(self, name, actor):
        return self.made.setdefault(name, actor)
