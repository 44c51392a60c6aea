"""Avenue's own layout: videos, and labels in MATLAB volumes beside them or inside."""

import shutil

import numpy as np
import pytest

from pipeline.datasets.detect import open_dataset
from pipeline.errors import DatasetError
from tests.datasets.refusals import complaint
from tests.datasets.trees import FRAMES, mask, write_avenue, write_mat
from tests.videos import truncate


@pytest.mark.parametrize("below", ["", "Avenue Dataset"])
def test_avenue_is_found_with_its_labels(tmp_path, below):
    dataset = open_dataset(write_avenue(tmp_path) / below, need="any")
    assert (dataset.name, dataset.root, dataset.scenes) == ("avenue", tmp_path / "Avenue Dataset", ("avenue",))
    assert [clip.name for clip in dataset.train] == ["train_01", "train_02"]
    assert [clip.name for clip in dataset.test] == ["test_01", "test_02"]
    for clip, first in zip(dataset.test, (3, 4), strict=True):
        assert clip.frame_count == FRAMES
        assert np.array_equal(clip.frame_labels(), mask(first, 5).any(axis=(1, 2)))
        assert np.array_equal(clip.pixel_labels(), mask(first, 5).astype(bool))


@pytest.mark.parametrize("place", ["Avenue Dataset/testing_label_mask", "testing_label_mask"])
def test_avenues_labels_may_lie_inside_or_beside_it(tmp_path, place):
    write_avenue(tmp_path)
    (tmp_path / "ground_truth_demo/testing_label_mask").rename(tmp_path / place)
    assert len(open_dataset(tmp_path, need="test").test) == 2


def test_avenue_without_labels_says_what_to_unpack(tmp_path):
    write_avenue(tmp_path)
    shutil.rmtree(tmp_path / "ground_truth_demo")
    assert "(unpack ground_truth_demo.zip there), got none" in complaint(tmp_path, "test")


def test_an_avenue_video_without_its_labels_is_named(tmp_path):
    write_avenue(tmp_path)
    (tmp_path / "ground_truth_demo/testing_label_mask/2_label.mat").unlink()
    assert "2_label.mat: expected the labels of" in complaint(tmp_path)


def test_avenue_labels_that_do_not_fit_are_refused_without_reading_masks(tmp_path):
    write_avenue(tmp_path)
    write_mat(tmp_path / "ground_truth_demo/testing_label_mask/2_label.mat", mask(3, 5, frames=9))
    assert complaint(tmp_path).endswith("got 9 labels")


@pytest.mark.parametrize("content", [b"", b"text", b"MATLAB 5.0 MAT-file" + bytes(200)])
def test_a_damaged_matlab_file_is_named(tmp_path, content):
    write_avenue(tmp_path)
    (tmp_path / "ground_truth_demo/testing_label_mask/1_label.mat").write_bytes(content)
    assert "1_label.mat: expected a" in complaint(tmp_path)


def test_a_truncated_matlab_file_is_named_when_its_masks_are_read(tmp_path):
    write_avenue(tmp_path)
    clip = open_dataset(tmp_path, need="test").test[0]
    truncate(tmp_path / "ground_truth_demo/testing_label_mask/1_label.mat", fraction=0.7)
    with pytest.raises(DatasetError, match="1_label"):
        clip.frame_labels()
