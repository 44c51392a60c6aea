"""A detector without a model: what it says to camera processes."""

import time
import uuid
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
import ray

from actors.detector import DetectorActor, DetectorPlan
from pipeline.config import RuntimeSettings
from pipeline.models.source import ModelSource
from pipeline.runtime.batching import LONGEST_WAIT_S
from pipeline.runtime.messages import CameraRole, DesiredDetectorState
from pipeline.types import Dropped, FrameBatch, FrameHeader, Prediction

pytestmark = pytest.mark.usefixtures("ray_session")


def without_model():
    return lambda batch, roles: [Prediction(header, -1.0) for header in batch.headers]


def peers():
    """Classes of their own here, so that Ray sends them by value."""

    class Cameras:
        """A camera process that dispatches two frames, both of them dropped, and keeps what it is asked."""

        def __init__(self):
            headers = [FrameHeader(name, 0, 7, 7, Fraction(1, 10), 0.0, 7) for name in ("clip", "gate")]
            self.batches = [FrameBatch.of([], [Dropped(header, "stale") for header in headers])]
            self.confirmed = {}

        def take(self, request):
            self.confirmed = request.confirmed
            return self.batches.pop() if self.batches else None

        def asked(self):
            return self.confirmed

    class Scorer:
        def __init__(self):
            self.results = []

        def add(self, results, model):
            self.results += [(result.header.camera_id, result.reason) for result in results]
            return True

        def taken(self):
            return self.results

    return Cameras, Scorer


def crowd():
    """Classes, as above: a camera process that always has two thousand frames, and a scorer that takes all."""

    class Cameras:
        def __init__(self):
            self.waits_s, self.serial = [], 0

        def take(self, request):
            self.waits_s.append(request.wait_s)
            first, self.serial = self.serial, self.serial + 2000
            headers = [FrameHeader("gate", 0, n, n, Fraction(1, 10), 0.0, n) for n in range(first, self.serial)]
            return FrameBatch.unpaired(tuple(headers), np.zeros((2000, 1, 1, 3), np.uint8))

        def asked(self):
            return self.waits_s

    class Scorer:
        def add(self, results, model):
            return True

    return Cameras, Scorer


@contextmanager
def detector_of(kinds, roles):
    """A detector that takes from a camera process of the first of these kinds; gives that and the scorer."""
    run, made = uuid.uuid4().hex, []

    def actor(kind, name, *arguments):
        made.append(ray.remote(num_cpus=0, max_concurrency=4, name=f"{run}-{name}")(kind).remote(*arguments))
        return made[-1]

    try:
        cameras, scorer = (actor(kind, kind.__name__) for kind in kinds)
        model, runtime = ModelSource("", "model"), RuntimeSettings()
        plan = DetectorPlan(f"{run}-detector", model, "cpu", 1, 4, (f"{run}-Scorer",), runtime, without_model)
        detector = actor(DetectorActor, "detector", plan)
        ray.get(detector.configure.remote(DesiredDetectorState(1, (f"{run}-Cameras",), roles)), timeout=60.0)
        yield cameras, scorer
    finally:
        for handle in made:
            ray.kill(handle)


def until(actor, holds):
    """What an actor was asked, once that holds of it."""
    give_up_at = time.monotonic() + 60.0
    while not holds(asked := ray.get(actor.asked.remote(), timeout=60.0)):
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    return asked


def test_only_of_files_it_says_what_became_of_their_frames():
    """A live camera's frames are never redelivered, and a thousand cameras would be named with every request."""
    roles = {"clip": CameraRole("plaza", False, 2.0), "gate": CameraRole("plaza", True, 2.0)}
    with detector_of(peers(), roles) as (cameras, scorer):
        assert until(cameras, bool) == {"clip": 8}
        assert ray.get(scorer.taken.remote(), timeout=60.0) == [("clip", "stale"), ("gate", "stale")]


def test_many_live_frames_may_wait_for_each_other_and_none_may_beside_a_file():
    roles = {"gate": CameraRole("plaza", True, 1e9)}
    with detector_of(crowd(), roles) as (cameras, _):
        asked = until(cameras, lambda waits_s: LONGEST_WAIT_S / 2 in waits_s)
        assert asked[0] == 0.0  # nothing had come yet
    with detector_of(crowd(), roles | {"clip": CameraRole("plaza", False, 2.0)}) as (cameras, _):
        assert not any(until(cameras, lambda waits_s: len(waits_s) >= 3))
