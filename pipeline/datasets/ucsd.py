"""UCSD Ped1 and Ped2 (Mahadevan et al., CVPR 2010) as their authors publish them.

::

    UCSDped2/Train/Train001/001.tif ...
    UCSDped2/Test/Test001/001.tif ...
    UCSDped2/Test/Test001_gt/001.bmp ...   pixel masks, black and white; Ped1 has them for some clips only
    UCSDped2/Test/UCSDped2.m               frame labels: TestVideoFile{end+1}.gt_frame = [61:180, 190:195];

Both were filmed at 10 frames per second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.datasets.base import Clip, check_names, entries, probe
from pipeline.datasets.footage import Footage, FoundClips, is_litter, name_below, training_clips
from pipeline.datasets.image_rates import with_image_fps
from pipeline.datasets.label_values import pixel_labels
from pipeline.errors import DatasetError
from pipeline.video.images import list_images

NAME = "ucsd"
PARTS = ("Train", "Test")
IMAGE_FPS = 10.0

_LABEL_LINE = re.compile(r"gt_frame\s*=\s*\[(?P<ranges>[^\]]*)\]")
_RANGE = re.compile(r"(?P<first>\d+)(?:\s*:\s*(?P<last>\d+))?")
_TEST_FOLDER = re.compile(r"Test(?P<number>\d+)")
_MASK_FOLDER = re.compile(r"Test\d+_gt")


def has_train(root: Path) -> bool:
    """Whether the training part is there."""
    return (root / "Train").is_dir()


def has_test(root: Path) -> bool:
    """Whether the test part is there."""
    return (root / "Test").is_dir()


def train_clips(root: Path, least_frames: int) -> FoundClips:
    """Clips of the training part, without those that cannot be used.

    Raises:
        DatasetError: it is missing, or holds no footage that can be used.
    """
    part = root / "Train"
    footage = Footage()
    footage.add(part, pictures=True)
    if not footage.paths and not footage.passed_over:
        raise DatasetError(f"{part}: expected folders Train001, Train002... with .tif frames, got none")
    scene = _scene(root)
    found = training_clips(
        footage, lambda path: (name_below(path, [part]), scene), least_frames=least_frames, part=part
    )
    return FoundClips(with_image_fps(found.clips, lambda _: IMAGE_FPS), found.passed_over)


def test_clips(root: Path) -> FoundClips:
    """Clips of the test part, with the ranges of the ``.m`` file checked against their frames.

    Raises:
        DatasetError: frames or labels are missing, or do not fit each other.
    """
    part = root / "Test"
    beside = Footage()
    folders, label_files = [], []
    for path in entries(part):
        match = _TEST_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            folders.append((path, int(match["number"])))
        elif path.suffix == ".m":
            label_files.append(path)
        elif not is_litter(path) and not _MASK_FOLDER.fullmatch(path.name):
            beside.pass_over(path, "expected a folder called Test001, Test002..., got something else")
    if not folders:
        raise DatasetError(f"{part}: expected folders Test001, Test002... with .tif frames, got none")
    if len(label_files) != 1:
        names = ", ".join(path.name for path in label_files) or "none"
        raise DatasetError(f"{part}: expected one label file such as UCSDped2.m, got {names}")
    ranges = parse_label_file(label_files[0])
    clips = check_names(_test_clip(path, number, ranges, label_files[0], root) for path, number in folders)
    for number in sorted(set(range(1, len(ranges) + 1)) - {number for _, number in folders}):
        beside.pass_over(part / f"Test{number:03d}", "expected the footage of a labelled clip, got nothing there")
    return FoundClips(clips, tuple(beside.passed_over))


def parse_label_file(path: Path) -> list[tuple[tuple[int, int], ...]]:
    """Anomalous frame ranges of every test clip in order, each 1-based and inclusive, as MATLAB writes them.

    Raises:
        DatasetError: the file cannot be read, or a line cannot be understood.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DatasetError(f"{path}: expected a readable label file, got: {error.strerror}") from error
    clips = []
    for number, line in enumerate(text.splitlines(), start=1):
        code = line.split("%", 1)[0]
        if "gt_frame" not in code:
            continue
        match = _LABEL_LINE.search(code)
        items = [item for item in re.split(r"[,;]", match["ranges"]) if item.strip()] if match else []
        found = [_RANGE.fullmatch(item.strip()) for item in items]
        if match is None or not all(found):
            raise DatasetError(f"{path}: line {number}: expected gt_frame = [a:b, c:d]; got {line.strip()!r}")
        clips.append(tuple((int(m["first"]), int(m["last"] or m["first"])) for m in found if m))
    return clips


def _scene(root: Path) -> str:
    """``ped1`` or ``ped2``, from the folder's name or, if that was changed, from the label file's."""
    for name in (root.name, *(path.stem for path in entries(root / "Test") if path.suffix == ".m")):
        match = re.search(r"ped[12]", name.lower())
        if match:
            return match[0]
    return NAME


def _test_clip(
    folder: Path, number: int, ranges: list[tuple[tuple[int, int], ...]], label_file: Path, root: Path
) -> Clip:
    if not 1 <= number <= len(ranges):
        raise DatasetError(f"{label_file}: expected labels for clip {folder.name}, got {len(ranges)} gt_frame lines")
    count = probe(folder)
    assert count is not None  # a folder's images can be counted
    for first, last in ranges[number - 1]:
        if not 1 <= first <= last <= count:
            raise DatasetError(
                f"{label_file}: expected ranges within 1:{count} for clip {folder.name}, got {first}:{last}"
            )
    masks = folder.with_name(f"{folder.name}_gt")
    if masks.is_dir() and (got := len(list_images(masks))) != count:
        raise DatasetError(f"{masks}: expected one mask for each of {count} frames, got {got}")
    labels = UcsdLabels(count, ranges[number - 1], masks if masks.is_dir() else None)
    return Clip(folder.name, _scene(root), str(folder), count, labels, IMAGE_FPS)


@dataclass(frozen=True)
class UcsdLabels:
    """Labels as ranges of frames and a folder of masks.

    Attributes:
        count: frames of the clip.
        ranges: anomalous ranges, 1-based and inclusive.
        masks: folder with one image per frame, or None.
    """

    count: int
    ranges: tuple[tuple[int, int], ...]
    masks: Path | None

    def frames(self) -> npt.NDArray[np.bool_]:
        """Whether each frame is anomalous: bool, shape (T,)."""
        labels = np.zeros(self.count, np.bool_)
        for first, last in self.ranges:
            labels[first - 1 : last] = True
        return labels

    def pixels(self) -> npt.NDArray[np.bool_] | None:
        """Whether each pixel is anomalous: bool, shape (T, H, W).

        Raises:
            DatasetError: a mask cannot be read, holds a value that means nothing, or differs in size from the first.
        """
        if self.masks is None:
            return None
        files = list_images(self.masks)
        masks = list(pixel_labels(map(_read_mask, files), lambda frame: files[frame]))
        if len({mask.shape for mask in masks}) > 1:
            raise DatasetError(f"{self.masks}: expected masks of one size, got several")
        return np.stack(masks)


def _read_mask(path: Path) -> npt.NDArray[np.uint8]:
    """Grey values, shape (H, W)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except Exception as error:  # Pillow answers damage with whatever its decoder happens to hit
        raise DatasetError(f"{path}: expected a mask image, got: {' '.join(str(error).split())}") from error
