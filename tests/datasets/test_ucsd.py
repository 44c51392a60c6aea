"""UCSD's own layout: folders of clips, and labels in a MATLAB file of ranges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.detect import open_dataset
from pipeline.datasets.ucsd import UcsdLabels, parse_label_file
from pipeline.errors import DatasetError
from tests.datasets.refusals import complaint
from tests.datasets.trees import ANOMALOUS, mask, write_ucsd
from tests.videos import write_images


def test_ucsd_is_found_from_its_own_folder_and_from_those_above(tmp_path):
    base = write_ucsd(tmp_path / "downloads/UCSD_Anomaly_Dataset.v1p2")
    for root in (base, base.parent, base.parent.parent):
        dataset = open_dataset(root, need="any")
        assert (dataset.name, dataset.root, dataset.scenes) == ("ucsd", base, ("ped2",))
        assert [clip.name for clip in dataset.train] == ["Train001", "Train002"]
        assert [(clip.name, clip.frame_count) for clip in dataset.test] == [("Test001", 12), ("Test002", 12)]


def test_ucsd_ranges_count_from_one_and_include_their_ends(tmp_path):
    first, second = open_dataset(write_ucsd(tmp_path), need="test").test
    assert np.array_equal(first.frame_labels(), ANOMALOUS)
    assert np.flatnonzero(second.frame_labels()).tolist() == [0, 1, 8, 9, 10, 11]


def test_ucsd_pixel_masks_are_read_where_there_are_any(tmp_path):
    first, second = open_dataset(write_ucsd(tmp_path), need="test").test
    assert np.array_equal(first.pixel_labels(), mask(3, 5).astype(bool))
    assert second.pixel_labels() is None


def test_both_ucsd_sets_in_one_folder_ask_which(tmp_path):
    ped1, ped2 = write_ucsd(tmp_path, "UCSDped1"), write_ucsd(tmp_path, "UCSDped2")
    assert f"{tmp_path}: expected one data set, got 2: {ped1} (ucsd), {ped2} (ucsd); name" in complaint(tmp_path)
    assert open_dataset(ped1, need="test").scenes == ("ped1",)


def test_a_renamed_ucsd_folder_keeps_its_scene(tmp_path):
    write_ucsd(tmp_path).rename(tmp_path / "mine")
    assert open_dataset(tmp_path / "mine", need="any").scenes == ("ped2",)


def test_a_ucsd_folder_without_its_label_file_is_refused(tmp_path):
    base = write_ucsd(tmp_path)
    (base / "Test/UCSDped2.m").unlink()
    assert complaint(base, "test").endswith("expected one label file such as UCSDped2.m, got none")
    assert len(open_dataset(base, need="train").train) == 2


def test_a_ucsd_range_beyond_the_clip_is_refused(tmp_path):
    base = write_ucsd(tmp_path)
    (base / "Test/Test002/012.tif").unlink()
    assert complaint(base).endswith("expected ranges within 1:11 for clip Test002, got 9:12")


def test_a_ucsd_clip_without_a_line_of_labels_is_refused(tmp_path):
    base = write_ucsd(tmp_path)
    write_images(base / "Test/Test003", 3, suffix=".tif")
    assert complaint(base).endswith("expected labels for clip Test003, got 2 gt_frame lines")


def test_ucsd_masks_that_are_too_few_are_refused(tmp_path):
    base = write_ucsd(tmp_path)
    (base / "Test/Test001_gt/003.bmp").unlink()
    assert complaint(base).endswith("Test001_gt: expected one mask for each of 12 frames, got 11")


@pytest.mark.parametrize("line", ["x.gt_frame = 1 to 5;", "x.gt_frame = [a:b];", "x.gt_frame = [1:2:9];"])
def test_a_label_line_that_makes_no_sense_is_quoted(tmp_path, line):
    path = tmp_path / "UCSDped2.m"
    path.write_text(f"TestVideoFile = {{}};\n{line}\n")
    with pytest.raises(DatasetError, match="line 2: expected gt_frame = "):
        parse_label_file(path)


@given(labels=st.lists(st.booleans(), min_size=1, max_size=60))
def test_any_labels_survive_being_written_as_matlab_ranges(tmp_path_factory, labels):
    edges = np.flatnonzero(np.diff([0, *labels, 0])).reshape(-1, 2)
    text = ", ".join(f"{first + 1}:{last}" for first, last in edges)
    path = tmp_path_factory.getbasetemp() / "ranges.m"
    path.write_text(f"TestVideoFile{{end+1}}.gt_frame = [{text}];\n")
    (ranges,) = parse_label_file(path)
    assert UcsdLabels(len(labels), ranges, None).frames().tolist() == labels
