"""One camera's reader on real files and on files served over HTTP, which end and so are streams that disconnect.

Faults of real streams are in ``tests/faults/test_streams.py``.
"""

import threading
import time

import numpy as np
import pytest

import pipeline.video.live_reader as live_reader_module
from pipeline.config import CameraSettings
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.frame_counters import FrameCounters
from pipeline.video.file_reader import FileReader
from pipeline.video.live_reader import LiveReader
from pipeline.video.source import Resizer, open_source
from tests.video.station import SIZE_PX, Station, start_daemon, until
from tests.videos import frame_number, truncate, write_images, write_video


def ended(station, camera_id="gate"):
    until(lambda: station.status(camera_id).ended, "the reader ends")
    until(station.has_taken_all, "all frames are taken")
    return station.status(camera_id)


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


# --- files --------------------------------------------------------------------------------------------------------


def test_every_frame_of_a_file_is_dispatched_in_order(tmp_path):
    write_video(tmp_path / "a.mp4", 40)
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4", buffer_frames=3)
        status = ended(station)
        frames = station.frames_of()
    assert [frame.header.index for frame in frames] == [frame.header.serial for frame in frames] == list(range(40))
    assert {frame.image.shape for frame in frames} == {(*SIZE_PX, 3)}
    assert all(frame.image.dtype == np.uint8 for frame in frames)
    assert (status.state, status.decoded, status.dispatched, status.dropped) == ("finished", 40, 40, {})
    assert (status.live, status.missing, status.error, status.session) == (False, 0, "", 0)
    assert status.last_frame_at_s is not None
    assert abs(status.last_frame_at_s - time.time()) < 60.0
    times = [frame.header.media_time_s for frame in frames]
    assert times == sorted(set(times))


def test_frames_thinned_away_are_counted(tmp_path):
    write_video(tmp_path / "a.mp4", 50, fps=25)
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4", sample_fps=5)
        status = ended(station)
        frames = station.frames_of()
    assert abs(len(frames) - 10) <= 1  # two seconds at five frames per second
    assert status.decoded == len(frames) + status.dropped["sampling"] == 50
    assert [frame.header.index for frame in frames] == [frame_number(frame.image) for frame in frames]


def test_a_file_that_cannot_be_read_fails_with_one_line_naming_the_camera(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4")
        status = ended(station)
    assert (status.state, status.decoded) == ("failed", 0)
    assert status.error.startswith("gate (")
    assert len(status.error.splitlines()) == 1


def test_a_truncated_file_gives_what_is_there_and_says_how_much_never_came(tmp_path):
    write_video(tmp_path / "a.mp4", 60)
    truncate(tmp_path / "a.mp4", fraction=0.6)
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4")
        status = ended(station)
        frames = station.frames_of()
    damaged = sum(status.dropped.values())
    assert 0 < len(frames) == status.decoded - damaged < 60
    assert status.missing == 60 - status.decoded
    assert damaged == 1  # the one that was cut through came in part


def test_damaged_frames_are_dropped_by_name_and_leave_gaps(tmp_path):
    folder = write_images(tmp_path / "images", 6)
    (folder / "003.png").write_bytes(b"no picture")
    with Station(tmp_path) as station:
        station.add("gate", folder)
        status = ended(station)
        frames = station.frames_of()
    assert [frame.header.index for frame in frames] == [0, 1, 3, 4, 5]
    assert (status.decoded, status.dropped, status.missing) == (6, {"decode_error": 1}, 0)


def test_a_stopped_reader_ends_though_nobody_takes_its_frames(tmp_path):
    write_video(tmp_path / "a.mp4", 60)
    with Station(tmp_path, takes=False) as station:
        station.add("gate", tmp_path / "a.mp4", buffer_frames=1)
        until(lambda: station.status().decoded == 2, "it waits for room")
        station.remove("gate")
        status = station.status()
    assert status.state == "stopped"
    assert (status.decoded, status.dropped) == (2, {"shutdown": 2})


def test_a_paused_file_stays_where_it_is_and_goes_on_there(tmp_path):
    write_video(tmp_path / "a.mp4", 40)
    with Station(tmp_path, takes=False) as station:
        reader = station.add("gate", tmp_path / "a.mp4", buffer_frames=1)
        until(lambda: station.status().decoded == 2, "it waits for room")
        reader.pause()
        assert station.status().state == "paused"
        frames = station.take()
        until(lambda: station.buffers.waiting("gate"), "the frame it held is put in")
        frames += station.take()
        assert station.status().decoded == 2
        reader.resume()
        while not (station.status().ended and not station.buffers.waiting()):
            frames += station.take()
        assert [frame_number(frame.image) for frame in frames] == list(range(40))
        assert station.status().state == "finished"


def test_a_file_that_another_process_had_begun_is_read_again_without_what_is_known(tmp_path):
    write_video(tmp_path / "a.mp4", 40, fps=20)
    with Station(tmp_path, takes=False) as before:
        before.add("gate", tmp_path / "a.mp4", buffer_frames=4, sample_fps=10)
        until(lambda: before.buffers.waiting() == 4, "frames wait")
        lost = before.take(3)
        assert [frame.header.serial for frame in lost] == [0, 1, 2]
        before.counters_folder["gate"]["confirmed"] = 2
    before.counters_folder["gate"].close()
    with Station(tmp_path) as after:
        after.add("gate", tmp_path / "a.mp4", buffer_frames=4, sample_fps=10)
        status = ended(after)
        frames = after.frames_of()
    assert [frame.header.serial for frame in frames] == list(range(2, status.dispatched))
    assert (frames[0].header.index, frames[0].header.session) == (lost[2].header.index, 0)
    assert np.array_equal(frames[0].image, lost[2].image)
    assert (status.decoded, status.session) == (40, 0)
    assert status.dropped == {"sampling": 40 - status.dispatched}


def test_a_files_confirmed_frames_are_remembered_though_the_process_died_before_it_read_one(tmp_path):
    write_video(tmp_path / "a.mp4", 10)
    counters = FrameCounters(tmp_path / "gate.ledger")
    counters["confirmed"] = 7
    counters.close()
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4")
        assert ended(station).dispatched == 10
        assert [frame.header.serial for frame in station.frames_of()] == [7, 8, 9]


def test_a_reader_stopped_before_it_was_started_has_ended(tmp_path):
    with Station(tmp_path) as station:
        reader = station.add("gate", tmp_path / "a.mp4", start=False)
        reader.stop()
        assert station.status().state == "stopped"
        reader.start()
        assert station.status().state == "stopped"


def test_a_file_that_was_stopped_ends_though_it_is_paused_afterwards(tmp_path):
    """As when a run ends: its owner stops everything, and then looks again at what its desired state says is paused."""
    write_video(tmp_path / "a.mp4", 10)
    threads = []
    reader = FileReader(
        CameraSettings.model_validate({"id": "gate", "url": str(tmp_path / "a.mp4")}),
        SIZE_PX,
        FrameBuffers(time.monotonic),
        FrameCounters(tmp_path / "gate.ledger"),
        start_thread=lambda task: threads.append(threading.Thread(target=task, daemon=True)),
    )
    reader.start()
    reader.stop()
    reader.pause()
    threads[0].start()
    threads[0].join(20.0)
    assert (reader.status().state, reader.status().decoded) == ("stopped", 0)


class Clock:
    """Time that passes only while somebody waits for it; ``at`` calls something at the given wait, counted from 1."""

    def __init__(self, **at):
        self.time_s, self.waits, self._at = 1000.0, 0, {int(key.removeprefix("wait")): do for key, do in at.items()}

    def now(self):
        return self.time_s

    def wait(self, event, seconds):
        self.waits += 1
        self.time_s += seconds
        self._at.get(self.waits, lambda clock: None)(self)

    def hands(self):
        return {"now": self.now, "unix_now": self.now, "wait": self.wait}


def gaps_s(frames):
    """Seconds between a frame and the next, by their capture."""
    return np.diff([frame.header.captured_at_s for frame in frames])


def test_a_file_beside_live_cameras_is_read_at_the_speed_at_which_it_was_filmed(tmp_path):
    write_video(tmp_path / "a.mp4", 50, fps=25)
    clock = Clock()
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4", sample_fps=5, paced=True, clock=clock.hands())
        ended(station)
        frames = station.frames_of()
    assert abs(len(frames) - 10) <= 1
    assert gaps_s(frames) == pytest.approx(np.diff([frame.header.media_time_s for frame in frames]))
    assert clock.waits == 49  # between any two frames, wanted or not: decoding is spread, too


def test_a_file_among_files_waits_for_nothing(tmp_path):
    write_video(tmp_path / "a.mp4", 50, fps=25)
    clock = Clock()
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4", clock=clock.hands())
        ended(station)
    assert clock.waits == 0


def test_a_pause_of_a_paced_file_is_not_caught_up_in_a_burst(tmp_path):
    write_video(tmp_path / "a.mp4", 50, fps=25)

    def pause(clock):
        station.readers["gate"].pause()
        clock.time_s += 100.0

    clock = Clock(wait20=pause)
    with Station(tmp_path) as station:
        reader = station.add("gate", tmp_path / "a.mp4", paced=True, clock=clock.hands())
        until(lambda: station.status().state == "paused", "it is paused")
        reader.resume()
        ended(station)
        gaps = gaps_s(station.frames_of())
    assert gaps[19] == pytest.approx(100.04)
    assert gaps[20] == 0.0  # the one that was late because of the pause
    assert np.delete(gaps, [19, 20]) == pytest.approx(0.04)


def test_a_file_is_no_longer_paced_once_the_last_live_camera_has_gone(tmp_path):
    write_video(tmp_path / "a.mp4", 50, fps=25)

    def go_on_alone(clock):
        station.readers["gate"].paced = False

    clock = Clock(wait30=go_on_alone)
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4", paced=True, clock=clock.hands())
        ended(station)
        gaps = gaps_s(station.frames_of())
    assert gaps[:30] == pytest.approx(0.04)
    assert not gaps[30:].any()


def test_a_paced_file_that_another_process_had_begun_makes_nobody_wait_for_what_is_known(tmp_path):
    write_video(tmp_path / "a.mp4", 50, fps=25)
    counters = FrameCounters(tmp_path / "gate.ledger")
    counters["confirmed"] = 40
    counters.close()
    clock = Clock()
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4", paced=True, clock=clock.hands())
        ended(station)
        frames = station.frames_of()
    assert [frame.header.serial for frame in frames] == list(range(40, 50))
    assert frames[0].header.captured_at_s == 1000.0
    assert gaps_s(frames) == pytest.approx(0.04)


def test_a_paced_file_that_is_stopped_ends_though_its_next_frame_is_not_due(tmp_path):
    write_video(tmp_path / "a.mp4", 3, fps=1)
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4", paced=True, clock={"wait": lambda event, _: event.wait()})
        until(lambda: station.status().decoded == 1, "the second frame is waited for")
        station.remove("gate")
        assert station.status().state == "stopped"


# --- live streams -------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(http_folder):
    """A live stream of twenty frames, then its end; again at every connection."""
    folder, address = http_folder
    write_video(folder / "camera.ts", 20)
    return f"{address}/camera.ts"


def test_a_live_stream_that_ends_is_opened_again_as_a_new_session(tmp_path, stream):
    with Station(tmp_path) as station:
        station.add("gate", stream, buffer_frames=100)
        until(lambda: len(station.frames_of(session=2)) == 20, "a third session came")
        for session in range(3):
            frames = station.frames_of(session=session)
            assert [frame.header.index for frame in frames] == list(range(20))
            assert [frame_number(frame.image) for frame in frames] == list(range(20))
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
    reader = LiveReader(settings, SIZE_PX, buffers, counters, start_thread=start_daemon)
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
    assert "test_reader.py:" in line


def test_a_file_on_which_something_unforeseen_fails_has_failed_alone(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", 20)
    monkeypatch.setattr(Resizer, "__call__", lambda resize, frame: frame.no_such_thing)  # no file on disk brings it out
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4")
        status = ended(station)
    assert (status.state, status.decoded) == ("failed", 0)
    assert "unforeseen failure in test_reader.py" in status.error


def test_a_thread_stuck_in_ffmpeg_is_left_to_itself_and_another_takes_over(tmp_path, stream, monkeypatch, caplog):
    """No real server can hold FFmpeg beyond its limits on demand, so the opener of the first connection does."""
    release, closed_in = threading.Event(), []
    opened = []

    def open_stuck_at_first(*arguments, **options):
        first = not opened
        opened.append(threading.current_thread())
        if first:
            assert release.wait(60.0)
        source = open_source(*arguments, **options)
        if first:
            close = source.close
            monkeypatch.setattr(source, "close", lambda: (closed_in.append(threading.current_thread()), close()))
        return source

    monkeypatch.setattr(live_reader_module, "open_source", open_stuck_at_first)
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
        return open_source(*arguments, **options)

    clock_s = [0.0]
    monkeypatch.setattr(live_reader_module, "open_source", open_stuck)
    buffers = FrameBuffers(time.monotonic)
    settings = CameraSettings.model_validate({"id": "gate", "url": stream})
    counters = FrameCounters(tmp_path / "gate.ledger")
    reader = LiveReader(settings, SIZE_PX, buffers, counters, start_thread=start_daemon, now=lambda: clock_s[0])
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


def test_a_file_whose_buffer_is_full_is_not_stuck(tmp_path):
    write_video(tmp_path / "a.mp4", 10)
    clock_s = [0.0]
    buffers = FrameBuffers(time.monotonic)
    settings = CameraSettings.model_validate({"id": "gate", "url": str(tmp_path / "a.mp4"), "buffer_frames": 1})
    threads = []
    reader = FileReader(
        settings,
        SIZE_PX,
        buffers,
        FrameCounters(tmp_path / "gate.ledger"),
        start_thread=lambda task: threads.append(threading.Thread(target=task, daemon=True)),
        now=lambda: clock_s[0],
    )
    reader.start()
    threads[0].start()
    until(lambda: reader.status().decoded == 2, "it waits for room")
    clock_s[0] = 1e6
    reader.check()
    assert len(threads) == 1
    reader.stop()
    buffers.remove_camera("gate")
    threads[0].join(10.0)
    assert reader.status().state == "stopped"
