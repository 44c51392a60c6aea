"""A camera that is tampered with while it streams: from its pixels to the notice in Redis."""

from dataclasses import replace

import numpy as np
import pytest

from actors.plans import stream_plan
from pipeline.sinks.redis_reader import read_alerts
from pipeline.training.scene_references import SceneSampler, measure_reference
from tests.faults import live as live_module
from tests.faults.live import QUICK, LiveRun, live_config
from tests.rtsp import FPS, RtspServer, require_rtsp, write_footage
from tests.videos import write_video

SIZE_PX = (64, 96)


@pytest.fixture
def videos(tmp_path):
    require_rtsp()
    still = np.random.default_rng(0).integers(0, 255, (*SIZE_PX, 3), np.uint8)
    black = np.zeros((*SIZE_PX, 3), np.uint8)
    # One keyframe and then nothing new: a decoder repeats the picture to the last bit.
    write_video(tmp_path / "still.mp4", [still] * (30 * FPS), fps=FPS, gop=1000)
    write_video(tmp_path / "black.mp4", [black] * (4 * FPS), fps=FPS)
    write_footage(tmp_path / "normal.mp4")
    return tmp_path


def test_a_camera_that_goes_dark_and_one_whose_picture_freezes_are_told_and_so_is_the_end(
    ray_session, trained, videos, redis_url, tmp_path
):
    health = {"offline_s": None, "frozen_s": 2, "dark_s": 1, "moved_s": None}
    with RtspServer({"gate": videos / "normal.mp4"}) as server:
        config = live_config(
            {"gate": server.url("gate")}, tmp_path / "run", redis_url, camera_defaults={**QUICK, "health": health}
        )
        live = LiveRun(config, trained.folder)
        live.wait_for_scores("gate", longest_s=120.0)

        def told(kind):
            return [alert["until_at_s"] is None for alert in read_alerts(redis_url) if alert["kind"] == kind]

        assert told("camera_dark") == told("camera_frozen") == []
        server.command("switch", "gate", videos / "black.mp4")
        live.wait(lambda: told("camera_dark") == [True], "it is told that it is dark")
        live.wait(lambda: live.camera("gate").conditions == ("dark",), "the status says so, too")
        server.command("switch", "gate", videos / "still.mp4")
        live.wait(lambda: told("camera_dark") == [True, False], "the dark is over")
        live.wait(lambda: told("camera_frozen") == [True], "it is told that the picture is frozen")
        server.command("switch", "gate", videos / "normal.mp4")
        live.wait(lambda: told("camera_frozen") == [True, False], "it moves again")
        final = live.end()
    assert final.cameras[0].counts.in_flight == 0
    assert told("camera_moved") == []


def scenery(seed):
    """A place of some blocks."""
    random = np.random.default_rng(seed)
    image = np.full((*SIZE_PX, 3), 90, np.uint8)
    for _ in range(14):
        top, left = random.integers(0, SIZE_PX[0] - 8), random.integers(0, SIZE_PX[1] - 8)
        image[top : top + random.integers(6, 24), left : left + random.integers(6, 24)] = random.integers(30, 240)
    return image


def filmed(place, frames):
    """A camera's pictures of it, with the noise of its sensor."""
    noise = np.random.default_rng(1)
    return [np.clip(place + noise.normal(0, 2, place.shape), 0, 255).astype(np.uint8) for _ in range(frames)]


@pytest.fixture
def known_scene(monkeypatch):
    """Runs of a model that was trained on half a minute of the first place."""
    recorder = SceneSampler(1.0)
    for image in filmed(scenery(0), 30):
        recorder.add(image)
    reference = measure_reference([recorder.gray_images()])
    assert reference.telling
    monkeypatch.setattr(
        live_module,
        "stream_plan",
        lambda *arguments: replace(stream_plan(*arguments), scene_references={"gate": reference}),
    )


def test_a_camera_that_is_turned_to_another_place_is_told_and_so_is_its_return(
    ray_session, trained, known_scene, redis_url, tmp_path
):
    require_rtsp()
    places = [write_video(tmp_path / f"{n}.mp4", filmed(scenery(n), 4 * FPS), fps=FPS) for n in range(2)]
    health = {"offline_s": None, "frozen_s": None, "dark_s": None, "moved_s": 2}
    with RtspServer({"gate": places[0]}) as server:
        config = live_config(
            {"gate": server.url("gate")}, tmp_path / "run", redis_url, camera_defaults={**QUICK, "health": health}
        )
        live = LiveRun(config, trained.folder)
        live.wait_for_scores("gate", longest_s=120.0)

        def told():
            return [alert["until_at_s"] is None for alert in read_alerts(redis_url) if alert["kind"] == "camera_moved"]

        started = live.camera("gate").counts.decoded
        live.wait(lambda: live.camera("gate").counts.decoded > started + 12 * FPS, "it has been watched for a while")
        assert told() == []
        server.command("switch", "gate", places[1])
        live.wait(lambda: told() == [True], "it is told that it looks elsewhere")
        live.wait(lambda: live.camera("gate").conditions == ("moved",), "the status says so, too")
        server.command("switch", "gate", places[0])
        live.wait(lambda: told() == [True, False], "it is told that it is back")
        live.end()
