"""ShanghaiTech Campus (Luo, Liu, Gao 2017; Liu et al. 2018) as its authors publish it, and one's own recordings alike.

::

    training/videos/SS_NNN.avi            normal footage: scene, underscore, clip; .mp4 and .mkv do as well
    testing/frames/SS_NNNN/*.jpg          or testing/videos/SS_NNNN.mp4
    testing/test_frame_mask/SS_NNNN.npy   one 0 or 1 per frame
    testing/test_pixel_mask/SS_NNNN.npy   (T, H, W), 0 and 1 (or 255); may be missing

One's own cameras need ``training/videos/CAMERA_NNN.mp4`` only.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.base import Clip, check_names, count_frames, entries, is_video, labelled_clip
from pipeline.datasets.label_values import check_numbers, frame_labels, pixel_labels
from pipeline.errors import DatasetError

NAME = "stc"
PARTS = ("training", "testing")

_LONGEST_SAID = 200  # NumPy quotes headers
_log = logging.getLogger(__name__)


def has_train(root: Path) -> bool:
    """Whether the training part is there."""
    return (root / "training").is_dir()


def has_test(root: Path) -> bool:
    """Whether the test part is there."""
    return (root / "testing").is_dir()


def train_clips(root: Path) -> tuple[Clip, ...]:
    """Clips of the training part.

    Raises:
        DatasetError: it is missing, holds no footage, or footage that cannot be opened.
    """
    part = root / "training"
    footage = _footage(part)
    return check_names(Clip(_name(path), _scene(path), str(path), count_frames(path)) for path in footage)


def test_clips(root: Path) -> tuple[Clip, ...]:
    """Clips of the test part, with their labels checked against their footage.

    Raises:
        DatasetError: footage or a label is missing, damaged, or one does not fit the other.
    """
    part = root / "testing"
    masks = part / "test_frame_mask"
    footage = _footage(part)
    unlabelled = [_name(path) for path in footage if not _mask_file(masks, path).is_file()]
    if unlabelled:
        raise DatasetError(
            f"{masks}: expected a frame mask NAME.npy for each of {len(footage)} test clips,"
            f" got none for {_some(unlabelled)}"
        )
    spare = {path.stem for path in entries(masks) if path.suffix == ".npy"} - {_name(path) for path in footage}
    if spare:
        _log.warning("%s: no footage for %d masks (%s)", part, len(spare), _some(sorted(spare)))
    return check_names(_test_clip(path, part) for path in footage)


def _footage(part: Path) -> list[Path]:
    """Videos in ``videos`` and image folders in ``frames``."""
    found = [path for path in entries(part / "videos") if is_video(path)]
    found += [path for path in entries(part / "frames") if path.is_dir()]
    if not found:
        raise DatasetError(
            f"{part}: expected videos in {part / 'videos'} or image folders in {part / 'frames'}, got none"
        )
    return sorted(found, key=_name)


def _name(path: Path) -> str:
    """The clip's name: a folder may have a dot in it, a file has an ending."""
    return path.name if path.is_dir() else path.stem


def _scene(path: Path) -> str:
    scene, _, number = _name(path).rpartition("_")
    if not scene or not number:
        raise DatasetError(f"{path}: expected a name like SCENE_NUMBER (01_001, gate_007), got {_name(path)!r}")
    return scene


def _mask_file(folder: Path, clip: Path) -> Path:
    return folder / f"{_name(clip)}.npy"


def _test_clip(path: Path, part: Path) -> Clip:
    frame_file = _mask_file(part / "test_frame_mask", path)
    pixel_file = _mask_file(part / "test_pixel_mask", path)
    labels = NpyLabels(frame_file, pixel_file if pixel_file.is_file() else None)
    return labelled_clip(_name(path), _scene(path), path, labels, label_count=labels.check(), label_file=frame_file)


@dataclass(frozen=True)
class NpyLabels:
    """Labels in NumPy files, one for frames and perhaps one for pixels.

    Attributes:
        frame_file: shape (T,), anomalous where 1, else 0.
        pixel_file: shape (T, H, W), anomalous where 1 or, all over the file, 255, else 0; None where pixels are not
            labelled.
    """

    frame_file: Path
    pixel_file: Path | None

    def frames(self) -> npt.NDArray[np.bool_]:
        """Whether each frame is anomalous: bool, shape (T,)."""
        return frame_labels(_load(self.frame_file), self.frame_file)

    def pixels(self) -> npt.NDArray[np.bool_] | None:
        """Whether each pixel is anomalous: bool, shape (T, H, W).

        Raises:
            DatasetError: it cannot be read, or holds a value that means nothing.
        """
        if (file := self.pixel_file) is None:
            return None
        masks = _load(file)
        if masks.dtype == np.bool_:
            return masks  # stays on disk until its pages are read
        labels = np.empty(masks.shape, np.bool_)
        for i, mask in enumerate(pixel_labels(masks, lambda _: file)):
            labels[i] = mask
        return labels

    def check(self) -> int:
        """Number of frames that are labelled, once labels and shapes are right; reads no pixels.

        Raises:
            DatasetError: a file that is no array, or of the wrong shape, or a label that means nothing.
        """
        frames = self.frames()
        if self.pixel_file is not None:
            pixels = _load(self.pixel_file)
            if pixels.ndim != 3 or len(pixels) != len(frames) or not pixels.size:
                raise DatasetError(
                    f"{self.pixel_file}: expected one mask per frame, shape ({len(frames)}, H, W), got {pixels.shape}"
                )
        return len(frames)


def _load(path: Path) -> npt.NDArray[Any]:
    """Map a label file into memory; pickled objects are refused."""
    try:
        with warnings.catch_warnings(action="ignore"):  # NumPy's, of files that Python 2 wrote
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy answers damage with whatever Python's own parser happens to hit
        said = " ".join(str(error).split())[:_LONGEST_SAID]
        raise DatasetError(f"{path}: expected a NumPy array of labels, got: {said}") from error
    if not isinstance(array, np.ndarray):  # an archive of several, which stays open
        array.close()
        raise DatasetError(f"{path}: expected a NumPy array of labels, got an archive of arrays")
    check_numbers(array, path)
    return array


def _some(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
