"""Starting and ending a run while nothing works."""

import time

import pytest

from pipeline.sinks.embedded_redis import EmbeddedRedis
from tests.faults.live import LiveRun, live_config
from tests.rtsp import RtspServer, require_rtsp, write_footage


@pytest.fixture
def cameras(tmp_path):
    require_rtsp()
    with RtspServer({"gate": write_footage(tmp_path / "a.mp4")}) as server:
        yield server


def test_a_run_starts_with_every_camera_down_and_ends_within_ten_seconds(ray_session, trained, cameras, tmp_path):
    with EmbeddedRedis(tmp_path / "redis") as redis_url:
        urls = {"down": "rtsp://127.0.0.1:9/nobody", "slow": f"rtsp://127.0.0.1:{cameras.port}/nosuch"}
        started = LiveRun(live_config(urls, tmp_path / "run", redis_url), trained.folder)
        started.wait(lambda: len(started.status.cameras) == 2, "both are known", 120.0)
        started.wait(lambda: all("offline" in c.conditions for c in started.status.cameras), "both are offline")
        asked_at = time.monotonic()
        final = started.end()
        assert time.monotonic() - asked_at < 20.0
        errors = {camera.camera_id: camera.error for camera in final.cameras}
        assert "refused" in errors["down"]
        assert "404" in errors["slow"]
        assert [camera.counts.decoded for camera in final.cameras] == [0, 0]
