"""Labels are 0 and 1 (in masks that were pictures 0 and 255); anything else is named with its file and place."""

import io
import pickle
import shutil

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.datasets.avenue import MatLabels
from pipeline.datasets.detect import open_dataset
from pipeline.datasets.label_values import frame_labels, pixel_labels
from pipeline.datasets.stc import NpyLabels
from pipeline.datasets.ucsd import UcsdLabels
from pipeline.errors import DatasetError
from tests.datasets.refusals import complaint
from tests.datasets.trees import ANOMALOUS, FRAMES, mask, write_mat, write_stc, write_ucsd

MASKS = mask(3, 5)
BOX = (MASKS != 0).astype(bool)


@pytest.fixture(scope="module")
def sound_stc(tmp_path_factory):
    return write_stc(tmp_path_factory.mktemp("stc"))


@pytest.fixture
def stc(sound_stc, tmp_path):
    """A data set whose labels a test may change."""
    return shutil.copytree(sound_stc, tmp_path / "stc")


def said_of(labels):
    with pytest.raises(DatasetError) as caught:
        labels.pixels()
    (line,) = str(caught.value).splitlines()
    return line


# --- frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (
            np.where(ANOMALOUS, 1, -1).astype(np.int8),
            "got -1 for frame 0 (counted from 0), and such values for 9 of 12",
        ),
        (ANOMALOUS.astype(np.uint8) * 255, "got 255 for frame 3 (counted from 0), and such values for 3 of 12"),
        (ANOMALOUS.astype(np.int64) + 1, "got 2 for frame 3"),
        (ANOMALOUS * 0.5, "got 0.5 for frame 3"),
        (np.where(ANOMALOUS, np.nan, 0.0), "got nan for frame 3"),
        (np.where(ANOMALOUS, np.inf, 0.0), "got inf for frame 3"),
        (np.arange(FRAMES), "got 2 for frame 2"),
    ],
)
def test_a_frame_label_other_than_0_and_1_is_named_before_anything_runs(stc, labels, got):
    file = stc / "testing/test_frame_mask/01_0001.npy"
    np.save(file, labels)
    said = complaint(stc, "test")
    assert said.startswith(f"{file}: expected 0 for a normal and 1 for an anomalous frame, got ")
    assert got in said


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (ANOMALOUS[:, None].astype(np.int8), "expected one label per frame, shape (T,), got (12, 1)"),
        (np.int8(1), "expected one label per frame, shape (T,), got ()"),
        (np.zeros(0, np.int8), "expected one label per frame, shape (T,), got (0,)"),
        (ANOMALOUS.astype(complex), "expected numbers as labels, got complex128"),
        (ANOMALOUS.astype("datetime64[s]"), "expected numbers as labels, got datetime64[s]"),
        (np.zeros(FRAMES, [("label", np.int8)]), "expected numbers as labels, got [('label', 'i1')]"),
    ],
)
def test_frame_labels_that_are_no_row_of_numbers_are_named(stc, labels, got):
    file = stc / "testing/test_frame_mask/01_0001.npy"
    np.save(file, labels)
    assert complaint(stc, "test") == f"{file}: {got}"


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a label file was unpickled",)


def objects():
    content = io.BytesIO()
    np.save(content, np.array([Bomb()], object), allow_pickle=True)
    return content.getvalue()


def archive():
    content = io.BytesIO()
    np.savez(content, labels=ANOMALOUS)
    return content.getvalue()


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        objects(),
        pickle.dumps(Bomb()),
        b"0 0 1 1\n",
        archive(),
        header(b"{'descr': '|i1', 'fortran_order': False, 'shape': (12,"),  # Python's tokenizer fails on it
        header(b"{'descr': '|i1', 'fortran_order': False, b'shape': (12,)}\n"),
        header(b"{'descr': '|i1', 'fortran_order': False, 'shape': (12 0,)}\n"),
    ],
)
def test_a_label_file_that_is_no_array_is_named_and_never_unpickled(stc, content):
    file = stc / "testing/test_frame_mask/01_0001.npy"
    file.write_bytes(content)
    said = complaint(stc, "test")
    assert said.startswith(f"{file}: expected a NumPy array of labels, got")
    assert "unsafe" not in said  # no advice to unpickle it


def test_a_label_file_that_python_2_wrote_is_read_without_a_word(tmp_path):
    file = tmp_path / "01_0001.npy"
    text = b"{'descr': '|i1', 'fortran_order': False, 'shape': (12L,), }".ljust(117) + b"\n"
    file.write_bytes(header(text) + ANOMALOUS.astype(np.int8).tobytes())
    assert np.array_equal(NpyLabels(file, None).frames(), ANOMALOUS)


# --- pixels -------------------------------------------------------------------------------------------------------


def npy(folder, masks):
    np.save(folder / "pixels.npy", masks)
    return NpyLabels(folder / "frames.npy", folder / "pixels.npy"), folder / "pixels.npy"


def mat(folder, masks):
    write_mat(folder / "1_label.mat", masks)
    return MatLabels(folder / "1_label.mat"), folder / "1_label.mat"


@pytest.mark.parametrize("write", [npy, mat])
@pytest.mark.parametrize("masks", [MASKS, MASKS * 255, MASKS.astype(float), BOX, MASKS.astype(np.int64)])
def test_masks_of_0_and_1_or_of_0_and_255_mean_the_same(tmp_path, write, masks):
    labels, _ = write(tmp_path, masks)
    assert labels.pixels().dtype == np.bool_
    assert np.array_equal(labels.pixels(), BOX)


def changed(value, kind=np.uint8, times=1):
    masks = (MASKS * times).astype(kind)
    masks[4, 12, 34] = value
    return masks


@pytest.mark.parametrize("write", [npy, mat])
@pytest.mark.parametrize(
    ("masks", "got"),
    [
        (changed(-1, np.int8), "-1"),
        (changed(2), "2"),
        (changed(255), "255"),
        (changed(254, times=255), "254"),
        (changed(1, times=255), "1"),
        (changed(0.5, np.float64), "0.5"),
        (changed(np.nan, np.float32), "nan"),
    ],
)
def test_a_pixel_label_that_means_nothing_is_named_with_its_place(tmp_path, write, masks, got):
    labels, file = write(tmp_path, masks)
    said = said_of(labels)
    assert said.startswith(f"{file}: expected masks of 0 and 1, or of 0 and 255, ")
    assert f"got {got} in frame 4, row 12, column 34" in said


def test_masks_of_minus_1_and_1_are_refused_for_frames_of_matlab_files_too(tmp_path):
    labels, _ = mat(tmp_path, np.where(BOX, 1, -1).astype(np.int8))
    with pytest.raises(DatasetError, match="got -1 in frame 0, row 0, column 0"):
        labels.frames()


@pytest.mark.parametrize(
    ("cell", "got"),
    [
        (np.zeros((4, 4, 3), np.uint8), "expected a mask (H, W) for frame 1, got shape (4, 4, 3)"),
        (scipy.sparse.csc_matrix(np.eye(4)), "expected numbers as labels, got object"),
        ("normal", "expected numbers as labels, got <U6"),
    ],
)
def test_matlab_cells_that_are_no_masks_are_named(tmp_path, cell, got):
    labels, file = mat(tmp_path, [np.zeros((4, 4), np.uint8), cell])
    with pytest.raises(DatasetError) as caught:
        labels.frames()
    assert str(caught.value) == f"{file}: {got}"


def test_masks_without_pixels_are_named_and_a_matlab_cell_without_any_is_a_normal_frame(stc, tmp_path):
    file = stc / "testing/test_pixel_mask/01_0001.npy"
    np.save(file, np.zeros((FRAMES, 0, 0), np.uint8))
    assert complaint(stc, "test") == f"{file}: expected one mask per frame, shape (12, H, W), got (12, 0, 0)"
    assert mat(tmp_path, [])[0].check() == 0
    labels, file = mat(tmp_path, [np.zeros((0, 0)), np.ones((4, 6))])
    assert labels.frames().tolist() == [False, True]
    assert said_of(labels) == f"{file}: expected masks (H, W) of one size in volLabel, got (0, 0), (4, 6)"
    labels, file = mat(tmp_path, [np.zeros((0, 0))] * 2)
    assert said_of(labels) == f"{file}: expected masks (H, W) of one size in volLabel, got (0, 0)"


@pytest.fixture(scope="module")
def sound_masks(tmp_path_factory):
    return write_ucsd(tmp_path_factory.mktemp("ucsd")) / "Test/Test001_gt"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_ucsd_masks_in_black_and_white_of_any_kind_of_picture_mean_the_same(tmp_path, mode):
    for i, frame in enumerate(MASKS):
        Image.fromarray(frame * 255).convert(mode).save(tmp_path / f"{i:03d}.bmp")
    assert np.array_equal(UcsdLabels(FRAMES, (), tmp_path).pixels(), BOX)


def test_a_grey_pixel_of_a_ucsd_mask_is_named_with_its_picture(tmp_path, sound_masks):
    folder = shutil.copytree(sound_masks, tmp_path / "masks")
    Image.fromarray(changed(128, times=255)[4]).save(folder / "005.bmp")
    said = said_of(UcsdLabels(FRAMES, (), folder))
    assert said.startswith(f"{folder / '005.bmp'}: expected masks of 0 and 1, or of 0 and 255, ")
    assert "got 128 in frame 4, row 12, column 34" in said


@pytest.mark.parametrize("content", [b"", b"BM", b"\x89PNG\r\n\x1a\n" + bytes(40), b"text"])
def test_a_damaged_ucsd_mask_is_named(tmp_path, sound_masks, content):
    folder = shutil.copytree(sound_masks, tmp_path / "masks")
    (folder / "005.bmp").write_bytes(content)
    assert said_of(UcsdLabels(FRAMES, (), folder)).startswith(f"{folder / '005.bmp'}: expected a mask image, got")


# --- any values ---------------------------------------------------------------------------------------------------

_numbers = st.sampled_from([0, 0, 1, 1, -1, 2, 254, 255, 0.5, float("nan"), float("inf")])


@given(values=st.lists(_numbers, min_size=1, max_size=8))
def test_labels_come_out_as_they_went_in_or_are_refused(tmp_path_factory, values):
    file = tmp_path_factory.getbasetemp() / "labels"
    try:
        labels = frame_labels(np.array(values), file)
    except DatasetError:
        assert set(values) - {0, 1}
    else:
        assert labels.tolist() == values
    try:
        (pixels,) = pixel_labels([np.array([values])], lambda frame: file)
    except DatasetError:
        assert set(values) - {0, 1} and set(values) - {0, 255}
    else:
        assert [pixels.tolist()] in ([[values]], [[[value == 255 for value in values]]])


def test_labels_as_they_are_published_open(sound_stc):
    clip = open_dataset(sound_stc, need="test").test[0]
    assert np.array_equal(clip.frame_labels(), ANOMALOUS)
    assert np.array_equal(clip.pixel_labels(), BOX)
