"""A live camera's reader on files served over HTTP, which end and so are streams that disconnect.

Faults of real streams are in ``tests/faults/test_streams.py``.
"""

import threading
import time

import numpy as np
import pytest

import pipeline.video.live_reader as live_reader_module
from pipeline.camera_settings import CameraSettings
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.frame_counters import FrameCounters
from pipeline.video.live_reader import LiveReader
from pipeline.video.source import open_camera, open_source
from tests.video.station import GAP_S, SIZE_PX, Station, ended, start_daemon, until
from tests.videos import frame_number, write_video


class CountingWatch:
    """Sees everything dark, and keeps what it was shown."""

    def __init__(self):
        self.images, self.resets = [], 0

    def update(self, image, now):
        self.images.append(image)
        return frozenset({"dark"})

    def reset(self):
        self.resets += 1


class FailingWatch(CountingWatch):
    """Fails on every picture but the first few, as a bug does that one camera's pictures bring out."""

    def update(self, image, now):
        if len(self.images) == 3:
            self.images.clear()
            raise ZeroDivisionError("rtsp://viewer:hunter2@host/cam: no pixels\nat all")
        return super().update(image, now)


@pytest.fixture
def stream(http_folder):
    """A live stream of twenty frames, then its end; again at every connection."""
    folder, address = http_folder
    write_video(folder / "camera.ts", 20)
    return f"{address}/camera.ts"


def test_a_live_stream_that_ends_is_opened_again_as_a_new_session(tmp_path, stream, http_folder):
    with open_source(str(http_folder[0] / "camera.ts"), SIZE_PX, gap_s=GAP_S) as source:
        expected = [frame.previous for frame in source]
    with Station(tmp_path) as station:
        station.add("gate", stream, buffer_frames=100)
        until(lambda: len(station.frames_of(session=2)) == 20, "a third session came")
        for session in range(3):
            frames = station.frames_of(session=session)
            assert [frame.header.index for frame in frames] == list(range(20))
            assert [frame_number(frame.image) for frame in frames] == list(range(20))
            assert (frames[0].previous, expected[0]) == (None, None)
            assert all(
                np.array_equal(frame.previous.luma, read.luma)
                for frame, read in zip(frames[1:], expected[1:], strict=True)
            )
        assert [frame.header.serial for frame in station.frames_of()[:60]] == list(range(60))
        until(lambda: station.status().error, "the end of the stream is told")
        assert "expected more frames, got the end of the stream" in station.status().error


def test_a_live_camera_goes_on_with_the_counts_of_a_process_that_died(tmp_path, stream):
    counters = FrameCounters(tmp_path / "gate.ledger")
    counters["decoded"], counters["dispatched"], counters["overload"], counters["session"] = 100, 60, 30, 5
    counters.close()
    with Station(tmp_path) as station:
        station.add("gate", stream, start=False)
        status = station.status()
        assert (status.session, status.dropped) == (6, {"overload": 30, "camera_lost": 10})
        station.readers["gate"].start()
        until(station.frames_of, "frames come")
        assert (station.frames[0].header.session, station.frames[0].header.serial) == (6, 60)


def test_a_live_camera_starts_with_the_session_that_its_fresh_counter_file_names(tmp_path, stream):
    counters = FrameCounters(tmp_path / "gate.ledger")
    buffers = FrameBuffers(time.monotonic)
    counters["session"] = 4  # set by the owner: another node had used those below
    settings = CameraSettings.model_validate({"id": "gate", "url": stream})
    reader = LiveReader(settings, SIZE_PX, buffers, counters, gap_s=GAP_S, start_thread=start_daemon)
    reader.start()
    until(lambda: counters["decoded"], "frames come")
    assert reader.status().session == 4
    reader.stop()


def test_a_paused_camera_is_not_connected_until_it_is_resumed(tmp_path, stream):
    with Station(tmp_path) as station:
        reader = station.add("gate", stream)
        until(lambda: station.frames_of(session=0), "frames come")
        reader.pause()
        reader.pause()
        decoded = station.status().decoded
        assert (station.status().state, station.status().ended) == ("paused", False)
        until(lambda: all(not t.is_alive() for t in station.threads[2:]), "its thread ends")
        assert station.status().decoded == decoded
        session = station.status().session
        reader.resume()
        reader.resume()
        until(lambda: station.frames_of(session=session + 1), "frames come again")


def test_a_camera_paused_before_it_is_started_waits_for_resume(tmp_path, stream):
    with Station(tmp_path) as station:
        reader = station.add("gate", stream, start=False)
        reader.resume()  # an owner says so at every turn; it must not start anything
        reader.pause()
        reader.start()
        assert station.status().state == "paused"
        assert len(station.threads) == 2
        reader.resume()
        until(station.frames_of, "frames come")


def test_a_stopped_camera_has_stopped_at_once_and_touches_its_counter_file_no_more(tmp_path, stream):
    with Station(tmp_path) as station:
        reader = station.add("gate", stream)
        until(station.frames_of, "frames come")
        reader.stop()
        assert station.status().state == "stopped"
        station.buffers.remove_camera("gate")
        station.assert_books_are_exact()
        station.counters_folder.pop("gate").close()
        del station.readers["gate"]
        until(lambda: all(not thread.is_alive() for thread in station.threads[2:]), "its thread ends")


def test_pictures_of_a_live_camera_are_watched_and_those_of_a_file_are_not(tmp_path, stream):
    live, file = CountingWatch(), CountingWatch()
    write_video(tmp_path / "a.mp4", 10)
    with Station(tmp_path) as station:
        station.add("gate", stream, watch=live, sample_fps=5, buffer_frames=100)
        station.add("clip", tmp_path / "a.mp4", watch=file)
        until(lambda: station.frames_of("gate", session=1), "a second session came")
        assert station.status("gate").conditions == {"dark"}
        ended(station, "clip")
        dispatched = station.frames_of("gate", session=0)
        assert all(np.array_equal(a.image, b) for a, b in zip(dispatched, live.images, strict=False))
        assert live.resets >= 2
        assert (station.status("clip").conditions, file.images) == (frozenset(), [])
        station.readers["gate"].pause()
        assert station.status("gate").conditions == frozenset()


def test_an_unforeseen_failure_of_one_camera_is_told_in_one_line_and_costs_nobody_else_a_frame(
    tmp_path, stream, caplog
):
    with Station(tmp_path) as station:  # raises what ended a thread, and sees that the frame counts are exact
        station.add("gate", stream, watch=FailingWatch(), buffer_frames=100)
        station.add("yard", stream, buffer_frames=100)
        until(lambda: station.frames_of("gate", session=2), "it was opened again, twice")
        until(lambda: station.status("gate").state == "waiting", "it waits before it tries again")
        status = station.status("gate")
        assert len(station.frames_of("gate", session=0)) == 3
        assert len(station.frames_of("yard", session=0)) == 20
    assert status.dropped["decode_error"] >= 2
    (line,) = {record.getMessage() for record in caplog.records if "unforeseen" in record.getMessage()}
    assert line == status.error
    assert line.startswith("gate (http://")
    assert "ZeroDivisionError: rtsp://***@host/cam: no pixels at all" in line
    assert "test_live_reader.py:" in line


def test_a_thread_stuck_in_ffmpeg_is_left_to_itself_and_another_takes_over(tmp_path, stream, monkeypatch, caplog):
    """No real server can hold FFmpeg beyond its limits on demand, so the opener of the first connection does."""
    release, closed_in = threading.Event(), []
    opened = []

    def open_stuck_at_first(*arguments, **options):
        first = not opened
        opened.append(threading.current_thread())
        if first:
            assert release.wait(60.0)
        source = open_camera(*arguments, **options)
        if first:
            close = source.close
            monkeypatch.setattr(source, "close", lambda: (closed_in.append(threading.current_thread()), close()))
        return source

    monkeypatch.setattr(live_reader_module, "open_camera", open_stuck_at_first)
    with Station(tmp_path) as station:
        station.add("gate", stream, open_timeout_s=0.1, stall_timeout_s=0.3, buffer_frames=100)
        until(lambda: "its thread is stuck" in caplog.text, "the stuck thread is noticed")
        until(lambda: len(station.frames_of(session=0)) == 20, "another thread reads")
        assert not closed_in  # nobody else may close what a thread is reading
        release.set()
        until(lambda: closed_in, "the stuck thread returns")
        assert closed_in == [opened[0]]
        until(lambda: not opened[0].is_alive(), "the stuck thread ends")
        station.readers["gate"].stop()
        sessions = station.status().session + 1
        assert station.status().decoded <= 20 * sessions
        assert len(opened) >= sessions + 1  # the stuck one counted as no session


def test_threads_that_get_stuck_again_and_again_do_not_pile_up(tmp_path, stream, monkeypatch):
    release, stuck = threading.Event(), []

    def open_stuck(*arguments, **options):
        stuck.append(threading.current_thread())
        assert release.wait(60.0)
        return open_camera(*arguments, **options)

    clock_s = [0.0]
    monkeypatch.setattr(live_reader_module, "open_camera", open_stuck)
    buffers = FrameBuffers(time.monotonic)
    settings = CameraSettings.model_validate({"id": "gate", "url": stream})
    counters = FrameCounters(tmp_path / "gate.ledger")
    clock = {"start_thread": start_daemon, "now": lambda: clock_s[0]}
    reader = LiveReader(settings, SIZE_PX, buffers, counters, gap_s=GAP_S, **clock)
    reader.start()
    for threads in (1, 2, 3, 4, 5, 5, 5):
        until(lambda threads=threads: len(stuck) >= threads, "a thread opens the stream")
        clock_s[0] += 1000.0
        reader.check()
    until(lambda: len(stuck) == 5, "four were left and one tries on")
    release.set()
    until(lambda: counters["decoded"] > 0, "the last one reads")
    reader.stop()
    until(lambda: not any(thread.is_alive() for thread in stuck), "all threads end")
