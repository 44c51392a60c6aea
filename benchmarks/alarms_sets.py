"""The footage that ``benchmarks.alarms_on_footage`` judges alarms by: that of ``benchmarks.accuracy``, and more of it.

To Ped2's test clips come two of its training clips, which are then not trained on: what normal footage raises that
nobody has seen. The other recordings of the shared data hold nothing unusual as far as anybody saw: the first part is
trained on, and whatever raises an alarm in the rest is false.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import av
import numpy as np

from benchmarks.accuracy_sets import SETS as ACCURACY_SETS
from benchmarks.accuracy_sets import AccuracySet, split_recording
from pipeline.files import save_array
from tests.shared import ROOT as SHARED

_PED2 = SHARED / "data" / "ped2"
_CAMERAS = SHARED / "data" / "cameras"
_UNSEEN = ("01_015", "01_016")


def ped2_with_unseen_clips(folder: Path) -> None:
    """Ped2 with its last two training clips among the test clips, labelled normal; all files but labels are links.

    Args:
        folder: gets the data set.
    """
    for part in (
        "training/videos",
        "testing/frames",
        "testing/videos",
        "testing/test_frame_mask",
        "testing/test_pixel_mask",
    ):
        (folder / part).mkdir(parents=True)
        if part != "testing/videos":
            for path in sorted((_PED2 / part).iterdir()):
                if path.stem not in _UNSEEN:
                    (folder / part / path.name).symlink_to(path.resolve())
    for name in _UNSEEN:
        path = (_PED2 / "training" / "videos" / f"{name}.avi").resolve()
        (folder / "testing" / "videos" / f"{name}.avi").symlink_to(path)
        with av.open(str(path)) as video:
            frames = sum(1 for _ in video.decode(video=0))
            height, width = video.streams.video[0].height, video.streams.video[0].width
        save_array(folder / "testing" / "test_frame_mask" / f"{name}.npy", np.zeros(frames, np.int8))
        save_array(folder / "testing" / "test_pixel_mask" / f"{name}.npy", np.zeros((frames, height, width), np.uint8))


def _recording(name: str, file: str, size_px: tuple[int, int], train: int) -> AccuracySet:
    make = partial(_split, _CAMERAS / file, name, train)
    return AccuracySet(name, size_px, _CAMERAS / file, make)


def _split(source: Path, scene: str, train: int, folder: Path) -> None:
    split_recording(source, scene, folder, train=train, watch_from=train)


_BY_NAME = {of.name: of for of in ACCURACY_SETS}

SETS = (
    AccuracySet("ped2", _BY_NAME["ped2"].image_size_px, _PED2, ped2_with_unseen_clips),
    *(_BY_NAME[name] for name in ("avenue", "carpark", "bag")),
    _recording("person", "one-by-one-person-detection.mp4", (224, 384), 900),
    _recording("cars", "car-detection.mp4", (224, 384), 250),
    _recording("highway", "highway.avi", (256, 320), 250),
    _recording("traffic", "traffic-variable-rate.mp4", (224, 384), 400),
    _BY_NAME["demo"],
)
