"""Finding out which data set a folder holds, and checking it before anything runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from pipeline.datasets import avenue, stc, ucsd
from pipeline.datasets.base import Dataset, Need, entries
from pipeline.datasets.footage import FoundClips
from pipeline.errors import DatasetError

DOWNLOADS = """\
Data sets are downloaded by hand, since their authors ask for it. Any of these folders will do:
  ShanghaiTech Campus: from svip-lab.github.io/dataset/campus_dataset.html; join and unpack the archive, so that the \
folder holds training/videos, testing/frames, testing/test_frame_mask and testing/test_pixel_mask.
  UCSD Ped1 or Ped2: UCSD_Anomaly_Dataset.tar.gz from svcl.ucsd.edu/projects/anomaly/dataset.htm; unpack it and name \
UCSDped1 or UCSDped2, which hold Train and Test.
  CUHK Avenue: Avenue_Dataset.zip and ground_truth_demo.zip from cse.cuhk.edu.hk/leojia/projects/detectabnormal/; \
unpack both into one folder, so that it holds "Avenue Dataset" and ground_truth_demo.
  Your own cameras: training/videos/CAMERA_001.mp4, CAMERA_002.mp4... with normal footage only, in folders or not."""

_NAMED = 5  # of several data sets
_DEPTH = 2  # archives unpack to a folder in a folder (UCSD_Anomaly_Dataset.v1p2/UCSDped2)


class _Layout(Protocol):
    """What each layout's module offers."""

    @property
    def NAME(self) -> str: ...

    @property
    def PARTS(self) -> tuple[str, str]:
        """Folders of the training and of the test part."""
        ...

    def has_train(self, root: Path) -> bool: ...
    def has_test(self, root: Path) -> bool: ...
    def train_clips(self, root: Path, least_frames: int) -> FoundClips: ...
    def test_clips(self, root: Path) -> FoundClips: ...


_LAYOUTS: tuple[_Layout, ...] = (stc, ucsd, avenue)


def open_dataset(root: Path, *, need: Need, least_frames: int = 2) -> Dataset:
    """Find the layout of a data set and check the part that is needed, decoding the first frames of every clip.

    A training clip that cannot be used is passed over; a labelled one is not, since numbers of fewer clips would be
    taken for those of all.

    Args:
        root: the data set's folder, or one that holds it up to two levels below; of one data set, wherever it lies.
        need: ``train`` reads and checks the training part, ``test`` the labelled part, ``any`` whatever is there.
        least_frames: a training clip with fewer cannot be used.

    Raises:
        DatasetError: no data set, several, a missing part, no training clip that can be used, labelled footage that
            cannot be decoded, labels that are missing or do not fit; names what is missing, and how to get it where
            there is nothing at all.
    """
    layout, found = _locate(root)
    missing = {"train": not layout.has_train(found), "test": not layout.has_test(found)}
    if need != "any" and missing[need]:
        part, use = ("training", "train on") if need == "train" else ("test", "score")
        raise DatasetError(f"{found}: expected the {part} part of the data set ({layout.NAME}) to {use}, got none")
    nothing = FoundClips((), ())
    train = layout.train_clips(found, least_frames) if need != "test" and not missing["train"] else nothing
    test = layout.test_clips(found) if need != "train" and not missing["test"] else nothing
    lines = tuple(passed.line for passed in (*train.passed_over, *test.passed_over))
    return Dataset(layout.NAME, found, train.clips, test.clips, lines)


def _locate(root: Path) -> tuple[_Layout, Path]:
    """The one layout at a folder and in the folders below it."""
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        raise DatasetError(f"{root}: expected the folder of a data set, got {got}.\n{DOWNLOADS}")
    by_place: dict[tuple[str, Path], tuple[_Layout, Path]] = {}
    for layout, folder in _layouts_below(root, _DEPTH):
        by_place.setdefault((layout.NAME, folder.resolve()), (layout, folder))  # links may lead to it again
    found = list(by_place.values())
    if not found:
        raise DatasetError(f"{root}: expected the folder of a data set, got none of the known layouts.\n{DOWNLOADS}")
    if len(found) > 1:
        names = ", ".join(f"{folder} ({layout.NAME})" for layout, folder in found[:_NAMED])
        names += f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        named = "name the folder of one, or move the others away"
        advice = "move the others out of it" if found[0][1] == root else named
        raise DatasetError(f"{root}: expected one data set, got {len(found)}: {names}; {advice}")
    return found[0]


def _layouts_below(folder: Path, depth: int) -> Iterator[tuple[_Layout, Path]]:
    """All layouts at a folder and down to ``depth`` levels below, wherever they lie beside each other.

    Nothing is sought in the parts of a data set: names of clips are not names of layouts.
    """
    here = [layout for layout in _LAYOUTS if any((folder / part).is_dir() for part in layout.PARTS)]
    yield from ((layout, folder) for layout in here)
    if depth == 0:
        return
    parts = {(folder / part).resolve() for layout in here for part in layout.PARTS}
    for child in entries(folder):
        if child.is_dir() and child.resolve() not in parts and os.access(child, os.R_OK | os.X_OK):
            yield from _layouts_below(child, depth - 1)
