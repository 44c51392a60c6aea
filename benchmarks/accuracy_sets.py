"""The footage that ``benchmarks.accuracy`` judges by, each set as a folder that ``open_dataset`` reads.

Two are data sets as they lie in the shared data. Two are recordings of one camera, cut without loss: the first part to
train on, the rest to watch. One is rendered.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np

from pipeline.datasets.synthetic import SyntheticSpec, render
from pipeline.errors import DatasetError
from pipeline.files import save_array
from tests.shared import ROOT as SHARED

_CAMERAS = SHARED / "data" / "cameras"


@dataclass(frozen=True)
class AccuracySet:
    """Footage to train on and to be judged by.

    Attributes:
        name: as ``--sets`` names it.
        image_size_px: (height, width) of the model's input.
        source: file or folder that it is made of, or None where it is rendered.
        make: makes the data set's folder of the source, in a folder given; None where the source is one.
        quiet_before: frame of the one test clip before which no event may open, or None.
        left_at: frame at which something is left behind in that clip, or None.
    """

    name: str
    image_size_px: tuple[int, int]
    source: Path | None
    make: Callable[[Path], object] | None = None
    quiet_before: int | None = None
    left_at: int | None = None

    def footage(self, folder: Path) -> Path:
        """The data set's folder; one that was made before is taken as it is.

        Raises:
            DatasetError: what it is made of is not there.
        """
        if self.source is not None and not self.source.exists():
            raise DatasetError(f"{self.name}: expected footage in {self.source}, got none")
        if self.make is None:
            assert self.source is not None
            return self.source
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self.make(folder / "data")
            (folder / "complete").touch()
        return folder / "data"


def chosen_sets(sets: Sequence[AccuracySet], names: str) -> list[AccuracySet]:
    """The sets that are asked for, each once, in the order of their names.

    Args:
        sets: all there are.
        names: of some of them, with commas between.

    Raises:
        DatasetError: there is none of a name.
    """
    by_name = {of.name: of for of in sets}
    wanted = names.split(",")
    if unknown := [name for name in wanted if name not in by_name]:
        raise DatasetError(f"--sets: expected some of {','.join(by_name)}, got {unknown[0]!r}")
    return [by_name[name] for name in dict.fromkeys(wanted)]


def cut(source: Path, target: Path, first: int, last: int | None) -> Path:
    """Write a part of a recording without loss (H.264 with quantiser 0), its frames and their times as they are.

    Args:
        source: the recording.
        target: the file, which Matroska must be able to hold.
        first: number of its first frame.
        last: number of the first frame behind it; None takes all.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        of = given.streams.video[0]
        stream = made.add_stream("libx264", rate=of.average_rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = of.width, of.height, of.pix_fmt
        stream.options = {"qp": "0", "preset": "veryfast", "threads": "1"}
        if of.time_base is not None:
            stream.codec_context.time_base = of.time_base
        stream.codec_context.color_range = of.codec_context.color_range
        stream.codec_context.colorspace = of.codec_context.colorspace
        for frame in islice(given.decode(of), first, last):
            frame.pict_type = 0  # which of them are keyframes is the encoder's choice
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return target


def split_recording(
    source: Path, scene: str, folder: Path, *, train: int, watch_from: int, anomalous: Sequence[slice] = ()
) -> None:
    """Make a data set (in the layout ``stc``) of one recording.

    Args:
        source: the recording.
        scene: what its clips are named after.
        folder: gets the data set.
        train: frames at its beginning that are trained on.
        watch_from: first frame of the test clip, which reaches to the recording's end.
        anomalous: frames of the test clip that are.
    """
    cut(source, folder / "training" / "videos" / f"{scene}_001.mkv", 0, train)
    clip = cut(source, folder / "testing" / "videos" / f"{scene}_0001.mkv", watch_from, None)
    with av.open(str(clip)) as made:
        labels = np.zeros(sum(1 for _ in made.decode(video=0)), np.uint8)
    for part in anomalous:
        labels[part] = 1
    masks = folder / "testing" / "test_frame_mask"
    masks.mkdir(parents=True)
    save_array(masks / f"{scene}_0001.npy", labels)


def _car_park(folder: Path) -> None:
    split_recording(_CAR_PARK, "carpark", folder, train=480, watch_from=480)


def _bag(folder: Path) -> None:
    """Watched from the beginning. Nobody is there before frame 290; what comes then was not seen in training."""
    split_recording(_BAG, "bag", folder, train=280, watch_from=0, anomalous=[slice(_BAG_ENTERS, None)])


def _demo(folder: Path) -> None:
    render(folder, SyntheticSpec())


_CAR_PARK = _CAMERAS / "car-park-cloud-shadows.mp4"
_BAG = _CAMERAS / "bag-left-behind.avi"
_BAG_ENTERS, _BAG_LEFT = 290, 600

SETS = (
    AccuracySet("ped2", (256, 384), SHARED / "data" / "ped2"),
    AccuracySet("avenue", (256, 448), SHARED / "data" / "avenue"),
    AccuracySet("carpark", (256, 320), _CAR_PARK, _car_park),
    AccuracySet("bag", (256, 384), _BAG, _bag, quiet_before=_BAG_ENTERS, left_at=_BAG_LEFT),
    AccuracySet("demo", (192, 256), None, _demo),
)
