"""Every camera is opened as `stream` would, and what is wrong with one says nothing of the others."""

import socket

import pytest

from pipeline.camera_settings import CameraSettings
from pipeline.checks import cameras as cameras_module
from pipeline.checks.cameras import check_cameras
from pipeline.video.source import open_source
from tests.datasets.odd_files import write_spaced
from tests.http_camera import Snapshots, picture
from tests.rtsp import RtspServer, require_rtsp, write_footage
from tests.videos import write_images, write_video

PASSWORD = "hunter2secret"


def camera(camera_id, url, **settings):
    quick = {"open_timeout_s": 1.0, "read_timeout_s": 0.5, "stall_timeout_s": 2.0}
    return CameraSettings.model_validate({"id": camera_id, "url": str(url), **quick, **settings})


@pytest.fixture
def silence():
    """An address where somebody takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/x"


@pytest.mark.server
def test_live_cameras_say_size_codec_and_rate_and_one_that_refuses_says_why_without_the_password(tmp_path, silence):
    require_rtsp()
    video = write_footage(tmp_path / "a.mp4")
    with RtspServer({"gate": video}, password=("viewer", PASSWORD, "digest")) as server:
        found = check_cameras(
            [
                camera("gate", server.url("gate", credentials=f"viewer:{PASSWORD}")),
                camera("wrong", server.url("gate", credentials=f"viewer:not{PASSWORD}")),
                camera("nosuch", server.url("nosuch", credentials=f"viewer:{PASSWORD}")),
                camera("down", f"rtsp://viewer:{PASSWORD}@127.0.0.1:9/x"),
                camera("silent", silence),
            ]
        )
    assert [finding.what for finding in found] == [f"camera {n}" for n in ("gate", "wrong", "nosuch", "down", "silent")]
    gate, *others = found
    assert gate.state == "ok"
    assert gate.detail.startswith("96 x 64, h264, 25 fps, ")
    assert [finding.state for finding in others] == ["failed"] * 4
    for finding, said in zip(others, ("401", "404", "Connection refused", "no answer in time"), strict=True):
        assert said in finding.detail
    assert PASSWORD not in repr(found)


def test_a_camera_without_a_clock_says_its_true_rate_and_that_it_is_timed_by_arrival():
    with Snapshots(picture) as snapshots:
        (found,) = check_cameras([camera("gate", snapshots.url, sample_fps=50)])
    assert found.state == "ok"
    assert found.detail.startswith("96 x 64, mjpeg, ")
    assert "timed by arrival (its stream has no clock), " in found.detail
    rate_fps = float(found.detail.split(", ")[2].removesuffix(" fps"))
    assert 0.0 < rate_fps <= 100.0


@pytest.mark.server
def test_a_live_stream_without_a_keyframe_is_not_waited_for_longer_than_its_settings_say(tmp_path):
    require_rtsp()
    video = write_footage(tmp_path / "long.mp4", gop=1000, seconds=30.0)
    with RtspServer({"gate": video}) as server, open_source(server.url("gate"), (32, 32)) as first:
        next(iter(first))  # whoever joins later waits half a minute for a keyframe
        (found,) = check_cameras([camera("gate", server.url("gate"), stall_timeout_s=0.5)])
    assert found.state == "warning"
    assert found.detail.startswith(
        "h264, no keyframe within 0.5 s (stall_timeout_s): pictures come, and can be decoded"
    )


def test_files_and_folders_say_what_is_in_them_and_what_is_none_is_named(tmp_path):
    write_video(tmp_path / "whole.mp4", 30, fps=10)
    write_images(tmp_path / "images", 4)
    write_spaced(tmp_path / "slow.mkv")
    (tmp_path / "text.mp4").write_text("no video")
    whole, images, slow, text, none = check_cameras(
        [camera(name, tmp_path / name) for name in ("whole.mp4", "images", "slow.mkv", "text.mp4", "none.mp4")]
    )
    assert (whole.state, whole.detail) == ("ok", "64 x 48, h264, 10 fps, 30 frames")
    assert (images.state, images.detail) == ("ok", "64 x 48, images, 10 fps, 4 frames")
    assert slow.detail == "64 x 48, h264, 5 fps"  # the header says 25
    assert (text.state, none.state) == ("failed", "failed")
    assert "expected a video file, got something else" in text.detail
    assert "got nothing there" in none.detail


def test_one_that_hangs_is_left_to_itself_and_more_cameras_than_are_looked_at_at_once_are_all_looked_at(
    tmp_path, silence, monkeypatch
):
    monkeypatch.setattr(cameras_module, "_AT_ONCE", 2)
    longest_s = cameras_module.longest_s
    monkeypatch.setattr(cameras_module, "longest_s", lambda c: 0.1 if c.id.startswith("hung") else longest_s(c))
    write_video(tmp_path / "a.mp4", 5)
    hung = [camera(f"hung{number}", silence, open_timeout_s=20.0) for number in range(3)]
    files = [camera(f"c{number}", tmp_path / "a.mp4") for number in range(5)]
    found = {finding.what: finding for finding in check_cameras([*hung, *files])}
    assert [found[f"camera hung{number}"].detail for number in range(3)] == [
        "expected an answer in time, got none: it hangs"
    ] * 3
    assert all(found[f"camera c{number}"].state == "ok" for number in range(5))
