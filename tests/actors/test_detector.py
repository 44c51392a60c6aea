"""A detector without Ray and without a model: what it tells camera processes."""

from fractions import Fraction
from pathlib import Path

from actors.detector import DetectorActor, DetectorPlan
from pipeline.config import RuntimeSettings
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.messages import CameraRole, DesiredDetectorState
from pipeline.types import Dropped, FrameHeader


class WithoutModel(DetectorActor):
    def _load(self, plan):
        return lambda batch, roles: []


def test_only_of_files_it_says_what_became_of_their_frames():
    """A live camera's frames are never redelivered, and a thousand cameras would be named with every request."""
    plan = DetectorPlan("detector", Path("model"), None, "cpu", 1, BatchPolicy(4, 0.0), "scorer", RuntimeSettings())
    detector = WithoutModel(plan)
    roles = {"clip": CameraRole("plaza", False, 2.0), "gate": CameraRole("plaza", True, 2.0)}
    detector.configure(DesiredDetectorState(1, (), roles))
    results = [Dropped(FrameHeader(name, 0, 7, 7, Fraction(1, 10), 0.0, 7), "stale") for name in roles]
    detector._on_confirmed(results)
    assert detector._confirmed == {"clip": 8}
