"""What lies below a folder of footage: read where the decoder can, named where it cannot, and never left out unsaid."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.datasets.detect import open_dataset
from tests.datasets.refusals import complaint
from tests.datasets.trees import write_avenue, write_stc, write_ucsd
from tests.videos import audio_only, write_images, write_video


def write_sound(root: Path) -> Path:
    """Two sound clips of one's own; returns the folder that they lie in."""
    for number in (1, 2):
        write_video(root / f"training/videos/gate_{number:03d}.mp4", 5)
    return root / "training/videos"


def names(root: Path, **options) -> list[str]:
    return [clip.name for clip in open_dataset(root, need="train", **options).train]


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "container_format"),
    [
        ("gate_003.mts", "mpegts"),
        ("gate_003.flv", "flv"),
        ("gate_003.MP4", "mp4"),
        ("gate_003.h264", "h264"),
        ("gate_003.dat", "matroska"),
        ("gate_003", "avi"),
        ("2026-11-25/gate_003.mp4", "mp4"),
        ("2026-11-25/14/gate_003.ts", "mpegts"),
        ("gate_003.mp4/gate_003.mp4", "mp4"),
    ],
)
def test_what_the_decoder_reads_is_footage_whatever_it_is_called_and_however_deep(tmp_path, name, container_format):
    videos = write_sound(tmp_path)
    write_video(videos / name, 5, container_format=container_format)
    dataset = open_dataset(tmp_path, need="train")
    assert (len(dataset.train), dataset.scenes, dataset.passed_over) == (3, ("gate",), ())


@pytest.mark.parametrize(
    ("container_format", "codec", "size_px"), [("yuv4mpegpipe", "rawvideo", (48, 64)), ("dv", "dvvideo", (576, 720))]
)
def test_formats_that_only_probing_tells_are_read(tmp_path, container_format, codec, size_px):
    path = tmp_path / "training/videos/gate_001.bin"
    write_video(path, 3, codec=codec, container_format=container_format, size_px=size_px)
    assert names(tmp_path) == ["gate_001"]


@pytest.mark.parametrize(
    ("name", "scene"),
    [
        ("2026-11-25/01_003", "01"),
        ("monday/01_003", "01"),
        ("2026-11-25/cam1/gate_003", "gate"),
        ("2026-11-25/14/cam1/30.05", "cam1"),
        ("cam1/2026-11-25/10", "cam1"),
        ("cam1/20261125_101500", "cam1"),
        ("cam1/2026-11-25_10-15-00", "cam1"),
        ("cam1/10_15_00", "cam1"),
        ("20261125_101500", "20261125"),
    ],
)
def test_a_file_whose_name_says_no_camera_belongs_to_that_of_its_folder(tmp_path, name, scene):
    write_video(tmp_path / f"training/videos/{name}.mp4", 3)
    (clip,) = open_dataset(tmp_path, need="train").train
    assert (clip.name, clip.scene) == (name, scene)


def test_links_to_footage_elsewhere_are_followed_and_none_twice(tmp_path):
    videos = write_sound(tmp_path)
    write_video(tmp_path / "nas/gate_003.mp4", 5)
    (videos / "gate_003.mp4").symlink_to(tmp_path / "nas/gate_003.mp4")
    (videos / "gate_004").symlink_to(tmp_path / "nas")
    (videos / "latest.mp4").symlink_to("gate_002.mp4")
    (videos / "here").symlink_to(videos)
    dataset = open_dataset(tmp_path, need="train")
    assert [clip.name for clip in dataset.train] == ["gate_001", "gate_002", "gate_003"]
    assert [line.split(": ")[0] for line in dataset.passed_over] == [
        str(videos / name) for name in ("gate_004/gate_003.mp4", "here", "latest.mp4")
    ]
    assert all("once more" in line for line in dataset.passed_over)


def test_videos_among_the_folders_of_pictures_are_read(tmp_path):
    write_images(tmp_path / "training/frames/gate_001", 5, suffix=".jpg")
    write_images(tmp_path / "training/frames/2026-11-25/gate_002", 5, suffix=".JPG", name="{}")
    write_video(tmp_path / "training/frames/gate_003.mkv", 5)
    assert names(tmp_path) == ["gate_001", "2026-11-25/gate_002", "gate_003"]


def test_a_name_that_is_not_utf_8_is_read_where_it_says_its_scene(tmp_path):
    videos = write_sound(tmp_path)
    footage = (videos / "gate_001.mp4").read_bytes()
    for name in (b"gate_\xff.mp4", b"yard\xff_001.mp4"):
        Path(os.fsdecode(os.fsencode(videos) + b"/" + name)).write_bytes(footage)
    dataset = open_dataset(tmp_path, need="train")
    assert [clip.name for clip in dataset.train] == ["gate_001", "gate_002", "gate_\\udcff"]
    (line,) = dataset.passed_over
    assert line.isprintable()
    assert "yard\\udcff_001.mp4: scene" in line


# --- what is passed over --------------------------------------------------------------------------------------------


def _link(target):
    return lambda path: path.symlink_to(target)


def _folder(name, make):
    return lambda path: make(path / name)


BAD = {
    "one frame": ("gate_003.mp4", lambda path: write_video(path, 1), "2 frames or more that can be decoded, got 1"),
    "empty": ("gate_003.mp4", Path.touch, "got an empty file"),
    "text": ("gate_003.mp4", lambda path: path.write_text("text"), "expected a video file"),
    "sound only": ("gate_003.mp4", audio_only, "expected a video stream, got only: audio"),
    "no frame decodes": (
        "gate_003.mp4",
        lambda path: path.write_bytes(write_video(path, 5).read_bytes()[:1000]),
        "expected",
    ),
    "still being written": (
        "gate_003.mp4",
        lambda path: path.write_bytes(write_video(path, 5).read_bytes()[:24] + bytes(500)),
        "an mp4 without its index (moov)",
    ),
    "link to nothing": ("gate_003.mp4", _link("gone.mp4"), "a link to nothing"),
    "link to itself": ("gate_003.mp4", _link("gate_003.mp4"), "a link to nothing"),
    "pipe": ("gate_003.mp4", os.mkfifo, "neither a file nor a folder"),
    "download": ("gate_3.mp4.part", lambda path: write_video(path, 5, container_format="mp4"), "still writes (.part)"),
    "backup": ("gate_001.mp4.bak", lambda path: write_video(path, 5, container_format="mp4"), "a copy of another file"),
    "no scene": ("morning.mp4", lambda path: write_video(path, 5), "SCENE_NUMBER (01_001, gate_007), got 'morning'"),
    "bad scene": ("front door_003.mp4", lambda path: write_video(path, 5), "expected 1 to 64 letters"),
    "hidden": (".gate_003.mp4", lambda path: write_video(path, 5), "something hidden"),
    "picture": ("gate_1.jpg", lambda path: write_images(path.parent, 1, suffix=".jpg", name="gate_{}"), "picture"),
    "picture by content": ("gate_001.thm", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(99)), "a video"),
    "subtitles": ("gate_001.srt", lambda path: path.write_text("1\n00:00:01,000 --> 00:00:02,000\nhi\n"), "a video"),
    "labels": ("gate_001.json", lambda path: path.write_text(json.dumps([0, 1] * 900)), "a video"),
    "array": ("gate_001.npy", lambda path: np.save(path, np.zeros(900, np.int8)), "a video"),
    "playlist": ("gate.m3u8", lambda path: path.write_text("#EXTM3U\n#EXTINF:2,\ngate_001.mp4\n"), "a video"),
    "empty folder": ("2026-11-25", Path.mkdir, "got an empty folder"),
    "folder of pictures": ("gate_003", lambda path: write_images(path, 3), "got a folder of pictures"),
    "copies of a NAS": ("@eaDir", _folder("gate_001.mp4", lambda path: write_video(path, 5)), "folder of the system"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_spoils_no_clip_and_gets_a_line(tmp_path, kind):
    name, make, why = BAD[kind]
    videos = write_sound(tmp_path)
    make(videos / name)
    dataset = open_dataset(tmp_path, need="train")
    assert [clip.name for clip in dataset.train] == ["gate_001", "gate_002"]
    (line,) = dataset.passed_over
    assert line.startswith(f"{videos / name}: ")
    assert why in line


@pytest.mark.parametrize(
    "kind", ["one frame", "empty", "text", "sound only", "no scene", "link to nothing", "download"]
)
def test_where_nothing_is_left_one_line_says_why(tmp_path, kind):
    name, make, why = BAD[kind]
    (tmp_path / "training/videos").mkdir(parents=True)
    make(tmp_path / "training/videos" / name)
    said = complaint(tmp_path, "train")
    assert said.startswith(f"{tmp_path / 'training'}: expected footage to train on, got none that can be used: ")
    assert why in said
    (tmp_path / "training/videos/notes.txt").write_text("hello")
    assert "(and 1 more)" in complaint(tmp_path, "train")


def test_a_clip_must_be_long_enough_for_the_step(tmp_path):
    videos = write_sound(tmp_path)
    write_video(videos / "gate_003.mp4", 4)
    assert len(names(tmp_path, least_frames=4)) == 3
    assert len(names(tmp_path, least_frames=5)) == 2


def test_what_systems_leave_beside_files_needs_no_line(tmp_path):
    videos = write_sound(tmp_path)
    (videos / "__MACOSX").mkdir()
    (videos / "__MACOSX/._gate_001.mp4").write_bytes(b"\x00\x05\x16\x07")
    for name in (".DS_Store", "._gate_001.mp4", "Thumbs.db", "desktop.ini"):
        (videos / name).write_bytes(b"\x00\x05\x16\x07")
    dataset = open_dataset(tmp_path, need="train")
    assert (len(dataset.train), dataset.passed_over) == (2, ())


@pytest.mark.parametrize(
    ("make", "why"),
    [(_link("/nowhere"), "got a link to nothing"), (Path.touch, "expected a folder of footage, got a file")],
)
def test_what_stands_in_the_place_of_a_folder_of_footage_gets_a_line(tmp_path, make, why):
    videos = write_sound(tmp_path)
    make(tmp_path / "training/frames")
    dataset = open_dataset(tmp_path, need="train")
    assert len(dataset.train) == 2
    assert dataset.passed_over[0].startswith(f"{tmp_path / 'training/frames'}: ")
    assert why in dataset.passed_over[0]
    videos.rename(tmp_path / "elsewhere")
    make(videos)
    assert why in complaint(tmp_path, "train")


def test_footage_beside_the_folders_of_footage_gets_a_line(tmp_path):
    write_stc(tmp_path)
    write_video(tmp_path / "training/gate_002.mp4", 5)
    write_video(tmp_path / "training/2026-11-25/gate_003.mp4", 5)
    write_video(tmp_path / "testing/gate_0002.mp4", 5)
    dataset = open_dataset(tmp_path, need="any")
    assert (len(dataset.train), len(dataset.test)) == (2, 2)
    assert [line.split(": ")[0].removeprefix(f"{tmp_path}/") for line in dataset.passed_over] == [
        "training/2026-11-25", "training/gate_002.mp4", "testing/gate_0002.mp4"
    ]  # fmt: skip


def test_what_lies_among_pictures_gets_a_line(tmp_path):
    folder = write_images(tmp_path / "training/frames/gate_001", 5, suffix=".jpg", name="{}", first=8)
    write_video(folder / "whole.mp4", 5)
    (folder / "labels.txt").write_text("0\n" * 5)
    (folder / "Thumbs.db").touch()
    dataset = open_dataset(tmp_path, need="train")
    assert [(clip.name, clip.frame_count) for clip in dataset.train] == [("gate_001", 5)]
    assert [line.split(": ")[0] for line in dataset.passed_over] == [
        str(folder / "labels.txt"), str(folder / "whole.mp4")
    ]  # fmt: skip


# --- the published layouts ------------------------------------------------------------------------------------------


def test_bad_training_clips_of_avenue_and_ucsd_are_passed_over(tmp_path):
    avenue, ucsd = write_avenue(tmp_path / "a"), write_ucsd(tmp_path / "u")
    (avenue / "Avenue Dataset/training_videos/03.avi").write_text("text")
    write_video(avenue / "Avenue Dataset/training_videos/more/01.avi", 5)
    (ucsd / "Train/Train003").mkdir()
    write_images(ucsd / "Train/Train004", 1, suffix=".tif")
    (ucsd / "Train/notes.txt").write_text("hello")
    assert names(avenue) == ["train_01", "train_more/01", "train_02"]
    assert names(ucsd) == ["Train001", "Train002"]
    assert [len(open_dataset(root, need="train").passed_over) for root in (avenue, ucsd)] == [1, 3]


@pytest.mark.parametrize("kind", ["empty", "text", "sound only", "link to nothing", "pipe"])
def test_a_labelled_clip_is_never_left_out(tmp_path, kind):
    _, make, why = BAD[kind]
    write_stc(tmp_path / "s", as_videos=True)
    write_avenue(tmp_path / "a")
    for root, path in (("s", "testing/videos/gate_0001.avi"), ("a", "Avenue Dataset/testing_videos/02.avi")):
        (tmp_path / root / path).unlink()
        make(tmp_path / root / path)
        said = complaint(tmp_path / root, "test")
        assert said.startswith(f"{tmp_path / root / path}: ")
        assert why in said
        assert "what is labelled (" in said


def test_what_lies_beside_labelled_clips_gets_a_line(tmp_path):
    write_stc(tmp_path / "s", as_videos=True)
    (tmp_path / "s/testing/videos/gate_0001.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhi\n")
    write_images(tmp_path / "s/testing/videos", 1, suffix=".jpg", name="gate_0001")
    ucsd = write_ucsd(tmp_path / "u")
    write_video(ucsd / "Test/Test001.avi", 5)
    for root, count in ((tmp_path / "s", 2), (ucsd, 1)):
        dataset = open_dataset(root, need="test")
        assert (len(dataset.test), len(dataset.passed_over)) == (2, count)


def test_labelled_clips_may_lie_in_folders_of_days(tmp_path):
    write_stc(tmp_path, as_videos=True)
    videos = tmp_path / "testing/videos"
    (videos / "2026-11-25").mkdir()
    (videos / "gate_0001.avi").rename(videos / "2026-11-25/gate_0001.avi")
    assert [clip.name for clip in open_dataset(tmp_path, need="test").test] == ["01_0001", "gate_0001"]


def test_labels_of_ucsd_without_footage_are_told(tmp_path):
    base = write_ucsd(tmp_path)
    with (base / "Test/UCSDped2.m").open("a") as file:
        file.write("TestVideoFile{end+1}.gt_frame = [1:2];\n")
    dataset = open_dataset(base, need="test")
    assert len(dataset.test) == 2
    assert dataset.passed_over == (
        f"{base / 'Test/Test003'}: expected the footage of a labelled clip, got nothing there",
    )


def test_a_recording_that_was_joined_to_another_and_is_not_read_gets_a_line(tmp_path):
    videos = write_sound(tmp_path)
    path = videos / "gate_002.mp4"
    path.write_bytes(2 * path.read_bytes())
    dataset = open_dataset(tmp_path, need="train")
    assert len(dataset.train) == 2
    assert dataset.passed_over == (
        f"{path}: expected one recording, got 2 joined, of which the first alone is sure to be read",
    )
