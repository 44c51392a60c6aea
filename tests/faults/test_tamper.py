"""A camera that is tampered with while it streams: from its pixels to the notice in Redis."""

import numpy as np
import pytest

from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.redis_reader import read_alerts
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


@pytest.fixture
def redis_url(tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as url:
        yield url


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
    assert final.cameras[0].account.in_flight == 0
    assert told("camera_moved") == []
