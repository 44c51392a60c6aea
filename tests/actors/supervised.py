"""A supervisor with actors of this process: no Ray, and no time but the test's."""

from dataclasses import replace
from pathlib import Path

from actors.supervisor import Supervisor
from pipeline.camera_settings import CameraSettings, HealthSettings
from pipeline.config import RuntimeSettings
from pipeline.models.source import ModelSource
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.status import ReaderStatus, ScoringStatus
from tests.actors.in_process import Fleet
from tests.models.tiny import tiny_model

READER = ReaderStatus("streaming", True, "b", 0, 10, 10, {}, 0, "", 100.0, frozenset())
ENDED = replace(READER, state="finished", live=False, last_frame_at_s=None)
SCORING = ScoringStatus(10, {}, 0, None, None, None, None, 1.0)
CARD = tiny_model()[0].model_copy(update={"fingerprint": "a" * 64})
SCORER, CAMERAS, DETECTOR = "run-scorer-0", "run-camera-0", "run-detector-0"


def camera(camera_id):
    return CameraSettings(id=camera_id, url="rtsp://10.0.0.1/x", health=HealthSettings(offline_s=5.0))


class Run:
    """A supervisor and its actors; a step takes a quarter of a second of the test's own time."""

    def __init__(self, *camera_ids, memory=None, **fleet):
        self.plan = RunPlan(
            name="run",
            cameras=tuple(camera(camera_id) for camera_id in camera_ids),
            scene_references={},
            card=CARD,
            model=ModelSource("", "model"),
            model_copies=Path("models"),
            size_px=(8, 8),
            gap_s=0.1,
            runtime=RuntimeSettings(),
            sinks=None,  # nobody here writes
            quarantine=Path("quarantine"),
        )
        self.published = []
        self.fleet = Fleet("run", **fleet)
        self.now = 1000.0
        self.supervise(memory)

    def supervise(self, memory=None):
        """A supervisor begins."""
        self.supervisor = Supervisor(
            self.plan, self.fleet, lambda status, is_ending: self.published.append(is_ending), memory
        )

    def __getitem__(self, name):
        return self.fleet.made[name]

    def step(self, seconds=0.25):
        self.now += seconds
        self.supervisor.step(self.now, 50.0 + self.now)
        return self.supervisor.status()

    def texts(self):
        return [trouble.text for trouble in self.supervisor.status().troubles]
