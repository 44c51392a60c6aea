"""ShanghaiTech Campus (Luo, Liu, Gao 2017; Liu et al. 2018) as its authors publish it, and one's own recordings alike.

::

    training/videos/SS_NNN.avi            normal footage: scene, underscore, clip; any file that can be decoded
    testing/frames/SS_NNNN/*.jpg          or testing/videos/SS_NNNN.mp4
    testing/test_frame_mask/SS_NNNN.npy   one 0 or 1 per frame
    testing/test_pixel_mask/SS_NNNN.npy   (T, H, W), 0 and 1 (or 255); may be missing

A folder of frames plays as fast as the training videos of its scene.

One's own cameras need ``training/videos/CAMERA_NNN.mp4`` only, which may lie in folders (of days, of cameras) there. In
such a folder, a file whose name says only when it was filmed belongs to the camera that the folder is named after.
"""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.base import Clip, check_names, entries, labelled_clip
from pipeline.datasets.footage import (
    Footage,
    FoundClips,
    footage_to_score,
    is_litter,
    name_below,
    name_of,
    training_clips,
)
from pipeline.datasets.image_rates import filmed_fps, with_image_fps
from pipeline.datasets.label_values import check_numbers, frame_labels, pixel_labels
from pipeline.errors import DatasetError

NAME = "stc"
PARTS = ("training", "testing")

_FOLDERS = ("videos", "frames")
_MASKS = ("test_frame_mask", "test_pixel_mask")
_SCENE_NUMBER = re.compile(r"(?P<scene>.+)_[^_]+", re.DOTALL)
_TIME = re.compile(r"((19|20)\d\d[-_.]?\d\d[-_.]?\d\d|\d\d[-_.]\d\d[-_.]\d\d)[-_.\dTZ]*")
_LONGEST_SAID = 200  # NumPy quotes headers


def has_train(root: Path) -> bool:
    """Whether the training part is there."""
    return (root / "training").is_dir()


def has_test(root: Path) -> bool:
    """Whether the test part is there."""
    return (root / "testing").is_dir()


def train_clips(root: Path, least_frames: int) -> FoundClips:
    """Clips of the training part, without those that cannot be used.

    Raises:
        DatasetError: it is missing, or holds no footage that can be used.
    """
    part = root / "training"
    found = training_clips(_footage(part), lambda path: _describe(path, part), least_frames=least_frames, part=part)
    return FoundClips(_at_filmed_rates(found.clips, root), found.passed_over)


def test_clips(root: Path) -> FoundClips:
    """Clips of the test part, with their labels checked against their footage.

    Raises:
        DatasetError: footage or a label is missing, damaged, or one does not fit the other.
    """
    part = root / "testing"
    masks = part / "test_frame_mask"
    footage = _footage(part)
    counts = footage_to_score(footage, lambda path: found if (found := _mask_file(masks, path)).is_file() else None)
    unlabelled = [name_of(path) for path in counts if not _mask_file(masks, path).is_file()]
    if unlabelled:
        raise DatasetError(
            f"{masks}: expected a frame mask NAME.npy for each of {len(counts)} test clips,"
            f" got none for {_some(unlabelled)}"
        )
    names = {name_of(path) for path in counts}
    for mask in entries(masks):
        if mask.suffix == ".npy" and mask.stem not in names:
            footage.pass_over(mask, "expected labels of footage, got those of a clip that is not there")
    clips = check_names(_test_clip(path, count, part) for path, count in counts.items())
    return FoundClips(_at_filmed_rates(clips, root), tuple(footage.passed_over))


def _footage(part: Path) -> Footage:
    """What lies in ``videos``, and image folders in ``frames``; what lies beside those is named."""
    footage = Footage()
    for folder in _FOLDERS:
        footage.add(part / folder, pictures=folder == "frames")
    for path in entries(part):
        if path.name not in (*_FOLDERS, *_MASKS) and not is_litter(path):
            footage.pass_over(path, f"expected footage in {' or '.join(_FOLDERS)}, got something beside them")
    if not footage.paths and not footage.passed_over:
        raise DatasetError(
            f"{part}: expected videos in {part / 'videos'} or image folders in {part / 'frames'}, got none"
        )
    return footage


def _at_filmed_rates(clips: tuple[Clip, ...], root: Path) -> tuple[Clip, ...]:
    """The clips, where folders of frames get the rate of their scene's first training video that tells one."""
    videos = cache(lambda: _training_videos(root))

    @cache
    def rate_of(scene: str) -> float | None:
        return next(filter(None, map(filmed_fps, videos().get(scene, []))), None)

    return with_image_fps(clips, lambda clip: rate_of(clip.scene))


def _training_videos(root: Path) -> dict[str, list[Path]]:
    """Files that may be training videos by scene; none where they cannot be looked for."""
    part, footage = root / "training", Footage()
    with suppress(DatasetError):
        footage.add(part / "videos", pictures=False)
    videos: dict[str, list[Path]] = {}
    for path in sorted(footage.paths):
        with suppress(DatasetError):
            videos.setdefault(_describe(path, part)[1], []).append(path)
    return videos


def _describe(path: Path, part: Path) -> tuple[str, str]:
    """Name and scene of a training clip."""
    name = name_below(path, [part / folder for folder in _FOLDERS])
    *folders, stem = name.split("/")
    # Folders of days and hours name no camera.
    camera = next((folder for folder in reversed(folders) if any(map(str.isalpha, folder))), None)
    if camera is not None and (_TIME.fullmatch(stem) or not _SCENE_NUMBER.fullmatch(stem)):
        return name, camera
    return name, _scene(stem, path)


def _scene(name: str, path: Path) -> str:
    """The scene that a clip's name says."""
    said = _SCENE_NUMBER.fullmatch(name)
    if said is None:
        raise DatasetError(f"{path}: expected a name like SCENE_NUMBER (01_001, gate_007), got {name!r}")
    return said["scene"]


def _mask_file(folder: Path, clip: Path) -> Path:
    return folder / f"{name_of(clip)}.npy"


def _test_clip(path: Path, stated: int | None, part: Path) -> Clip:
    frame_file = _mask_file(part / "test_frame_mask", path)
    pixel_file = _mask_file(part / "test_pixel_mask", path)
    labels = NpyLabels(frame_file, pixel_file if pixel_file.is_file() else None)
    name = name_of(path)
    return labelled_clip(
        name, _scene(name, path), path, labels, stated=stated, label_count=labels.check(), label_file=frame_file
    )


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
        if "pickled" in said:  # it says so of whatever begins otherwise, and how to unpickle it
            said = "something else"
        raise DatasetError(f"{path}: expected a NumPy array of labels, got: {said}") from error
    if not isinstance(array, np.ndarray):  # an archive of several, which stays open
        array.close()
        raise DatasetError(f"{path}: expected a NumPy array of labels, got an archive of arrays")
    check_numbers(array, path)
    return array


def _some(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
