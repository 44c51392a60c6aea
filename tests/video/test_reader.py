import threading
import time

import numpy as np
import pytest

from pipeline.config import CameraSettings
from pipeline.runtime.batching import BatchPolicy
from pipeline.runtime.buffer import FrameBuffers
from pipeline.video.reader import CameraReader
from tests.videos import truncate, write_video

SIZE = (32, 48)


def started(url, **settings):
    buffers = FrameBuffers(time.monotonic)
    reader = CameraReader(CameraSettings(id="gate", url=str(url), **settings), SIZE, buffers)
    thread = threading.Thread(target=reader.run, daemon=True)
    thread.start()
    return reader, buffers, thread


def all_frames(buffers, thread):
    frames = []
    while thread.is_alive() or buffers.waiting():
        frames += buffers.take(BatchPolicy(5, 0.0), 0.05)
    return frames


def test_every_frame_of_a_file_is_handed_over_in_order(tmp_path):
    write_video(tmp_path / "a.mp4", 40)
    reader, buffers, thread = started(tmp_path / "a.mp4", buffer_frames=3)
    frames = all_frames(buffers, thread)
    assert [frame.header.index for frame in frames] == list(range(40))
    assert {frame.image.shape for frame in frames} == {(*SIZE, 3)}
    assert all(frame.image.dtype == np.uint8 for frame in frames)
    status = reader.status()
    assert (status.state, status.decoded, status.dropped, status.missing) == ("finished", 40, {}, 0)
    times = [frame.header.media_time_s for frame in frames]
    assert times == sorted(set(times))


def test_frames_thinned_away_are_counted(tmp_path):
    write_video(tmp_path / "a.mp4", 50, fps=25)
    reader, buffers, thread = started(tmp_path / "a.mp4", sample_fps=5)
    frames = all_frames(buffers, thread)
    status = reader.status()
    assert abs(len(frames) - 10) <= 1  # two seconds at five frames per second
    assert status.decoded == len(frames) + status.dropped["sampling"] == 50


def test_a_file_that_cannot_be_read_fails_with_one_line_naming_the_camera(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    reader, _, thread = started(tmp_path / "a.mp4")
    thread.join(10.0)
    status = reader.status()
    assert status.state == "failed"
    assert "gate" in status.error
    assert len(status.error.splitlines()) == 1


def test_a_truncated_file_gives_what_is_there_and_says_how_much_is_missing(tmp_path):
    write_video(tmp_path / "a.mp4", 60)
    truncate(tmp_path / "a.mp4", fraction=0.6)
    reader, buffers, thread = started(tmp_path / "a.mp4")
    frames = all_frames(buffers, thread)
    status = reader.status()
    assert 0 < len(frames) == status.decoded < 60
    assert status.missing == 60 - len(frames)


def test_a_stopped_reader_ends_though_nobody_takes_its_frames(tmp_path):
    write_video(tmp_path / "a.mp4", 60)
    reader, buffers, thread = started(tmp_path / "a.mp4", buffer_frames=1)
    reader.stop()
    buffers.close()
    thread.join(10.0)
    assert not thread.is_alive()
    status = reader.status()
    assert status.decoded == buffers.waiting() + sum(status.dropped.values())


@pytest.mark.parametrize("url", ["rtsp://127.0.0.1:9/x"])
def test_a_live_camera_that_is_down_is_tried_again_and_again(url):
    reader, _, thread = started(url, open_timeout_s=0.5)
    deadline = time.monotonic() + 20.0
    while reader.status().session < 2 and time.monotonic() < deadline:
        thread.join(0.05)
    status = reader.status()
    assert status.live
    assert status.session >= 2
    assert "gate" in status.error
    reader.stop()
    thread.join(10.0)
    assert reader.status().state == "stopped"
