"""CUHK Avenue (Lu, Shi, Jia, ICCV 2013) as its authors publish it.

::

    Avenue Dataset/training_videos/01.avi ...
    Avenue Dataset/testing_videos/01.avi ...
    ground_truth_demo/testing_label_mask/1_label.mat ...   beside or inside "Avenue Dataset"

A label file's ``volLabel`` is a cell array with one mask (H, W) of 0 and 1 per frame. Its number is written without
zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io

from pipeline.datasets.base import Clip, check_names, labelled_clip
from pipeline.datasets.footage import Footage, FoundClips, footage_to_score, name_below, training_clips
from pipeline.datasets.label_values import pixel_labels
from pipeline.errors import DatasetError

NAME = "avenue"
PARTS = ("training_videos", "testing_videos")

_SCENE = "avenue"
_VARIABLE = "volLabel"
_SHOWN = 3


def has_train(root: Path) -> bool:
    """Whether the training part is there."""
    return (root / "training_videos").is_dir()


def has_test(root: Path) -> bool:
    """Whether the test part is there."""
    return (root / "testing_videos").is_dir()


def train_clips(root: Path, least_frames: int) -> FoundClips:
    """Clips of the training part, without those that cannot be used.

    Raises:
        DatasetError: it is missing, or holds no footage that can be used.
    """
    part = root / "training_videos"

    def describe(path: Path) -> tuple[str, str]:
        return f"train_{name_below(path, [part])}", _SCENE

    return training_clips(_videos(part), describe, least_frames=least_frames, part=part)


def test_clips(root: Path) -> FoundClips:
    """Clips of the test part, with their labels checked against their footage.

    Raises:
        DatasetError: footage or a label is missing, damaged, or one does not fit the other.
    """
    footage = _videos(root / "testing_videos")
    folder = _label_folder(root)
    counts = footage_to_score(footage, lambda path: _label_file(path, folder))
    clips = check_names(_test_clip(path, count, folder) for path, count in counts.items())
    return FoundClips(clips, tuple(footage.passed_over))


def _videos(part: Path) -> Footage:
    footage = Footage()
    footage.add(part, pictures=False)
    if not footage.paths:
        raise DatasetError(f"{part}: expected videos 01.avi, 02.avi..., got none")
    return footage


def _label_folder(root: Path) -> Path:
    """Where the label files lie: the archive of labels unpacks beside, inside, or into the data set."""
    for base in (root, root.parent):
        for folder in (base / "testing_label_mask", base / "ground_truth_demo" / "testing_label_mask"):
            if folder.is_dir():
                return folder
    raise DatasetError(
        f"{root}: expected the labels in {root / 'testing_label_mask'} (unpack ground_truth_demo.zip there), got none"
    )


def _label_file(path: Path, folder: Path) -> Path | None:
    """The labels of a clip, whose number is written without zeros; None where there are none."""
    candidates = (folder / f"{stem}_label.mat" for stem in (path.stem.lstrip("0"), path.stem))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _test_clip(path: Path, stated: int | None, folder: Path) -> Clip:
    file = _label_file(path, folder)
    if file is None:
        expected = folder / f"{path.stem.lstrip('0')}_label.mat"
        raise DatasetError(f"{expected}: expected the labels of {path}, got nothing there")
    labels = MatLabels(file)
    return labelled_clip(
        f"test_{path.stem}", _SCENE, path, labels, stated=stated, label_count=labels.check(), label_file=file
    )


@dataclass(frozen=True)
class MatLabels:
    """Labels in a MATLAB file: one mask per frame; a frame is anomalous when any of its pixels is.

    Attributes:
        file: the ``.mat`` file.
    """

    file: Path

    def frames(self) -> npt.NDArray[np.bool_]:
        """Whether each frame is anomalous: bool, shape (T,).

        Raises:
            DatasetError: it cannot be read, or holds a value that means nothing.
        """
        return np.array([bool(mask.any()) for mask in self._masks()])

    def pixels(self) -> npt.NDArray[np.bool_]:
        """Whether each pixel is anomalous: bool, shape (T, H, W).

        Raises:
            DatasetError: as ``frames``, or the masks differ in size.
        """
        masks = list(self._masks())
        shapes = sorted({mask.shape for mask in masks})
        if len(shapes) != 1 or 0 in shapes[0]:
            got = ", ".join(map(str, shapes[:_SHOWN])) or "none"
            raise DatasetError(f"{self.file}: expected masks (H, W) of one size in {_VARIABLE}, got {got}")
        return np.stack(masks)

    def check(self) -> int:
        """Number of frames that are labelled, read from the file's directory without its masks.

        Raises:
            DatasetError: not a MATLAB file, or without the variable.
        """
        found = {name: (shape, kind) for name, shape, kind in _mat(scipy.io.whosmat, self.file)}
        shape, kind = found.get(_VARIABLE, ((), "nothing"))
        if kind != "cell" or len(shape) != 2 or 1 not in shape:
            raise DatasetError(f"{self.file}: expected a row of masks, cell {_VARIABLE}, got {kind} {shape}")
        return int(np.prod(shape))

    def _masks(self) -> Iterator[npt.NDArray[np.bool_]]:
        cells = _mat(scipy.io.loadmat, self.file, variable_names=[_VARIABLE])[_VARIABLE].ravel()
        return pixel_labels(map(np.asarray, cells), lambda _: self.file)


def _mat(read: Any, file: Path, **options: Any) -> Any:
    """Call one of scipy's readers, which answer damage with whatever exception their parser happens to hit."""
    try:
        return read(str(file), **options)
    except Exception as error:
        said = " ".join(str(error).split())
        raise DatasetError(f"{file}: expected a MATLAB file (version 7 or older), got: {said}") from error
