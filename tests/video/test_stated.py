"""What headers state of footage, set against what there is."""

import numpy as np
import pytest

from pipeline.video.source import open_source
from pipeline.video.stated import actual_fps, is_fragmented
from tests.datasets.odd_files import state_frames, write_fragmented, write_spaced
from tests.videos import truncate, write_video


def test_an_mp4_in_fragments_does_not_say_how_many_frames_it_has(tmp_path):
    path = write_fragmented(tmp_path / "parts.mp4", 30)
    with open_source(str(path), (16, 16)) as source:
        assert source.expected_frames is None
        assert (len(list(source)), source.missing()) == (30, 0)


def test_more_frames_than_the_file_has_room_for_are_not_expected(tmp_path):
    path = state_frames(write_video(tmp_path / "a.avi", 30), 2**30)
    with open_source(str(path), (16, 16)) as source:
        assert source.expected_frames is None
        assert (len(list(source)), source.missing()) == (30, 0)


def test_the_clock_of_an_avi_is_not_taken_for_frames(tmp_path):
    path = write_spaced(tmp_path / "slow.avi", 20)
    with open_source(str(path), (16, 16)) as source:
        assert (len(list(source)), source.missing()) == (20, 0)
    with open_source(str(truncate(path, fraction=0.8)), (16, 16)) as source:
        assert len(list(source)) < 20
        assert source.missing() > 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        b"\x00\x00\x00\x08ftyp" * 3,
        b"\x00\x00\x00\x08ftyp\x00\x00\x00\x00mdat" + b"\x00\x00\x00\x08moof",  # mdat to the end of the file
        b"\x00\x00\x00\x01mdat" + b"\xff" * 8 + b"\x00\x00\x00\x08moof",
        b"\x00\x00\x00\x08ftyp\xff\xff\xff\xffmoov",
    ],
)
def test_a_file_without_fragments_has_none_however_odd_its_boxes(tmp_path, data):
    (tmp_path / "a.mp4").write_bytes(data)
    assert not is_fragmented(tmp_path / "a.mp4")


def test_a_fragment_behind_a_large_box_is_found(tmp_path):
    large = b"\x00\x00\x00\x01mdat" + (26).to_bytes(8) + bytes(10)
    (tmp_path / "a.mp4").write_bytes(b"\x00\x00\x00\x08ftyp" + large + b"\x00\x00\x00\x08moof")
    assert is_fragmented(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("stated", "times_s", "expected"),
    [
        (25.0, np.arange(50) / 25, 25.0),
        (25.0, np.round(np.arange(50) / 25, 2), 25.0),
        (25.0, np.arange(50) / 5, 5.0),
        (30.0, np.arange(50) / 29.97, 30.0),
        (10.0, np.concatenate([np.arange(9) / 10, 1000 + np.arange(9) / 10]), 10.0),  # a leap of the clock
        (10.0, np.concatenate([np.arange(9) / 10, np.arange(9) / 10]), 10.0),  # two recordings joined
        (5.5, np.cumsum([0.04, 0.04, 0.04, 0.6] * 9), 5.5),  # a changing rate, of which the header states the mean
        (25.0, [0.0], 25.0),
        (25.0, [], 25.0),
        (25.0, [3.0, 3.0, 2.0], 25.0),
    ],
)
def test_a_stated_rate_is_believed_unless_the_frames_contradict(stated, times_s, expected):
    assert actual_fps(stated, times_s) == pytest.approx(expected, rel=1e-9)
