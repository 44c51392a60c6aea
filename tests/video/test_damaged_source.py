"""Files that are not what they should be, and every kind of damage, through the real decoder."""

import os
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import VideoError
from pipeline.video.source import open_source
from tests.video.decoding import complaint, decode, numbers
from tests.videos import (
    SIZE_PX,
    audio_only,
    truncate,
    write_images,
    write_video,
)


def test_a_missing_file_is_named(tmp_path):
    assert re.search(r"nowhere\.mp4: expected a video file .* got nothing there", complaint(tmp_path / "nowhere.mp4"))


def test_the_camera_is_named_beside_its_file(tmp_path):
    assert complaint(tmp_path / "nowhere.mp4", name="gate").startswith(f"gate ({tmp_path / 'nowhere.mp4'})")


def test_an_unreadable_file_is_refused():
    # Opens and cannot be read, even by root, for whom permissions mean nothing.
    assert "expected a readable file" in complaint("/proc/self/mem")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "got neither" in complaint(tmp_path / "pipe.mp4")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert "got an empty file" in complaint(tmp_path / "a.mp4")


def test_text_named_mp4_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_text("this is no video\n" * 100)
    assert "expected a video file, got something else" in complaint(tmp_path / "a.mp4")


def test_a_playlist_named_mp4_does_not_make_the_decoder_open_addresses(tmp_path):
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    assert "expected a video file" in complaint(tmp_path / "a.mp4")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_an_image_named_mp4_is_refused(tmp_path, suffix):
    folder = write_images(tmp_path / "images", 1, suffix=suffix)
    path = (folder / f"001{suffix}").rename(tmp_path / "a.mp4")
    assert "expected a video file" in complaint(path)


def test_an_mp4_without_its_index_is_refused_as_that(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4] + data[data.index(b"mdat") - 4 :])
    assert "without its index (moov)" in complaint(path)


def test_a_file_with_sound_only_is_refused(tmp_path):
    assert "expected a video stream, got only: audio" in complaint(audio_only(tmp_path / "a.mp4"))


def test_a_password_in_an_address_is_never_shown():
    text = complaint("rtsp://admin:s3cret@127.0.0.1:9/main?token=t0ken", name="gate", open_timeout_s=2.0)
    assert "s3cret" not in text
    assert "t0ken" not in text
    assert text.startswith("gate (rtsp://***@127.0.0.1:9/main")


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.5, 0.75, 0.95])
def test_a_truncated_file_says_how_many_frames_are_missing(tmp_path, fraction):
    path = truncate(write_video(tmp_path / "whole.mp4", 60), tmp_path / "cut.mp4", fraction=fraction)
    frames, source = decode(path)
    assert 0 < len(frames) < 60
    assert numbers(frames) == list(range(len(frames)))
    assert source.missing() == 60 - len(frames)
    assert source.corrupt + source.decode_errors == 1  # the one that was cut through


def test_a_file_of_which_no_frame_is_left_is_an_error(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", 30)
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: whole.read_bytes().index(b"mdat") + 8])
    assert "expected frames, got none of 30 that can be decoded" in complaint(path)


def test_damage_in_the_middle_costs_only_the_frames_it_touches(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60, gop=10)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (len(data) - start) // 2
    data[middle : middle + 120] = np.random.default_rng(0).bytes(120)
    path.write_bytes(data)
    frames, source = decode(path)
    assert source.decoded < 60
    assert source.corrupt + source.decode_errors >= 1
    with open_source(str(path), SIZE_PX) as again:
        came = [arrival for arrival in again.arrivals() if arrival is not None]
    assert came.count("corrupt") == source.corrupt
    assert came.count("decode_error") == source.decode_errors
    assert source.missing() == 60 - source.decoded
    assert frames[0].pts == 0
    assert numbers(frames)[-5:] == [55, 56, 57, 58, 59]


@given(position=st.integers(0, 10_000), junk=st.binary(min_size=1, max_size=64))
def test_whatever_bytes_are_overwritten_decoding_ends_and_the_counts_are_right(tmp_path_factory, position, junk):
    folder = tmp_path_factory.getbasetemp() / "mutated"
    whole = folder / "whole.mp4"
    if not whole.exists():
        write_video(whole, 20, gop=5)
    data = bytearray(whole.read_bytes())
    at = position % len(data)
    data[at : at + len(junk)] = junk[: len(data) - at]
    path = folder / "mutated.mp4"
    path.write_bytes(data)
    try:
        frames, source = decode(path)
    except VideoError as error:
        assert "\n" not in str(error)
        return
    assert source.decoded == len(frames) > 0
    assert source.missing() >= 0
    assert all(frame.image.shape == (*SIZE_PX, 3) for frame in frames)
