"""Folders of images play as fast as their scene was filmed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.datasets.base import Clip
from pipeline.datasets.detect import open_dataset
from pipeline.datasets.image_rates import filmed_fps, with_image_fps
from tests.datasets.odd_files import write_spaced
from tests.datasets.trees import FRAMES, write_avenue, write_stc, write_ucsd
from tests.shared import shared_path
from tests.videos import write_images, write_video


def rates(clips):
    return {clip.name: clip.image_fps for clip in clips}


def write_test_clip(root, name):
    write_images(root / "testing/frames" / name, 3, suffix=".jpg")
    (root / "testing/test_frame_mask").mkdir(exist_ok=True)
    np.save(root / f"testing/test_frame_mask/{name}.npy", np.array([0, 1, 0], np.int8))


def test_test_frames_play_as_fast_as_the_training_videos_of_their_scene(tmp_path):
    write_video(tmp_path / "training/videos/2026-11-25/gate_002.mp4", 5, fps=12)
    write_video(tmp_path / "training/videos/yard_001.avi", 5, fps=24, codec="mpeg4")
    (tmp_path / "training/videos/yard_000.avi").write_text("a damaged one says nothing")
    for name in ("gate_0001", "yard_0001", "roof_0001"):
        write_test_clip(tmp_path, name)
    expected = {"gate_0001": 12.0, "yard_0001": 24.0, "roof_0001": None}
    assert rates(open_dataset(tmp_path, need="test").test) == expected
    assert rates(open_dataset(tmp_path, need="any").test) == expected


def test_training_frames_beside_training_videos_play_as_fast(tmp_path):
    write_video(tmp_path / "training/videos/gate_001.mp4", 5, fps=15)
    write_images(tmp_path / "training/frames/gate_002", 3)
    assert rates(open_dataset(tmp_path, need="train").train) == {"gate_001": None, "gate_002": 15.0}


def test_nothing_is_told_of_frames_without_videos_nor_of_videos(tmp_path):
    write_images(tmp_path / "frames/training/frames/gate_001", 3)
    write_test_clip(tmp_path / "frames", "gate_0001")
    found = open_dataset(tmp_path / "frames", need="any")
    assert rates((*found.train, *found.test)) == {"gate_001": None, "gate_0001": None}
    for write in (lambda root: write_stc(root, as_videos=True), write_avenue):
        found = open_dataset(write(tmp_path / write.__name__.strip("<>")), need="any")
        assert {*rates(found.train).values(), *rates(found.test).values()} == {None}


def test_ucsds_frames_play_at_the_rate_of_its_cameras(tmp_path):
    base = write_ucsd(tmp_path)
    write_video(base / "Train/own.mp4", FRAMES, fps=25)
    found = open_dataset(tmp_path, need="any")
    assert rates(found.train) == {"Train001": 10.0, "Train002": 10.0, "own": None}
    assert rates(found.test) == {"Test001": 10.0, "Test002": 10.0}


def test_a_video_is_as_fast_as_its_frames_come_whatever_its_header_states(tmp_path):
    assert filmed_fps(write_spaced(tmp_path / "slow.mkv")) == pytest.approx(5.0, rel=0.1)
    assert filmed_fps(tmp_path / "none.mp4") is None


def test_only_folders_without_a_rate_get_one_and_none_that_no_camera_films(tmp_path):
    folder = Clip("a", "gate", str(write_images(tmp_path / "images", 1)), 1)
    told, video = replace(folder, image_fps=24.0), replace(folder, url=str(write_video(tmp_path / "a.mp4", 1)))
    assert with_image_fps((folder, told, video), lambda _: 12.5) == (replace(folder, image_fps=12.5), told, video)
    assert [with_image_fps((folder,), lambda _, fps=fps: fps) for fps in (None, 1e-9, 90_000.0)] == 3 * [(folder,)]


def test_footage_at_another_rate_is_other_footage(tmp_path):
    folder = Clip("a", "gate", str(write_images(tmp_path / "images", 1)), 1)
    assert json.dumps(folder.stamp()) != json.dumps(replace(folder, image_fps=12.5).stamp())


def test_ped2s_test_frames_play_at_its_10_frames_per_second():
    found = open_dataset(shared_path("data/ped2"), need="test")
    assert {*rates(found.test).values()} == {10.0}
