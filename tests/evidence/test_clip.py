"""Clips cut out of kept packets: what FFmpeg shows of them is what the camera sent, at its times."""

import pytest

from pipeline.errors import VideoError
from pipeline.evidence.clip import Clip
from pipeline.evidence.decoding import picture_at, picture_in_clip
from tests.evidence.made import filled, shown_in
from tests.videos import frame_number, write_images, write_video


def cut_of(ring, from_s, folder):
    cut = ring.cut(0, from_s)
    clip = Clip(folder, cut.packets)
    assert clip.write(cut.packets) == len(cut.packets)
    clip.close()
    return clip, cut


@pytest.mark.parametrize(
    ("name", "video", "suffix"),
    [
        ("camera.mp4", {}, ".mp4"),
        ("reordered.mp4", {"b_frames": 2}, ".mp4"),
        ("start-codes.ts", {"b_frames": 2, "first_pts": 90}, ".mp4"),
        ("raw.h264", {}, ".mp4"),
        ("two-slices.mkv", {"slices": 2}, ".mp4"),
        ("hevc.mp4", {"codec": "libx265", "b_frames": 2}, ".mp4"),
        ("old.avi", {"codec": "mpeg4"}, ".mp4"),
        ("vp8.webm", {"codec": "libvpx"}, ".mkv"),
    ],
)
def test_a_clip_begins_with_a_keyframe_before_the_moment_and_shows_all_that_follows_at_its_times(
    tmp_path, name, video, suffix
):
    ring, times = filled(write_video(tmp_path / name, 60, size_px=(96, 128), **video))
    clip, cut = cut_of(ring, times[33], tmp_path)
    assert cut.reaches_back
    assert clip.path.suffix == suffix
    shown = shown_in(clip.path)
    first = shown[0][0]
    assert first <= 33 < first + 10 or name.startswith("vp8")
    assert [number for number, _ in shown] == list(range(first, 60))
    for number, at_s in shown:
        assert at_s == pytest.approx(times[number] - times[first], abs=0.002)
    assert (clip.first_s, clip.last_s) == (times[first], times[59])


@pytest.mark.parametrize("video", [{}, {"b_frames": 2}, {"codec": "libx265"}])
def test_the_picture_of_a_moment_is_the_one_that_was_shown_then_from_the_ring_and_from_the_clip(tmp_path, video):
    ring, times = filled(write_video(tmp_path / "camera.mp4", 60, size_px=(96, 128), **video))
    clip, _ = cut_of(ring, times[20], tmp_path)
    for number in (20, 29, 30, 44, 59):
        image, at_s = picture_at(ring.cut(0, times[number]).packets, times[number])
        assert (image.shape, frame_number(image), at_s) == ((96, 128, 3), number, times[number])
        assert frame_number(picture_in_clip(clip.path, times[number] - clip.first_s)) == number


def test_images_become_a_clip_of_jpegs_and_the_picture_is_the_image_itself(tmp_path):
    ring, times = filled(write_images(tmp_path / "images", 30, suffix=".png", size_px=(47, 65)), image_fps=5.0)
    clip, _ = cut_of(ring, times[12], tmp_path)
    assert clip.path.suffix == ".mp4"
    shown = shown_in(clip.path)
    assert [number for number, _ in shown] == list(range(12, 30))
    assert [at_s for _, at_s in shown] == pytest.approx([0.2 * n for n in range(18)], abs=0.002)
    image, _ = picture_at(ring.cut(0, times[17]).packets, times[17])
    assert (image.shape, frame_number(image)) == ((47, 65, 3), 17)


def test_what_no_container_takes_as_it_is_becomes_a_clip_of_jpegs(tmp_path):
    ring, times = filled(write_video(tmp_path / "old.avi", 60, codec="msmpeg4v2", size_px=(96, 128)))
    clip, _ = cut_of(ring, times[33], tmp_path)
    shown = shown_in(clip.path)
    first = shown[0][0]
    assert first <= 33 and [number for number, _ in shown] == list(range(first, 60))
    assert shown[-1][1] == pytest.approx(times[59] - times[first], abs=0.002)
    image, _ = picture_at(ring.cut(0, times[40]).packets, times[40])
    assert frame_number(image) == 40


def test_a_clip_goes_on_over_the_rounds_of_a_stand_in_and_ends_where_other_pictures_begin(tmp_path):
    small, large = write_video(tmp_path / "a.mp4", 20), write_video(tmp_path / "b.mp4", 20, size_px=(96, 128))
    ring, _ = filled(small)
    tap = ring.connect()
    tap.begin_session(0)
    from pipeline.video.source import file_feed

    def play(path, begins_s):
        for raw in file_feed(path, "round", tap=tap).frames():
            if raw is not None:
                tap.shown(raw.frame, begins_s + float(raw.pts * raw.time_base))

    play(small, 0.8)
    play(large, 1.6)
    cut = ring.cut(0, 0.5)
    clip = Clip(tmp_path, cut.packets)
    written = clip.write(cut.packets)
    clip.close()
    assert [number for number, _ in shown_in(clip.path)] == [*range(10, 20), *range(20)]
    assert len(cut.packets) - written == 20


def test_without_packets_whose_times_are_known_there_is_no_clip_and_no_file(tmp_path):
    with pytest.raises(VideoError, match="expected packets whose times are known, got none"):
        Clip(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
