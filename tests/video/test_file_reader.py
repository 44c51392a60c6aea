"""A file's reader on real files, sound, damaged and paced."""

import threading
import time

import numpy as np
import pytest

from pipeline.camera_settings import CameraSettings
from pipeline.runtime.buffer import FrameBuffers
from pipeline.runtime.frame_counters import FrameCounters
from pipeline.video.file_reader import FileReader
from pipeline.video.resizer import Resizer
from tests.video.station import GAP_S, SIZE_PX, Station, ended, until
from tests.videos import frame_number, truncate, write_images, write_video


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
        gap_s=GAP_S,
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


def test_a_file_on_which_something_unforeseen_fails_has_failed_alone(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", 20)
    monkeypatch.setattr(Resizer, "__call__", lambda resize, frame: frame.no_such_thing)  # no file on disk brings it out
    with Station(tmp_path) as station:
        station.add("gate", tmp_path / "a.mp4")
        status = ended(station)
    assert (status.state, status.decoded) == ("failed", 0)
    assert "unforeseen failure in test_file_reader.py" in status.error


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
        gap_s=GAP_S,
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
