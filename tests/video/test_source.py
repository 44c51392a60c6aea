"""Every kind of sound footage goes through the real decoder here; damage is in ``test_damaged_source.py``."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import VideoError
from pipeline.video.images import list_images
from pipeline.video.resizer import Resizer
from pipeline.video.source import open_source
from tests.shared import shared_path
from tests.video.decoding import complaint, decode, numbers
from tests.videos import (
    SIZE_PX,
    frame_number,
    numbered_frame,
    truncate,
    write_images,
    write_video,
)

# --- sound footage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("b_frames.mp4", {"b_frames": 3}),
        ("late_start_with_sound.mp4", {"first_pts": 100, "audio": True}),
        ("h264.avi", {}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("msmpeg4.avi", {"codec": "msmpeg4v2"}),
        ("matroska.mkv", {}),
        ("transport.ts", {"b_frames": 2}),
        ("raw.h264", {"container_format": "h264"}),
        ("odd name: 100%d é.mp4", {}),
    ],
)
def test_frame_i_that_is_yielded_is_frame_i_of_the_file(tmp_path, name, options):
    frames, source = decode(write_video(tmp_path / name, 40, **options))
    assert numbers(frames) == list(range(40))
    assert (source.decoded, source.corrupt, source.decode_errors, source.missing()) == (40, 0, 0, 0)
    assert not source.live


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_the_container_says_how_many_frames_to_expect_and_how_fast(tmp_path, name):
    with open_source(str(write_video(tmp_path / name, 12, fps=10)), SIZE_PX) as source:
        assert source.expected_frames == 12
        assert source.frame_rate_fps == 10.0


def test_what_was_promised_is_still_known_when_the_file_is_closed(tmp_path):
    _, source = decode(write_video(tmp_path / "a.mp4", 12))
    decode(write_video(tmp_path / "b.mp4", 3))  # would reuse memory that closing had freed
    assert (source.expected_frames, source.missing()) == (12, 0)


def test_time_stamps_are_the_containers_own(tmp_path):
    frames, _ = decode(write_video(tmp_path / "a.mp4", 5, fps=10, first_pts=30))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(30 + i, 10) for i in range(5)]


def test_a_raw_stream_without_time_stamps_gets_some_at_a_steady_rate(tmp_path):
    frames, source = decode(write_video(tmp_path / "raw.h264", 20, container_format="h264"))
    times_s = [float(frame.pts * frame.time_base) for frame in frames]
    assert source.frame_rate_fps is not None
    assert np.allclose(np.diff(times_s), 1 / source.frame_rate_fps)


def test_a_file_address_opens_like_a_path(tmp_path):
    path = write_video(tmp_path / "with space.mp4", 3)
    with open_source(path.as_uri(), SIZE_PX) as source:
        assert len(list(source)) == 3


def test_frames_come_at_the_asked_size_contiguous_and_each_with_its_own_memory(tmp_path):
    frames, _ = decode(write_video(tmp_path / "a.mp4", 4), size_px=(33, 47))
    for frame in frames:
        assert frame.image.shape == (33, 47, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous and frame.image.flags.owndata
    before = frames[1].image.copy()
    frames[0].image[:] = 0
    assert np.array_equal(frames[1].image, before)


def test_the_size_asked_for_may_be_the_files_own_and_images_stay_independent(tmp_path):
    frames, _ = decode(write_images(tmp_path / "rgb", 3), size_px=SIZE_PX)
    assert all(np.array_equal(frame.image, numbered_frame(i)) for i, frame in enumerate(frames))
    assert all(frame.image.flags.owndata for frame in frames)


def test_iteration_may_be_left_early(tmp_path):
    with open_source(str(write_video(tmp_path / "a.mp4", 30)), SIZE_PX) as source:
        for frame in source:
            if frame_number(frame.image) == 4:
                break
        assert source.decoded == 5
    source.close()


# --- what came, wanted or not -------------------------------------------------------------------------------------


def test_frames_that_nobody_wants_come_without_an_image_and_in_their_place(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30, fps=10)
    asked_s = []

    def every_third(media_time_s):
        asked_s.append(media_time_s)
        return len(asked_s) % 3 == 1

    with open_source(str(path), SIZE_PX) as source:
        came = [arrival for arrival in source.arrivals(every_third) if arrival is not None]
    assert asked_s == pytest.approx([i / 10 for i in range(30)])
    assert [arrival == "sampling" for arrival in came] == [i % 3 != 0 for i in range(30)]
    assert numbers([arrival for arrival in came if not isinstance(arrival, str)]) == list(range(0, 30, 3))
    assert (source.decoded, source.missing()) == (30, 0)


def test_the_size_that_frames_had_before_they_were_resized_is_told(tmp_path):
    with open_source(str(write_video(tmp_path / "a.mp4", 3, size_px=(90, 120))), SIZE_PX) as source:
        assert source.size_px is None
        list(source)
        assert source.size_px == (90, 120)


# --- one resize for everything ------------------------------------------------------------------------------------


def flat(level, size_px=(240, 360)):
    return np.full((*size_px, 3), level, np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_a_grey_image_and_a_grey_video_come_out_alike(tmp_path, suffix):
    """JPEG uses the full range of values, video the limited one: both must reach the encoder as the same grey."""
    levels = [16, 77, 128, 235]
    images = write_images(tmp_path / "images", (flat(level) for level in levels), suffix=suffix)
    video = write_video(tmp_path / "video.avi", (flat(level) for level in levels), size_px=(240, 360), gop=1)
    for from_image, from_video, level in zip(decode(images)[0], decode(video)[0], levels, strict=True):
        assert abs(from_image.image.astype(int) - level).max() <= 1
        assert abs(from_video.image.astype(int) - level).max() <= 3


def test_single_channel_images_become_rgb(tmp_path):
    folder = tmp_path / "grey"
    folder.mkdir()
    for i, level in enumerate([10, 200]):
        Image.fromarray(np.full((24, 32), level, np.uint8)).save(folder / f"{i:03d}.tif")
    frames, _ = decode(folder)
    assert [frame.image.mean() for frame in frames] == [10.0, 200.0]
    assert frames[0].image.shape == (*SIZE_PX, 3)


@given(order=st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_a_frames_pixels_do_not_depend_on_the_frames_before_it(order):
    sizes_px = [(48, 64), (24, 32), (90, 33), (48, 64), (17, 64), (240, 360)]
    formats = ["yuv420p", "rgb24", "gray", "yuvj420p", "bgr24", "yuv420p"]
    frames = [
        av.VideoFrame.from_ndarray(numbered_frame(7 * i, size), format="rgb24").reformat(format=pixel_format)
        for i, (size, pixel_format) in enumerate(zip(sizes_px, formats, strict=True))
    ]
    shared = Resizer((32, 32))
    for i in order:
        assert np.array_equal(shared(frames[i]), Resizer((32, 32))(frames[i]))


def test_the_resize_averages_areas():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    resized = Resizer((16, 16))(av.VideoFrame.from_ndarray(stripes, format="rgb24"))
    assert resized is not None
    assert abs(resized.astype(int) - 100).max() <= 1


# --- folders of images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".bmp", ".tif", ".TIF", ".webp"])
def test_a_folder_of_images_is_a_stream(tmp_path, suffix):
    frames, source = decode(write_images(tmp_path / "images", 12, suffix=suffix))
    assert numbers(frames) == list(range(12))
    assert [frame.pts for frame in frames] == list(range(12))
    assert frames[5].pts * frames[5].time_base == Fraction(5, 10)
    assert (source.expected_frames, source.missing(), source.live) == (12, 0, False)


def test_images_are_ordered_by_number_with_or_without_zeros(tmp_path):
    frames, _ = decode(write_images(tmp_path / "plain", 12, name="frame_{}", first=0))
    assert numbers(frames) == list(range(12))


def test_what_macs_and_file_managers_leave_among_images_is_passed_over(tmp_path):
    folder = write_images(tmp_path / "Test001", 3, suffix=".tif")
    (folder / "._001.tif").write_bytes(b"\x00\x05\x16\x07")
    (folder / ".DS_Store").write_bytes(b"\x00")
    (folder / "Thumbs.db").write_bytes(b"\x00")
    assert [path.name for path in list_images(folder)] == ["001.tif", "002.tif", "003.tif"]
    assert len(decode(folder)[0]) == 3


@pytest.mark.parametrize("image_fps", [None, 12.5, 30_000 / 1001])
def test_images_come_at_the_rate_at_which_they_were_filmed(tmp_path, image_fps):
    folder = write_images(tmp_path / "images", 4)
    with open_source(str(folder), SIZE_PX, image_fps=image_fps) as source:
        times_s = [float(frame.pts * frame.time_base) for frame in source]
    rate_fps = image_fps or 10.0
    assert source.frame_rate_fps == rate_fps
    assert times_s == pytest.approx(np.arange(4) / rate_fps)


def test_the_pair_of_an_image_is_as_much_earlier_as_its_rate_says(tmp_path):
    folder = write_images(tmp_path / "images", 6)
    with open_source(str(folder), SIZE_PX, gap_s=0.1, image_fps=25.0) as source:
        gaps_s = [frame.previous.gap_s for frame in source if frame.previous is not None]
    assert gaps_s == pytest.approx([0.04, 0.08, 0.12, 0.12, 0.12])


@pytest.mark.parametrize("loop", [False, True])
def test_a_video_is_given_no_rate(tmp_path, loop):
    path = write_video(tmp_path / "a.mp4", 2)
    with pytest.raises(VideoError, match=r"gate \(.*a.mp4\): image_fps: expected a folder of images, got a file"):
        open_source(str(path), SIZE_PX, name="gate", loop=loop, image_fps=12.5)


def test_an_image_that_cannot_be_decoded_is_counted_and_the_others_keep_their_time(tmp_path):
    folder = write_images(tmp_path / "images", 6)
    (folder / "003.png").write_bytes(b"no picture")
    truncate(folder / "005.png", fraction=0.3)
    frames, source = decode(folder)
    assert numbers(frames) == [0, 1, 3, 5]
    assert [frame.pts for frame in frames] == [0, 1, 3, 5]
    assert (source.corrupt + source.decode_errors, source.missing()) == (2, 2)


def test_a_png_that_is_called_jpg_decodes_as_what_it_is(tmp_path):
    folder = write_images(tmp_path / "images", 3)
    for path in folder.iterdir():
        path.rename(path.with_suffix(".jpg"))
    assert numbers(decode(folder)[0]) == [0, 1, 2]


def test_images_of_several_sizes_all_come_at_the_asked_size(tmp_path):
    sizes_px = [(48, 64), (96, 128), (40, 100)]
    folder = write_images(tmp_path / "images", (numbered_frame(i, size) for i, size in enumerate(sizes_px)))
    frames, _ = decode(folder)
    assert numbers(frames) == [0, 1, 2]


def test_a_folder_of_two_kinds_of_images_is_refused(tmp_path):
    folder = write_images(tmp_path / "images", 2)
    write_images(folder, 2, suffix=".jpg")
    assert "expected images of one kind, got jpeg and png" in complaint(folder)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    assert "got a folder without any" in complaint(tmp_path)


# --- real footage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relative", "count", "first_pts"),
    [
        ("data/cameras/highway.avi", 374, 0),
        ("data/cameras/car-detection.mp4", 377, 0),
        ("data/ped2/training/videos/01_001.avi", 120, 1),
        ("data/ped2/testing/frames/01_0009", 120, 0),
    ],
)
def test_real_footage_decodes_to_the_last_frame(relative, count, first_pts):
    frames, source = decode(shared_path(relative), (32, 48))
    assert (len(frames), source.expected_frames, source.missing(), source.corrupt) == (count, count, 0, 0)
    assert frames[0].pts == first_pts
    assert np.all(np.diff([float(frame.pts * frame.time_base) for frame in frames]) > 0)
