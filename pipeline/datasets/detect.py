"""Finding out which data set a folder holds, and checking it before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pipeline.datasets import avenue, stc, ucsd
from pipeline.datasets.base import Clip, Dataset, Need, entries
from pipeline.errors import DatasetError

DOWNLOADS = """\
Data sets are downloaded by hand, since their authors ask for it. Any of these folders will do:
  ShanghaiTech Campus: from svip-lab.github.io/dataset/campus_dataset.html; join and unpack the archive, so that the \
folder holds training/videos, testing/frames, testing/test_frame_mask and testing/test_pixel_mask.
  UCSD Ped1 or Ped2: UCSD_Anomaly_Dataset.tar.gz from svcl.ucsd.edu/projects/anomaly/dataset.htm; unpack it and name \
UCSDped1 or UCSDped2, which hold Train and Test.
  CUHK Avenue: Avenue_Dataset.zip and ground_truth_demo.zip from cse.cuhk.edu.hk/leojia/projects/detectabnormal/; \
unpack both into one folder, so that it holds "Avenue Dataset" and ground_truth_demo.
  Your own cameras: training/videos/CAMERA_001.mp4, CAMERA_002.mp4... with normal footage only."""

_DEPTH = 2  # archives unpack to a folder in a folder (UCSD_Anomaly_Dataset.v1p2/UCSDped2)


class _Layout(Protocol):
    """What each layout's module offers."""

    @property
    def NAME(self) -> str: ...

    def matches(self, root: Path) -> bool: ...
    def has_train(self, root: Path) -> bool: ...
    def has_test(self, root: Path) -> bool: ...
    def train_clips(self, root: Path) -> tuple[Clip, ...]: ...
    def test_clips(self, root: Path) -> tuple[Clip, ...]: ...


_LAYOUTS: tuple[_Layout, ...] = (stc, ucsd, avenue)


def open_dataset(root: Path, *, need: Need) -> Dataset:
    """Find the layout of a data set and check the part that is needed, without decoding anything.

    Args:
        root: the data set's folder, or one that holds exactly one data set up to two levels below.
        need: ``train`` reads and checks the training part, ``test`` the labelled part, ``any`` whatever is there.

    Raises:
        DatasetError: no data set, several, a missing part, footage that cannot be opened, labels that are missing or
            do not fit; names what is missing, and how to get it where there is nothing at all.
    """
    layout, found = _locate(root)
    missing = {"train": not layout.has_train(found), "test": not layout.has_test(found)}
    if need != "any" and missing[need]:
        part, use = ("training", "train on") if need == "train" else ("test", "score")
        raise DatasetError(f"{found}: expected the {part} part of the data set ({layout.NAME}) to {use}, got none")
    train = layout.train_clips(found) if need != "test" and not missing["train"] else ()
    test = layout.test_clips(found) if need != "train" and not missing["test"] else ()
    return Dataset(layout.NAME, found, train, test)


def _locate(root: Path) -> tuple[_Layout, Path]:
    """The one layout at a folder or, failing that, in the folders below it."""
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        raise DatasetError(f"{root}: expected the folder of a data set, got {got}.\n{DOWNLOADS}")
    level = [root]
    for _ in range(_DEPTH + 1):
        found = [(layout, folder) for folder in level for layout in _LAYOUTS if layout.matches(folder)]
        if len(found) > 1:
            names = ", ".join(str(folder) for _, folder in found)
            raise DatasetError(f"{root}: expected one data set, got several; name one of: {names}")
        if found:
            return found[0]
        level = [child for folder in level for child in entries(folder) if child.is_dir()]
    raise DatasetError(f"{root}: expected the folder of a data set, got none of the known layouts.\n{DOWNLOADS}")
