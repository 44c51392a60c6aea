"""Detectors that are too slow for a live camera: the newest frames win, and what is dropped is counted."""

import time

import numpy as np
import pytest
import ray

from actors.camera import CameraActor
from actors.detector import DetectorActor, DetectorPlan
from actors.fleet import create_scorer
from actors.plans import stream_plan
from pipeline.models.card import read_card
from pipeline.runtime.messages import CameraRole, DesiredCameraState, DesiredDetectorState, DesiredScorerState
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.redis_reader import read_scores
from pipeline.types import Prediction
from tests.faults.live import live_config
from tests.rtsp import FPS, RtspServer, require_rtsp, write_footage

pytestmark = pytest.mark.usefixtures("ray_session")
BATCH, BATCH_TAKES_S, MAX_AGE_S = 4, 0.5, 1.0


def slow():
    """A class of its own here, so that Ray sends it by value: a detector a third as fast as it should be."""

    class Slow(DetectorActor):
        def _load(self, plan):
            def predict(batch, roles):
                time.sleep(BATCH_TAKES_S)
                return [Prediction(header, float(np.mean(batch.images))) for header in batch.headers]

            return predict

    return Slow


@pytest.fixture
def cameras(tmp_path):
    require_rtsp()
    with RtspServer({"gate": write_footage(tmp_path / "a.mp4")}) as server:
        yield server


def until(condition, what):
    give_up_at = time.monotonic() + 120.0
    while not condition():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.1)


def test_when_detectors_are_slow_the_newest_frames_win_and_the_others_are_counted(trained, cameras, tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as redis_url:
        config = live_config({"gate": cameras.url("gate")}, tmp_path / "run", redis_url)
        gate = config.cameras[0].model_copy(update={"sample_fps": None, "max_frame_age_s": MAX_AGE_S})
        card = read_card(trained.folder)
        plan = stream_plan(config, card, trained.folder, redis_url)
        scorer = create_scorer(plan)
        camera_name, detector_name = f"{plan.name}-camera-0", f"{plan.name}-detector-0"
        options = {"num_cpus": 0, "max_concurrency": 6}
        camera = ray.remote(**options, name=camera_name)(CameraActor).remote(
            card.model.image_size_px, card.model.motion.gap_s, 4, tmp_path / "counters", tmp_path / "quarantine"
        )
        detector = ray.remote(**options, name=detector_name)(slow()).remote(
            DetectorPlan(
                detector_name,
                plan.model,
                "cpu",
                1,
                BATCH,
                plan.scorers,
                plan.runtime,
            )
        )

        def scored():
            return ray.get(scorer.report.remote(), timeout=60.0).cameras["gate"]

        def reader():
            return ray.get(camera.report.remote(), timeout=60.0).readers["gate"]

        ray.get(scorer.configure.remote(DesiredScorerState(1, (gate,))), timeout=60.0)
        ray.get(
            detector.configure.remote(
                DesiredDetectorState(1, (camera_name,), {"gate": CameraRole("plaza", True, MAX_AGE_S)})
            )
        )
        ray.get(camera.configure.remote(DesiredCameraState(1, (gate,), consumer=detector_name)))
        until(lambda: reader().decoded >= 10 * FPS, "ten seconds of frames come")
        ray.get(camera.stop.remote())

        def rest():
            scoring = scored()
            return reader().dispatched - scoring.scored - sum(scoring.dropped.values())

        until(lambda: reader().ended and rest() == 0, "every frame's result is known")
        reading, scoring = reader(), scored()
        until(lambda: len(read_scores(redis_url, "gate")) == scoring.scored, "all scores are in Redis")
        entries = read_scores(redis_url, "gate")
        for actor in (detector, camera, scorer):
            ray.kill(actor)
    assert reading.decoded == scoring.scored + sum(scoring.dropped.values()) + sum(reading.dropped.values())
    assert scoring.scored < reading.decoded / 2
    assert reading.dropped.get("overload", 0) + scoring.dropped.get("overload", 0) > reading.decoded / 4
    assert set(reading.dropped) | set(scoring.dropped) <= {"overload", "stale"}
    assert reading.session == 0  # the camera was drained all the time
    # Without newest-wins the last of ten seconds' frames would come six seconds late.
    assert max(entry["latency_s"] for entry in entries) < MAX_AGE_S + 2 * BATCH_TAKES_S + 1.0
    indices = [entry["index"] for entry in entries]
    assert indices == sorted(set(indices))
    assert indices[-1] > reading.decoded - 2 * FPS
