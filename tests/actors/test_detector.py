"""A detector without a model: what it says to camera processes."""

import time
import uuid
from dataclasses import replace
from fractions import Fraction

import pytest
import ray

from actors.detector import DetectorActor, DetectorPlan
from pipeline.config import RuntimeSettings
from pipeline.models.source import ModelSource
from pipeline.runtime.messages import CameraRole, DesiredDetectorState
from pipeline.types import Dropped, FrameBatch, FrameHeader

pytestmark = pytest.mark.usefixtures("ray_session")


def without_model():
    return lambda batch, roles: []


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


def test_only_of_files_it_says_what_became_of_their_frames():
    """A live camera's frames are never redelivered, and a thousand cameras would be named with every request."""
    run = uuid.uuid4().hex
    made = []

    def actor(kind, name, *arguments):
        made.append(ray.remote(num_cpus=0, max_concurrency=4, name=f"{run}-{name}")(kind).remote(*arguments))
        return made[-1]

    cameras, scorer = (actor(kind, kind.__name__) for kind in peers())
    plan = DetectorPlan(
        f"{run}-detector",
        ModelSource("", "model"),
        "cpu",
        1,
        4,
        (f"{run}-Scorer",),
        RuntimeSettings(),
    )
    detector = actor(DetectorActor, "detector", replace(plan, load_stand_in=without_model))
    roles = {"clip": CameraRole("plaza", False, 2.0), "gate": CameraRole("plaza", True, 2.0)}
    try:
        ray.get(detector.configure.remote(DesiredDetectorState(1, (f"{run}-Cameras",), roles)), timeout=60.0)
        give_up_at = time.monotonic() + 60.0
        while not (confirmed := ray.get(cameras.asked.remote(), timeout=60.0)):
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
        assert confirmed == {"clip": 8}
        assert ray.get(scorer.taken.remote(), timeout=60.0) == [("clip", "stale"), ("gate", "stale")]
    finally:
        for handle in made:
            ray.kill(handle)
