"""A frame of a file that kills every detector it comes to."""

import json
import os
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
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.types import Prediction
from pipeline.video.source import open_source
from tests.faults.live import live_config
from tests.videos import write_video

pytestmark = pytest.mark.usefixtures("ray_session")
FRAMES, KILLER = 40, 17


def killed_by_one_frame():
    """A class of its own here, so that Ray sends it by value: a detector with a bug that one picture brings out."""

    class Fragile(DetectorActor):
        def _load(self, plan):
            def predict(batch, roles):
                if any(header.index == KILLER for header in batch.headers):
                    os._exit(1)
                return [
                    Prediction(header, image.mean() + luma.mean() + 1e3 * gap_s, paired=bool(gap_s))
                    for header, image, luma, gap_s in zip(
                        batch.headers, batch.images, batch.previous_luma, batch.gaps_s.tolist(), strict=True
                    )
                ]

            return predict

    return Fragile


def test_a_frame_that_kills_three_detectors_is_kept_and_counted_and_every_other_one_is_scored(trained, tmp_path):
    write_video(tmp_path / "clip.mp4", FRAMES)
    with EmbeddedRedis(tmp_path / "redis") as redis_url:
        config = live_config({"clip": str(tmp_path / "clip.mp4")}, tmp_path / "run", redis_url)
        config = config.model_copy(
            update={"cameras": tuple(c.model_copy(update={"sample_fps": None}) for c in config.cameras)}
        )
        card = read_card(trained.folder)
        plan = stream_plan(config, card, trained.folder, redis_url)
        quarantine = tmp_path / "quarantine"
        forever = {"max_restarts": -1, "max_task_retries": 0, "num_cpus": 0, "max_concurrency": 4}
        scorer = create_scorer(plan)
        camera = ray.remote(**forever, name=f"{plan.name}-camera-0")(CameraActor).remote(
            card.model.image_size_px, card.model.motion.gap_s, 4, tmp_path / "counters", quarantine
        )
        detector_plan = DetectorPlan(
            f"{plan.name}-detector-0",
            plan.model,
            "cpu",
            1,
            4,
            plan.scorers,
            plan.runtime,
        )
        detector = ray.remote(**forever, name=detector_plan.name)(killed_by_one_frame()).remote(detector_plan)
        camera_state = DesiredCameraState(1, config.cameras, consumer=detector_plan.name)
        detector_state = DesiredDetectorState(1, (f"{plan.name}-camera-0",), {"clip": CameraRole("plaza", False, 2.0)})
        give_up_at, scored = time.monotonic() + 120.0, None
        while scored is None or scored.scored + sum(scored.dropped.values()) < FRAMES:
            assert time.monotonic() < give_up_at, scored
            time.sleep(0.1)
            try:  # what the supervisor does: say it again to whoever was started anew
                if ray.get(scorer.report.remote(), timeout=60.0).version == 0:
                    ray.get(scorer.configure.remote(DesiredScorerState(1, config.cameras)), timeout=60.0)
                if ray.get(camera.report.remote(), timeout=60.0).version == 0:
                    ray.get(camera.configure.remote(camera_state), timeout=60.0)
                if ray.get(detector.report.remote(), timeout=60.0).version == 0:
                    ray.get(detector.configure.remote(detector_state), timeout=60.0)
                scored = ray.get(scorer.report.remote(), timeout=60.0).cameras.get("clip")
            except ray.exceptions.RayError:
                continue
        assert (scored.scored, scored.dropped) == (FRAMES - 1, {"quarantined": 1})
        reader = ray.get(camera.report.remote()).readers["clip"]
        assert (reader.state, reader.decoded, reader.dispatched, reader.dropped) == ("finished", FRAMES, FRAMES, {})
        ray.get(scorer.close.remote(), timeout=60.0)
        for actor in (detector, camera, scorer):
            ray.kill(actor)
    rows = read_clip_scores(tmp_path / "run" / "scores")["clip"]
    assert rows.index.tolist() == [index for index in range(FRAMES) if index != KILLER]
    # Whichever detector got it, and however often: a frame came with the pair that it has.
    with open_source(str(tmp_path / "clip.mp4"), card.model.image_size_px, gap_s=card.model.motion.gap_s) as source:
        pairs = [(frame.image.mean(), frame.previous) for frame in source]
    expected = [mean if pair is None else mean + pair.luma.mean() + 1e3 * pair.gap_s for mean, pair in pairs]
    np.testing.assert_allclose(rows.anomaly_score[1:], np.delete(expected, KILLER)[1:], rtol=1e-5)
    assert rows.paired.tolist() == [False] + [True] * (FRAMES - 2)
    previous, picture = sorted(quarantine.glob("*.npy"))
    assert previous.name == f"{picture.stem}-previous.npy"
    assert np.load(picture, allow_pickle=False).shape == (*card.model.image_size_px, 3)
    assert np.load(previous, allow_pickle=False).shape == card.model.image_size_px
    assert json.loads(picture.with_suffix(".json").read_text())["index"] == KILLER
