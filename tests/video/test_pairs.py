"""Which frames make a pair: by a law of its own, and in what readers bring of real footage."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.video.images import ImageFeed
from pipeline.video.pairs import EarlierFrames, luma_of
from pipeline.video.sampling import PtsSampler
from pipeline.video.source import DecodedFrame, VideoSource, open_source
from pipeline.video.stand_in import StandInFeed
from tests.video.station import GAP_S, SIZE_PX, Station, ended
from tests.videos import numbered_frame, truncate, write_images, write_video

MIN_GAP_S, MAX_GAP_S, MOST_KEPT = 0.01, 0.5, 6


def gray(number):
    """A picture by which its number is known: its luma is the number, modulo 256."""
    return np.full((2, 2, 3), number % 256, np.uint8)


def pairs_of(times_s, wanted, gap_s=GAP_S):
    """Numbers of the other halves (None without one) and gaps, of frames at these times; of wanted ones."""
    earlier = EarlierFrames(gap_s, lambda frame: frame.to_ndarray())
    found = {}
    for number, time_s in enumerate(times_s):
        if wanted[number]:
            previous = earlier.add_wanted(time_s, gray(number))
            found[number] = None if previous is None else (int(previous.luma[0, 0]), previous.gap_s)
        else:
            earlier.add(time_s, av.VideoFrame.from_ndarray(gray(number), format="rgb24"))
        assert len(earlier) <= MOST_KEPT
    return found


def nearest(times_s, number, gap_s=GAP_S):
    """The law, word by word: number of the other half, or None."""
    since = max((i for i in range(1, number + 1) if times_s[i] < times_s[i - 1]), default=0)
    gaps = {i: times_s[number] - times_s[i] for i in range(since, number)}
    near = {i: abs(gap - gap_s) for i, gap in gaps.items() if MIN_GAP_S <= gap <= MAX_GAP_S}
    return min((i for i in near if near[i] <= min(near.values()) + gap_s / 25), default=None)


# Steps in 5 ms: rates that change, stalls, leaps back.
steps = st.lists(st.one_of(st.integers(5, 30), st.integers(60, 700), st.integers(-400, -1)), min_size=1, max_size=60)


@given(steps=steps, start=st.integers(0, 10**6), wanted=st.randoms(use_true_random=False))
def test_the_frame_nearest_to_the_gap_is_chosen_whatever_the_rate_does_and_never_across_a_leap_back(
    steps, start, wanted
):
    times_s = (np.cumsum([start, *steps]) * 0.005).tolist()
    found = pairs_of(times_s, [wanted.random() < 0.5 for _ in times_s])
    for number, pair in found.items():
        expected = nearest(times_s, number)
        assert (None if pair is None else pair[0]) == expected
        assert pair is None or pair[1] == pytest.approx(times_s[number] - times_s[expected], abs=1e-6)


@given(
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=120),
    gap_s=st.sampled_from([0.02, 0.1, 0.25]),
    share=st.sampled_from([0.0, 0.1, 1.0]),
)
@settings(max_examples=30)
def test_of_a_camera_of_any_rate_few_frames_are_kept_and_the_nearest_is_missed_by_a_quarter_of_the_gap_at_most(
    steps, gap_s, share
):
    times_s = (np.cumsum([7, *steps]) * 0.001).tolist()
    draw = np.random.default_rng(len(steps))
    for number, pair in pairs_of(times_s, (draw.random(len(times_s)) < share).tolist(), gap_s).items():
        best = nearest(times_s, number, gap_s)
        if pair is None:
            assert best is None or times_s[number] - times_s[best] > MAX_GAP_S - gap_s / 4
        else:
            off_s = abs(pair[1] - gap_s)
            assert MIN_GAP_S <= pair[1] <= MAX_GAP_S
            assert best is not None and off_s <= abs(times_s[number] - times_s[best] - gap_s) + gap_s / 4 + gap_s / 25


@pytest.mark.parametrize(
    ("fps", "gaps"),
    [
        (25, [None, 0.04, 0.08, 0.12, 0.12]),  # 0.08 is as near: the earlier
        (10, [None, 0.1, 0.1, 0.1, 0.1]),
        (1, [None, None, None]),
    ],
)
def test_the_first_frames_of_a_session_take_what_there_is(fps, gaps):
    found = pairs_of([number / fps for number in range(len(gaps))], [True] * len(gaps))
    assert [None if pair is None else round(pair[1], 6) for pair in found.values()] == gaps


@given(image=st.binary(min_size=36, max_size=36))
def test_brightness_is_computed_without_overflow(image):
    colours = np.frombuffer(image, np.uint8).reshape(3, 4, 3)
    expected = [[(77 * int(r) + 150 * int(g) + 29 * int(b) + 128) >> 8 for r, g, b in row] for row in colours]
    assert luma_of(colours).tolist() == expected
    assert luma_of(np.full((1, 1, 3), 255, np.uint8)).tolist() == [[255]]


def decoded(url, wanted=None, **options):
    """Frames that come of a source, with pairs; in the order of arrival, None for those thinned away."""
    with open_source(str(url), SIZE_PX, gap_s=GAP_S, **options) as source:
        arrivals = source.arrivals() if wanted is None else source.arrivals(wanted)
        return [arrival if isinstance(arrival, DecodedFrame) else None for arrival in arrivals if arrival is not None]


def test_a_still_camera_moves_by_exactly_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    first, *others = decoded(write_images(tmp_path / "still", [noise] * 4))
    assert first.previous is None
    for frame in others:
        assert frame.previous.gap_s == pytest.approx(0.1)
        assert np.array_equal(frame.previous.luma, luma_of(frame.image))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"b_frames": 2}),
        ("a.mp4", {"codec": "libx265"}),
        ("a.webm", {"codec": "libvpx-vp9"}),
        ("a.avi", {"codec": "mpeg4"}),
    ],
)
def test_a_camera_thinned_to_two_of_25_frames_has_the_pairs_that_it_would_have_unthinned(tmp_path, name, options):
    """Decoders go on, and leave the pictures alone that are held."""
    video = write_video(tmp_path / name, 75, fps=25, **options)
    every, thinned = decoded(video), decoded(video, PtsSampler(2.0).wants)
    kept = [number for number, frame in enumerate(thinned) if frame is not None]
    assert [thinned[number].previous is None for number in kept] == [True] + 6 * [False]
    for number in kept[1:]:
        frame = thinned[number]
        assert frame.previous.gap_s == pytest.approx(0.12)
        assert np.array_equal(frame.previous.luma, luma_of(every[number - 3].image))
        assert np.array_equal(frame.previous.luma, every[number].previous.luma)


def test_a_damaged_frame_is_nobodys_other_half(tmp_path):
    folder = write_images(tmp_path / "images", 5)
    truncate(folder / "003.png")
    frames = decoded(folder)
    assert frames[2] is None
    gaps = [0.0 if frame is None or frame.previous is None else round(frame.previous.gap_s, 3) for frame in frames]
    assert gaps == [0.0, 0.1, 0.0, 0.2, 0.1]


def test_another_size_of_picture_makes_no_motion(tmp_path):
    sizes = [(48, 64), (48, 64), (96, 128), (96, 128)]
    frames = decoded(write_images(tmp_path / "images", [numbered_frame(1, size) for size in sizes]))
    assert [frame.previous is None for frame in frames] == [True, False, True, False]


def test_both_halves_are_turned_upright_alike(tmp_path):
    picture = numbered_frame(5)
    folder = write_images(tmp_path / "images", [picture, picture], suffix=".jpg")
    for path in folder.iterdir():
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        data = path.read_bytes()
        path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    plain = decoded(write_images(tmp_path / "plain", [picture], suffix=".jpg"))[0]
    for wanted in (None, lambda time_s: time_s > 0.05):
        last = decoded(folder, wanted)[-1]
        assert not np.array_equal(last.image, plain.image)
        assert np.array_equal(last.previous.luma, luma_of(last.image))


def test_a_picture_too_large_to_be_held_is_resized_at_once(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", 12, fps=25)
    (_, expected) = filter(None, decoded(video, PtsSampler(2.0).wants))
    monkeypatch.setattr("pipeline.video.pairs._MOST_HELD_PIXELS", 100)
    (_, found) = filter(None, decoded(video, PtsSampler(2.0).wants))
    assert np.array_equal(found.previous.luma, expected.previous.luma)


def test_a_stand_in_has_no_pair_across_the_beginning_of_a_round(tmp_path):
    folder = write_images(tmp_path / "clip", 3)
    now_s = [0.0]

    def sleep(seconds):
        now_s[0] += seconds

    feed = StandInFeed(lambda: ImageFeed(folder, "clip"), "clip", now=lambda: now_s[0], sleep=sleep)
    found = []
    with VideoSource(feed, SIZE_PX, gap_s=GAP_S, live=True, label="clip") as source:
        for arrival in source.arrivals():
            if isinstance(arrival, DecodedFrame):
                found.append(arrival.previous is not None)
            if len(found) == 7:
                break
    assert found == [False, True, True, False, True, True, False]


def test_a_files_reader_hands_over_the_pairs_of_its_frames(tmp_path):
    video = write_video(tmp_path / "a.mp4", 30, fps=25)
    with Station(tmp_path) as station:
        station.add("gate", video, sample_fps=5)
        ended(station)
        frames = station.frames_of()
    expected = decoded(video)
    assert [frame.previous is not None for frame in frames] == [False] + (len(frames) - 1) * [True]
    assert len(frames) == 7
    for frame in frames:
        other = expected[frame.header.index].previous
        assert (frame.previous is None) == (other is None)
        assert other is None or np.array_equal(frame.previous.luma, other.luma)
        assert other is None or frame.previous.gap_s == other.gap_s
