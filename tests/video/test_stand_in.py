"""A file that stands in for a camera: real time, endless, one clock, and whatever files there are."""

import itertools
from contextlib import closing
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.cameras import check_camera
from pipeline.errors import VideoError
from pipeline.video.container import ContainerFeed
from pipeline.video.images import ImageFeed
from pipeline.video.opening import open_file
from pipeline.video.source import VideoSource
from pipeline.video.stand_in import TIME_BASE, StandInClock, StandInFeed, StandInPackets
from tests.video.decoding import complaint, decode, numbers
from tests.video.recorders import camera, clips, is_in_a_row, recorded_s, recording
from tests.video.station import Station, until
from tests.videos import SIZE_PX, audio_only, frame_number, numbered_frame, truncate, write_images, write_video


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self):
        self.now_s = 5000.0

    def now(self):
        return self.now_s

    def sleep(self, seconds):
        assert 0.0 < seconds <= 0.1
        self.now_s += seconds


def feed_of(path):
    label = path.name
    return ImageFeed(path, label) if path.is_dir() else ContainerFeed(open_file(path, label), live=False, label=label)


def played(path, frames):
    """So many frames of a stand-in, each with the second at which it came."""
    clock, came = Clock(), []
    feed = StandInFeed(lambda: feed_of(path), path.name, now=clock.now, sleep=clock.sleep)
    with VideoSource(feed, SIZE_PX, live=True, label=path.name) as source:
        sound = (arrival for arrival in source.arrivals() if arrival is not None and not isinstance(arrival, str))
        for frame in itertools.islice(sound, frames):
            came.append((frame, clock.now_s - 5000.0))
    return came


def write_timed(path, pts, *, fps=25, options=None):
    """A video with a frame at each of these times, in frames of ``fps``."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"bf": "0", "crf": "12", "threads": "1"})
        stream.height, stream.width = SIZE_PX
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 10
        stream.codec_context.time_base = Fraction(1, fps)
        for number, ticks in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = ticks, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


UNEVEN = [0, 1, 2, 6, 7, 20, 21, 22, 40, 41]
FILES = {
    "reordered.mp4": lambda path: write_video(path, 12, b_frames=2),
    "late.ts": lambda path: write_video(path, 12, b_frames=2, first_pts=5000),
    "sound.mkv": lambda path: write_video(path, 12, audio=True),
    "raw.h264": lambda path: write_video(path, 12, container_format="h264"),
    "old.avi": lambda path: write_video(path, 12, codec="mpeg4"),
    "uneven.mkv": lambda path: write_timed(path, UNEVEN),
    "edited.mp4": lambda path: write_video(path, 17, first_pts=-5),
    "one.mp4": lambda path: write_video(path, 1),
    "images": lambda path: write_images(path, 4, suffix=".jpg"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_round_brings_the_files_frames_when_they_are_due_on_a_clock_that_goes_on(tmp_path, name):
    path = FILES[name](tmp_path / name)
    once, _ = decode(path)
    frames, at_s = zip(*played(path, 3 * len(once) + 1), strict=True)
    assert numbers(frames[: len(once)]) == numbers(once)
    for number, frame in enumerate(frames):
        assert np.array_equal(frame.image, once[number % len(once)].image)
        assert frame.time_base == TIME_BASE
    times_s = [float(frame.pts * frame.time_base) for frame in frames]
    assert times_s == pytest.approx(at_s, abs=1e-4)
    assert all(earlier < later for earlier, later in itertools.pairwise(times_s))
    own_s = [float(frame.pts * frame.time_base) for frame in once]
    for begin in range(0, len(frames) - 1, len(once)):
        assert np.diff(times_s[begin : begin + len(once)]) == pytest.approx(np.diff(own_s), abs=1e-4)
    if len(once) > 1:
        between_s = times_s[len(once)] - times_s[len(once) - 1]
        assert between_s == pytest.approx(0.1 if path.is_dir() else 0.04)


def test_frames_that_an_edit_list_hides_are_hidden_in_every_round(tmp_path):
    frames = [frame for frame, _ in played(FILES["edited.mp4"](tmp_path / "edited.mp4"), 24)]
    assert numbers(frames) == [*range(5, 17), *range(5, 17)]


def test_a_gap_in_a_recording_is_left_out_and_a_shorter_one_is_waited_for(tmp_path):
    path = write_timed(tmp_path / "events.mkv", [0, 1, 2, 40, 41, 10_000, 10_001])
    times_s = [at_s for _, at_s in played(path, 8)]
    assert np.diff(times_s) == pytest.approx([0.04, 0.04, 1.52, 0.04, 0.04, 0.04, 0.04], abs=2e-3)


def test_whoever_reads_is_asked_ten_times_per_second_whether_it_goes_on(tmp_path):
    path, clock = write_timed(tmp_path / "slow.mkv", [0, 40, 80]), Clock()
    feed = StandInFeed(lambda: feed_of(path), "slow", now=clock.now, sleep=clock.sleep)
    came = list(itertools.islice(feed.frames(), 3 * 17))
    feed.close()
    assert sum(raw is None for raw in came) >= 40


times = st.none() | st.floats(-1e6, 1e6, allow_nan=False)


@given(
    frames=st.lists(st.tuples(times, st.floats(0.0, 10.0), st.booleans()), min_size=2, max_size=40),
    rate_fps=st.none() | st.floats(0.001, 1000.0),
)
def test_the_clock_rises_whatever_a_file_says_and_stays_near_real_time(frames, rate_fps):
    clock, now, last = StandInClock(rate_fps), 100.0, None
    for media_time_s, work_s, begins_round in frames:
        now += work_s
        if begins_round:
            clock.begin_round()
        due = clock.next_frame(media_time_s, now)
        assert last is None or due.pts > last
        assert now - 0.5 - 1e-6 <= due.at_s <= now + 2.0 + 1e-6
        assert due.at_s - 100.0 - frames[0][1] == pytest.approx(float(due.pts * TIME_BASE), abs=1e-4)
        now, last = max(now, due.at_s), due.pts


def test_a_leap_of_the_file_is_a_cut_though_the_clock_goes_on_and_a_time_that_stands_still_is_none():
    clock = StandInClock(25.0)
    cuts = [clock.next_frame(time_s, 1000.0).cut for time_s in (7.0, 7.04, 7.04, 7.5, 60.0, 60.04, 8.0)]
    assert cuts == [False, False, False, False, True, False, True]
    clock.begin_round()
    assert [clock.next_frame(time_s, 1000.0).cut for time_s in (7.0, 7.04)] == [True, False]


def test_damage_takes_its_time_like_sound_frames(tmp_path):
    folder = write_images(tmp_path / "images", 6)
    for name in ("003.png", "004.png"):
        (folder / name).write_bytes(b"no image")
    clock, came = Clock(), []
    feed = StandInFeed(lambda: feed_of(folder), "images", now=clock.now, sleep=clock.sleep)
    for raw in itertools.islice((raw for raw in feed.frames() if raw is not None), 9):
        came.append((isinstance(raw, str), round(clock.now_s - 5000.0, 3)))
    assert came[:6] == [(False, 0.0), (False, 0.1), (True, 0.2), (True, 0.3), (False, 0.4), (False, 0.5)]
    assert came[6:] == [(False, 0.6), (False, 0.7), (True, 0.8)]


def nothing(path):
    path.write_bytes(b"")
    return path


def text(path):
    path.write_text("no video")
    return path


def damaged_images(path):
    write_images(path, 1)
    for image in path.iterdir():
        image.write_bytes(b"no image")
    return path


def no_images(path):
    path.mkdir()
    return path


WRONG = {
    "empty.mp4": (nothing, "expected a video file, got an empty file"),
    "text.mp4": (text, "expected a video file, got something else"),
    "sound.mp4": (audio_only, "expected a video stream, got only: audio"),
    "none.mp4": (lambda path: path, "got nothing there"),
    "folder": (no_images, "got a folder without any"),
    "damaged": (damaged_images, "expected frames, got none that can be decoded"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_played_is_refused_in_one_line_and_not_tried_round_after_round(tmp_path, name):
    make, said = WRONG[name]
    path = make(tmp_path / name)
    assert said in complaint(path, loop=True)
    finding = check_camera(camera(str(path), loop=True))
    assert (finding.state, finding.detail.count(str(path))) == ("failed", 1)


def test_a_file_that_was_cut_off_plays_what_is_there(tmp_path):
    path = truncate(write_video(tmp_path / "a.mp4", 30), tmp_path / "cut.mp4")
    once, _ = decode(path)
    assert 0 < len(once) < 30
    assert numbers(frame for frame, _ in played(path, 2 * len(once))) == 2 * numbers(once)


# --- as a camera --------------------------------------------------------------------------------------------------


def test_a_reader_takes_it_for_a_live_camera_of_one_session(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10, fps=100)
    with Station(tmp_path) as station:
        reader = station.add("gate", path, loop=True)
        assert reader.live
        until(lambda: len(station.frames_of()) > 35, "more frames come than the file has")
        status, frames = station.status(), station.frames_of()
    assert (status.live, status.state, status.error, status.session) == (True, "streaming", "", 0)
    assert [frame.header.index for frame in frames] == list(range(len(frames)))
    assert is_in_a_row([frame_number(frame.image) for frame in frames], of=10)
    first, last = frames[0].header, frames[-1].header
    assert last.media_time_s - first.media_time_s == pytest.approx((len(frames) - 1) / 100, abs=1.0)


def test_one_that_is_taken_away_is_a_camera_that_is_off_and_comes_back(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10, fps=100)
    with Station(tmp_path) as station:
        station.add("gate", path, loop=True)
        until(station.frames_of, "frames come")
        away = path.rename(tmp_path / "away.mp4")
        until(lambda: "got nothing there" in station.status().error, "the reader says what is wrong")
        away.rename(path)
        until(lambda: station.frames_of(session=1), "frames of another session come")
        assert (station.status().state, station.status().error) == ("streaming", "")


def test_check_says_that_it_is_none(tmp_path):
    finding = check_camera(camera(str(write_video(tmp_path / "a.mp4", 5, fps=50)), loop=True))
    assert finding.state == "ok"
    assert finding.detail.startswith("64 x 48, h264, 50 fps, ")
    assert finding.detail.endswith(" to open and see 10 frames, a file that stands in for a camera")


@pytest.mark.parametrize("name", ["a.mp4", "images"])
def test_it_is_recorded_over_its_rounds_like_a_camera(tmp_path, name):
    path = tmp_path / name
    made = write_video(path, 10, fps=100, b_frames=2) if name == "a.mp4" else write_images(path, 2, suffix=".jpg")
    frames = 2 if made.is_dir() else 10
    with recording(tmp_path / "out", camera(str(path), loop=True)) as (recorder,):
        recorded_s(recorder, 0.35)
        status = recorder.status()
    (found,) = clips(tmp_path / "out").values()
    whole = found[: len(found) // frames * frames]  # the last round ends in the middle of its reordered frames
    assert whole == len(whole) // frames * list(range(frames))
    assert len(whole) >= 2 * frames
    assert (status.reconnects, status.gaps, status.error) == (0, 0, "")


def test_damaged_pictures_of_a_folder_are_left_out_of_a_recording_and_an_empty_folder_is_named(tmp_path):
    folder = write_images(tmp_path / "images", 4, suffix=".jpg")
    (folder / "002.jpg").write_bytes(b"no image")
    clock = Clock()
    with closing(StandInPackets(folder, "gate", now=clock.now, sleep=clock.sleep)) as packets:
        came = list(itertools.islice((packet for packet in packets.demux() if packet is not None), 6))
    assert [packet.pts for packet in came] == sorted({packet.pts or 0 for packet in came})
    assert len({bytes(packet) for packet in came}) == 3
    with pytest.raises(VideoError, match="gate: expected a folder of images, got a folder without any"):
        StandInPackets(no_images(tmp_path / "none"), "gate")


def test_a_folder_that_was_filmed_at_a_rate_of_its_own_plays_and_is_recorded_at_it(tmp_path):
    folder, clock = write_images(tmp_path / "images", 3, suffix=".jpg"), Clock()
    feed = StandInFeed(lambda: ImageFeed(folder, "gate", 12.5), "gate", now=clock.now, sleep=clock.sleep)
    frames = list(itertools.islice((raw for raw in feed.frames() if raw is not None), 7))
    assert np.diff([float(raw.pts * raw.time_base) for raw in frames]) == pytest.approx([0.08] * 6)
    with closing(StandInPackets(folder, "gate", image_fps=12.5, now=clock.now, sleep=clock.sleep)) as packets:
        came = itertools.islice((packet for packet in packets.demux() if packet is not None), 7)
        times_s = [float(packet.pts * packet.time_base) for packet in came]
    assert np.diff(times_s) == pytest.approx([0.08] * 6, abs=0.041)  # JPEGs come with ticks of 1/25 s
    with pytest.raises(VideoError, match="gate: image_fps: expected a folder of images, got a file"):
        StandInPackets(write_video(tmp_path / "a.mp4", 2), "gate", image_fps=12.5)


def test_a_file_that_another_one_has_replaced_is_recorded_in_another_session(tmp_path):
    path, clock = write_video(tmp_path / "a.mp4", 5), Clock()
    with closing(StandInPackets(path, "gate", now=clock.now, sleep=clock.sleep)) as packets:
        came = (packet for packet in packets.demux() if packet is not None)
        assert len(list(itertools.islice(came, 7))) == 7
        write_video(path, 5, size_px=(96, 128))
        with pytest.raises(VideoError, match="gate: expected the file that was opened, got another one in its place"):
            list(came)
