"""What a data set is, whatever its layout on disk: clips of scenes, some of them labelled.

A layout's module (``stc``, ``ucsd``, ``avenue``) finds the clips and checks them; ``detect.open_dataset`` chooses it.
A header may say how much there is to come; before something is refused for what a header says, the frames are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from pipeline.camera_settings import Identifier
from pipeline.errors import DatasetError, VideoError
from pipeline.video.source import open_source

Need = Literal["train", "test", "any"]

PROBE_SIZE_PX = (16, 16)  # nothing is decoded at it: opening a source asks for a size
_identifier = TypeAdapter(Identifier)


class Labels(Protocol):
    """Ground truth of one clip, read from disk when it is asked for."""

    def frames(self) -> npt.NDArray[np.bool_]:
        """Whether each frame is anomalous: bool, shape (T,)."""
        ...

    def pixels(self) -> npt.NDArray[np.bool_] | None:
        """Whether each pixel is anomalous: bool, shape (T, H, W), or None where only frames are labelled."""
        ...


@dataclass(frozen=True)
class Clip:
    """One recording of one camera.

    Attributes:
        name: unique in its part of the data set; of a test clip letters, digits, ``.``, ``_`` and ``-``, of a training
            clip also the folders that it lies in.
        scene: the camera's view; clips of one scene share what is normal.
        url: video file or folder of images. Its frame i, counted from 0 in decoding order, has label i.
        frame_count: frames, from the labels, the images or what the container states; None where nothing says.
        labels: ground truth, or None for footage that is normal throughout.
        image_fps: how many images of a folder were filmed per second; None for a video, and where nothing says.
    """

    name: str
    scene: str
    url: str
    frame_count: int | None
    labels: Labels | None = None
    image_fps: float | None = None

    def frame_labels(self) -> npt.NDArray[np.bool_] | None:
        """Whether each frame is anomalous: bool, shape (T,); None for an unlabelled clip.

        Raises:
            DatasetError: the label file cannot be read any more.
        """
        return None if self.labels is None else self.labels.frames()

    def pixel_labels(self) -> npt.NDArray[np.bool_] | None:
        """Whether each pixel is anomalous: bool, shape (T, H, W); None where pixels are not labelled.

        Read anew at every call, so that no more than the caller holds stays in memory.

        Raises:
            DatasetError: the label file cannot be read any more.
        """
        return None if self.labels is None else self.labels.pixels()

    def stamp(self) -> tuple[str, str, float | None, int, int]:
        """Name, scene, rate, and size and time of change of the file or folder: what tells footage from other footage.

        One that is not there any more has 0 for the last two.
        """
        try:
            found = Path(self.url).stat()
        except OSError:
            return self.name, self.scene, self.image_fps, 0, 0
        return self.name, self.scene, self.image_fps, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Dataset:
    """Clips to train on and clips to be scored.

    Attributes:
        name: the layout: ``stc``, ``ucsd`` or ``avenue``.
        root: the folder that holds the layout (it may lie below the folder that was asked for).
        train: normal footage; empty when the part is not there or was not asked for.
        test: labelled footage, likewise.
        passed_over: a line for each file and folder of the parts that is not used: what it is and why.
    """

    name: str
    root: Path
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    passed_over: tuple[str, ...] = ()

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of all scenes, sorted."""
        return tuple(sorted({clip.scene for clip in (*self.train, *self.test)}))


def visible(paths: Iterable[Path]) -> list[Path]:
    """Paths sorted by name, without those that begin with a dot (archives made on a Mac are full of ``._*``)."""
    return sorted(path for path in paths if not path.name.startswith("."))


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without hidden names; nothing when the folder is not there.

    Raises:
        DatasetError: the folder cannot be read.
    """
    if not folder.is_dir():
        return []
    try:
        return visible(folder.iterdir())
    except OSError as error:
        raise DatasetError(f"{folder}: expected a readable folder, got: {error.strerror}") from error


def probe(path: Path, least_frames: int = 1) -> int | None:
    """Look whether a video file or folder of pictures can be decoded, decoding no more of it than is asked for.

    Args:
        path: of the file or folder.
        least_frames: sound frames that it must hold.

    Returns:
        Frames as its header states them, or pictures in the folder; None where nothing says.

    Raises:
        DatasetError: it cannot be opened, or holds fewer frames.
    """
    try:
        with open_source(str(path), PROBE_SIZE_PX) as source:
            for _ in source.arrivals(_no_image):
                if source.decoded >= least_frames:
                    return source.expected_frames
            raise DatasetError(
                f"{path}: expected {least_frames} frames or more that can be decoded, got {source.decoded}"
            )
    except VideoError as error:
        raise DatasetError(str(error)) from error


def count_frames(path: Path) -> int:
    """Frames that come when a video file is read to its end, damaged ones, too; its header may say anything.

    Raises:
        DatasetError: it cannot be opened, or not one frame of it can be decoded.
    """
    try:
        with open_source(str(path), PROBE_SIZE_PX) as source:
            return sum(arrival is not None for arrival in source.arrivals(_no_image))
    except VideoError as error:
        raise DatasetError(str(error)) from error


def _no_image(media_time_s: float) -> bool:
    """What wants no frame's image."""
    return False


def labelled_clip(
    name: str, scene: str, path: Path, labels: Labels, *, stated: int | None, label_count: int, label_file: Path
) -> Clip:
    """A test clip whose labels fit its footage.

    Args:
        name: of the clip.
        scene: of the clip.
        path: of its footage.
        labels: its ground truth.
        stated: frames that the footage has as ``probe`` tells; where that is another number, they are counted.
        label_count: frames that are labelled.
        label_file: what errors name.

    Raises:
        DatasetError: the footage cannot be read, or has another number of frames than the labels.
    """
    count = stated
    if count not in (None, label_count) and path.is_file():
        count = count_frames(path)
    if count not in (None, label_count):
        raise DatasetError(
            f"{label_file}: expected one label for each of the {count} frames of {path}, got {label_count} labels"
        )
    return Clip(name, scene, str(path), label_count, labels)


def check_identifier(what: str, value: str, where: str) -> None:
    """Check that a name can serve as a key and as a folder's name.

    Raises:
        DatasetError: it cannot.
    """
    try:
        _identifier.validate_python(value)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise DatasetError(f"{where}: {what} {value!r}: {said}") from None


def check_names(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """Clips whose names and scenes can serve as keys and folder names, each name occurring once.

    Raises:
        DatasetError: a name or scene that cannot, or a name that occurs twice.
    """
    checked = tuple(clips)
    seen: dict[str, str] = {}
    for clip in checked:
        check_identifier("clip name", clip.name, clip.url)
        check_identifier("scene", clip.scene, clip.url)
        # Parquet folders must differ on file systems that ignore case, too.
        other = seen.setdefault(clip.name.lower(), clip.url)
        if other != clip.url:
            raise DatasetError(f"{clip.url}: expected every clip name once, got {clip.name!r} for {other}, too")
    return checked
