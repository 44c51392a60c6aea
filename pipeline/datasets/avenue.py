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

from pipeline.datasets.base import Clip, check_names, count_frames, entries, is_video, labelled_clip
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


def train_clips(root: Path) -> tuple[Clip, ...]:
    """Clips of the training part.

    Raises:
        DatasetError: it is missing, empty, or holds a video that cannot be opened.
    """
    videos = _videos(root / "training_videos")
    return check_names(Clip(f"train_{path.stem}", _SCENE, str(path), count_frames(path)) for path in videos)


def test_clips(root: Path) -> tuple[Clip, ...]:
    """Clips of the test part, with their labels checked against their footage.

    Raises:
        DatasetError: footage or a label is missing, damaged, or one does not fit the other.
    """
    videos = _videos(root / "testing_videos")
    folder = _label_folder(root)
    return check_names(_test_clip(path, folder) for path in videos)


def _videos(part: Path) -> list[Path]:
    videos = [path for path in entries(part) if is_video(path)]
    if not videos:
        raise DatasetError(f"{part}: expected videos 01.avi, 02.avi..., got none")
    return videos


def _label_folder(root: Path) -> Path:
    """Where the label files lie: the archive of labels unpacks beside, inside, or into the data set."""
    for base in (root, root.parent):
        for folder in (base / "testing_label_mask", base / "ground_truth_demo" / "testing_label_mask"):
            if folder.is_dir():
                return folder
    raise DatasetError(
        f"{root}: expected the labels in {root / 'testing_label_mask'} (unpack ground_truth_demo.zip there), got none"
    )


def _test_clip(path: Path, folder: Path) -> Clip:
    number = path.stem.lstrip("0")
    candidates = [folder / f"{number}_label.mat", folder / f"{path.stem}_label.mat"]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise DatasetError(f"{candidates[0]}: expected the labels of {path}, got nothing there")
    labels = MatLabels(file)
    return labelled_clip(f"test_{path.stem}", _SCENE, path, labels, label_count=labels.check(), label_file=file)


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
