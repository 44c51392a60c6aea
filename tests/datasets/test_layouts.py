"""The three published layouts: what is found, and one clear line for everything that is missing or does not fit."""

import pickle
import shutil

import numpy as np
import pytest

from pipeline.datasets.detect import open_dataset
from pipeline.errors import DatasetError
from pipeline.video.source import open_source
from tests.datasets.refusals import complaint
from tests.datasets.trees import ANOMALOUS, FRAMES, mask, write_avenue, write_stc, write_ucsd
from tests.shared import shared_path
from tests.videos import frame_number, write_images, write_video

# --- ShanghaiTech Campus ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_videos", [False, True])
def test_stc_is_found_with_its_labels(tmp_path, as_videos):
    dataset = open_dataset(write_stc(tmp_path, as_videos=as_videos), need="any")
    assert (dataset.name, dataset.root, dataset.scenes) == ("stc", tmp_path, ("01", "gate"))
    assert [(clip.name, clip.scene, clip.frame_count) for clip in dataset.train] == [
        ("01_001", "01", FRAMES),
        ("gate_001", "gate", FRAMES),
    ]
    assert [clip.name for clip in dataset.test] == ["01_0001", "gate_0001"]
    for clip in dataset.test:
        labels, pixels = clip.frame_labels(), clip.pixel_labels()
        assert labels is not None and pixels is not None
        assert labels.dtype == pixels.dtype == np.bool_
        assert np.array_equal(labels, ANOMALOUS)
        assert np.array_equal(pixels, mask(3, 5).astype(bool))


def test_training_clips_have_no_labels(tmp_path):
    clip = open_dataset(write_stc(tmp_path), need="train").train[0]
    assert clip.frame_labels() is None
    assert clip.pixel_labels() is None


def test_frame_i_of_a_clip_has_label_i(tmp_path):
    clip = open_dataset(write_stc(tmp_path), need="test").test[0]
    with open_source(clip.url, (48, 64)) as source:
        assert [frame_number(frame.image) for frame in source] == list(range(FRAMES))


def test_ones_own_recordings_need_a_training_part_only(tmp_path):
    write_video(tmp_path / "training/videos/yard_door_002.mp4", 5)
    write_video(tmp_path / "training/videos/yard_door_010.MKV", 5, container_format="matroska")
    (tmp_path / "training/videos/notes.txt").write_text("not footage")
    dataset = open_dataset(tmp_path, need="train")
    assert [(clip.name, clip.scene) for clip in dataset.train] == [
        ("yard_door_002", "yard_door"),
        ("yard_door_010", "yard_door"),
    ]
    assert dataset.test == ()


def test_a_part_is_read_only_when_it_is_needed(tmp_path):
    write_stc(tmp_path)
    shutil.rmtree(tmp_path / "testing/test_frame_mask")
    assert len(open_dataset(tmp_path, need="train").train) == 2
    assert "test_frame_mask: expected a frame mask NAME.npy" in complaint(tmp_path, "any")


def test_pixel_masks_may_be_missing(tmp_path):
    clip = open_dataset(write_stc(tmp_path, pixels=False), need="test").test[0]
    assert clip.pixel_labels() is None
    assert clip.frame_labels() is not None


def test_a_clip_and_its_labels_can_be_sent_to_another_process(tmp_path):
    clip = pickle.loads(pickle.dumps(open_dataset(write_stc(tmp_path), need="test").test[0]))
    assert np.array_equal(clip.frame_labels(), ANOMALOUS)


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.uint8, np.float64])
def test_labels_of_any_number_type_mean_the_same(tmp_path, kind):
    write_stc(tmp_path)
    np.save(tmp_path / "testing/test_frame_mask/01_0001.npy", ANOMALOUS.astype(kind))
    np.save(tmp_path / "testing/test_pixel_mask/01_0001.npy", mask(3, 5).astype(kind) * kind(1))
    clip = open_dataset(tmp_path, need="test").test[0]
    assert np.array_equal(clip.frame_labels(), ANOMALOUS)
    assert np.array_equal(clip.pixel_labels(), mask(3, 5).astype(bool))


def test_a_test_clip_without_labels_is_named(tmp_path):
    write_stc(tmp_path)
    (tmp_path / "testing/test_frame_mask/gate_0001.npy").unlink()
    assert complaint(tmp_path).endswith("for each of 2 test clips, got none for gate_0001")


def test_a_mask_without_footage_is_reported_and_tolerated(tmp_path):
    write_stc(tmp_path)
    mask_file = tmp_path / "testing/test_frame_mask/01_0099.npy"
    np.save(mask_file, ANOMALOUS)
    dataset = open_dataset(tmp_path, need="test")
    assert len(dataset.test) == 2
    assert dataset.passed_over == (f"{mask_file}: expected labels of footage, got those of a clip that is not there",)


def test_labels_that_do_not_fit_the_frames_are_named(tmp_path):
    write_stc(tmp_path)
    (tmp_path / "testing/frames/01_0001/005.jpg").unlink()
    assert "01_0001.npy: expected one label for each of the 11 frames" in complaint(tmp_path)
    assert complaint(tmp_path).endswith("got 12 labels")


def test_labels_that_do_not_fit_the_containers_count_are_named(tmp_path):
    write_stc(tmp_path, as_videos=True)
    write_video(tmp_path / "testing/videos/gate_0001.avi", FRAMES + 1)
    assert "gate_0001.npy: expected one label for each of the 13 frames" in complaint(tmp_path)


@pytest.mark.parametrize("shape", [(FRAMES - 1, 48, 64), (FRAMES, 48), (FRAMES,)])
def test_pixel_masks_of_the_wrong_shape_are_named(tmp_path, shape):
    write_stc(tmp_path)
    np.save(tmp_path / "testing/test_pixel_mask/01_0001.npy", np.zeros(shape, np.uint8))
    assert "01_0001.npy: expected one mask per frame, shape (12, H, W)" in complaint(tmp_path)


def test_a_pickled_label_file_is_never_opened(tmp_path):
    write_stc(tmp_path)
    np.save(tmp_path / "testing/test_frame_mask/01_0001.npy", np.array([{"a": 1}], object), allow_pickle=True)
    assert "expected a NumPy array of labels" in complaint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_a_damaged_label_file_is_named(tmp_path, content):
    write_stc(tmp_path)
    (tmp_path / "testing/test_frame_mask/01_0001.npy").write_bytes(content)
    assert "01_0001.npy: expected a NumPy array" in complaint(tmp_path)


def test_text_labels_are_refused(tmp_path):
    write_stc(tmp_path)
    np.save(tmp_path / "testing/test_frame_mask/01_0001.npy", np.array(["normal"] * FRAMES))
    assert "expected numbers as labels, got <U6" in complaint(tmp_path)


# --- training footage ---------------------------------------------------------------------------------------------


def test_a_training_folder_without_videos_is_named(tmp_path):
    (tmp_path / "training/videos").mkdir(parents=True)
    assert complaint(tmp_path, "train").startswith(f"{tmp_path / 'training'}: expected videos in")


def test_a_training_folder_without_frames_is_named(tmp_path):
    (tmp_path / "training/frames/01_001").mkdir(parents=True)
    (tmp_path / "training/frames/01_001/readme.txt").write_text("empty")
    assert complaint(tmp_path, "train").endswith(
        "01_001/readme.txt: expected a video file, got something else (Invalid data found when processing input)"
    )


def test_a_name_without_a_scene_is_explained(tmp_path):
    write_video(tmp_path / "training/videos/morning.mp4", 3)
    assert complaint(tmp_path, "train").endswith("expected a name like SCENE_NUMBER (01_001, gate_007), got 'morning'")


@pytest.mark.parametrize("name", ["front door_001", "a..b_001", "é_001", "-x_001"])
def test_a_name_that_cannot_be_a_key_is_refused(tmp_path, name):
    write_video(tmp_path / f"training/videos/{name}.mp4", 3)
    assert "expected 1 to 64 letters" in complaint(tmp_path, "train")


def test_of_two_files_of_one_name_one_is_learned_from_and_the_other_named(tmp_path):
    videos = tmp_path / "training/videos"
    for name in ("01_001.mp4", "01_001.avi", "2026-11-25/01_001.mp4"):
        write_video(videos / name, 3)
    dataset = open_dataset(tmp_path, need="train")
    assert [clip.url for clip in dataset.train] == [
        str(videos / "01_001.avi"), str(videos / "2026-11-25/01_001.mp4")
    ]  # fmt: skip
    assert dataset.passed_over == (
        f"{videos / '01_001.mp4'}: expected every clip name once, got '01_001' for {videos / '01_001.avi'}, too",
    )


def test_two_labelled_clips_of_one_name_are_refused(tmp_path):
    write_stc(tmp_path)
    write_video(tmp_path / "testing/videos/01_0001.avi", FRAMES)
    assert "expected every clip name once, got '01_0001'" in complaint(tmp_path, "test")


# --- what is no data set ------------------------------------------------------------------------------------------


def test_nothing_there_says_how_to_get_the_data(tmp_path):
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path / "nowhere", need="any")
    first, *steps = str(caught.value).split("\n")
    assert first.endswith("nowhere: expected the folder of a data set, got nothing there.")
    assert all(any(name in step for step in steps) for name in ("ShanghaiTech", "UCSD", "Avenue", "Your own cameras"))


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "a/b/c/training").mkdir(parents=True)
    assert complaint(tmp_path).endswith("got none of the known layouts.")


@pytest.mark.parametrize("need", ["train", "test", "any"])
def test_two_data_sets_are_refused_however_deep_each_lies(tmp_path, need):
    ped2 = write_ucsd(tmp_path)
    write_avenue(tmp_path / "avenue")
    said = complaint(tmp_path, need)
    assert f"{tmp_path}: expected one data set, got 2: " in said
    assert f"{tmp_path}/avenue/Avenue Dataset (avenue)" in said
    assert f"{ped2} (ucsd)" in said


def test_a_data_set_that_lies_in_the_folder_of_another_is_not_passed_over(tmp_path):
    write_stc(tmp_path)
    ped2 = write_ucsd(tmp_path)
    assert f"got 2: {tmp_path} (stc), {ped2} (ucsd)" in complaint(tmp_path)
    assert open_dataset(ped2, need="any").name == "ucsd"


def test_two_layouts_in_one_folder_are_refused(tmp_path):
    write_stc(tmp_path)
    write_ucsd(tmp_path, name="")
    assert f"got 2: {tmp_path} (stc), {tmp_path} (ucsd); move the others out of it" in complaint(tmp_path)


def test_links_to_a_data_set_or_to_its_parts_do_not_make_several_of_it(tmp_path):
    base = write_ucsd(tmp_path)
    (base / "latest").symlink_to(base)
    (base / "footage").symlink_to(base / "Test")
    write_images(base / "Test/Test001/Train", 1, suffix=".jpg")
    (tmp_path / "mine").symlink_to(base)
    for root in (base, tmp_path):
        assert open_dataset(root, need="train").root == base


def test_of_many_data_sets_a_few_are_named(tmp_path):
    for number in range(7):
        (tmp_path / f"yard{number}" / "training").mkdir(parents=True)
    assert f"{tmp_path}/yard4 (stc) and 2 more; name" in complaint(tmp_path)


def test_clips_called_like_the_parts_of_a_layout_are_no_data_sets(tmp_path):
    write_stc(tmp_path)
    write_images(tmp_path / "testing/frames/gate_0001/training", 1, suffix=".jpg")
    write_images(tmp_path / "testing/Train/gate_9", 1, suffix=".jpg")
    assert open_dataset(tmp_path, need="train").name == "stc"


def test_a_file_is_no_data_set(tmp_path):
    (tmp_path / "x.zip").touch()
    assert complaint(tmp_path / "x.zip").endswith("got a file.")


@pytest.mark.parametrize(("need", "part"), [("train", "training"), ("test", "testing")])
def test_a_part_that_is_needed_and_missing_is_named(tmp_path, need, part):
    write_stc(tmp_path)
    shutil.rmtree(tmp_path / part)
    assert "part of the data set (stc)" in complaint(tmp_path, need)
    assert open_dataset(tmp_path, need="any").scenes == ("01", "gate")


# --- real footage -------------------------------------------------------------------------------------------------


def test_ped2_as_it_lies_in_the_shared_folder_is_complete():
    dataset = open_dataset(shared_path("data/ped2"), need="any")
    assert dataset.scenes == ("01",)
    assert sum(clip.frame_count or 0 for clip in dataset.train) == 2550
    assert [clip.frame_count for clip in dataset.test] == [180, 180, 150, 180, 120, 180]
    labels, pixels = dataset.test[0].frame_labels(), dataset.test[0].pixel_labels()
    assert labels is not None and pixels is not None
    assert pixels.shape == (180, 240, 360)
    assert np.array_equal(labels, pixels.any(axis=(1, 2)))
