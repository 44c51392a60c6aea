"""Labels beside footage whose header counts other frames than there are: what decides is what is decoded."""

import numpy as np
import pytest

from pipeline.datasets.base import count_frames
from pipeline.datasets.detect import open_dataset
from tests.datasets.odd_files import state_frames, write_fragmented
from tests.datasets.refusals import complaint
from tests.videos import truncate, write_video


def cut(path):
    return truncate(write_video(path, 30), fraction=0.6)


MISCOUNTED = {
    "gate_0001.mp4": write_fragmented,
    "gate_0002.avi": lambda path: state_frames(write_video(path, 30), 10),
    "gate_0003.avi": lambda path: state_frames(write_video(path, 30), 2**30),
    "gate_0004.mkv": lambda path: write_video(path, 30),
    "gate_0005.ts": lambda path: path.write_bytes(2 * write_video(path, 15, container_format="mpegts").read_bytes()),
    "gate_0006.h264": lambda path: write_video(path, 30, container_format="h264"),
    "gate_0007.mp4": cut,
}


@pytest.mark.parametrize("name", MISCOUNTED)
def test_labels_for_every_frame_that_comes_are_taken_whatever_the_header_counts(tmp_path, name):
    path = tmp_path / "testing/videos" / name
    path.parent.mkdir(parents=True)
    MISCOUNTED[name](path)
    count = count_frames(path)
    assert count == 30 or name == "gate_0007.mp4"
    (tmp_path / "testing/test_frame_mask").mkdir()
    np.save(tmp_path / "testing/test_frame_mask" / f"{path.stem}.npy", np.zeros(count, np.int8))
    (clip,) = open_dataset(tmp_path, need="test").test
    assert clip.frame_count == count


def test_labels_that_fit_neither_the_header_nor_the_frames_are_refused_with_what_was_counted(tmp_path):
    path = tmp_path / "testing/videos/gate_0001.avi"
    state_frames(write_video(path, 30), 10)
    (tmp_path / "testing/test_frame_mask").mkdir()
    np.save(tmp_path / "testing/test_frame_mask/gate_0001.npy", np.zeros(29, np.int8))
    assert "expected one label for each of the 30 frames" in complaint(tmp_path, "test")


@pytest.mark.parametrize("name", ["gate_0001.mp4", "gate_0003.avi", "gate_0004.mkv"])
def test_a_count_that_cannot_be_known_from_the_header_is_not_given(tmp_path, name):
    path = tmp_path / "training/videos" / name
    path.parent.mkdir(parents=True)
    MISCOUNTED[name](path)
    (clip,) = open_dataset(tmp_path, need="train").train
    assert clip.frame_count is None
