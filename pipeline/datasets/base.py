"""What a data set is, whatever its layout on disk: clips of scenes, some of them labelled.

A layout's module (``stc``, ``ucsd``, ``avenue``) finds the clips and checks them; ``detect.open_dataset`` chooses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from pipeline.config import Identifier
from pipeline.errors import DatasetError, VideoError
from pipeline.video.images import list_images
from pipeline.video.source import open_source

Need = Literal["train", "test", "any"]
VIDEO_SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".mov", ".m4v", ".ts", ".mpg", ".webm"})

_PROBE_SIZE_PX = (16, 16)  # nothing is decoded at it: opening a source asks for a size
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
        name: unique in its part of the data set; letters, digits, ``.``, ``_`` and ``-``.
        scene: the camera's view; clips of one scene share what is normal.
        url: video file or folder of images. Its frame i, counted from 0 in decoding order, has label i.
        frame_count: frames, from the labels, the images or the container; None where nothing says.
        labels: ground truth, or None for footage that is normal throughout.
    """

    name: str
    scene: str
    url: str
    frame_count: int | None
    labels: Labels | None = None

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

    def stamp(self) -> tuple[str, str, int, int]:
        """Name, scene, and size and time of change of the file or folder: what tells footage from other footage."""
        found = Path(self.url).stat()
        return self.name, self.scene, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Dataset:
    """Clips to train on and clips to be scored.

    Attributes:
        name: the layout: ``stc``, ``ucsd`` or ``avenue``.
        root: the folder that holds the layout (it may lie below the folder that was asked for).
        train: normal footage; empty when the part is not there or was not asked for.
        test: labelled footage, likewise.
    """

    name: str
    root: Path
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]

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


def is_video(path: Path) -> bool:
    """Whether the path is a file with the ending of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def count_frames(path: Path) -> int | None:
    """Frames of a video file as its header states them, or images of a folder; None where the header does not say.

    Raises:
        DatasetError: it cannot be opened as a video, or the folder holds no images.
    """
    try:
        if path.is_dir():
            images = list_images(path)
            if not images:
                raise DatasetError(f"{path}: expected a folder with frames, got one without images")
            return len(images)
        with open_source(str(path), _PROBE_SIZE_PX) as source:
            return source.expected_frames
    except VideoError as error:
        raise DatasetError(str(error)) from error


def labelled_clip(name: str, scene: str, path: Path, labels: Labels, *, label_count: int, label_file: Path) -> Clip:
    """A test clip whose labels fit its footage.

    Raises:
        DatasetError: the footage cannot be opened, or has another number of frames than the labels.
    """
    count = count_frames(path)
    if count is not None and count != label_count:
        raise DatasetError(
            f"{label_file}: expected one label for each of the {count} frames of {path}, got {label_count} labels"
        )
    return Clip(name, scene, str(path), label_count, labels)


def check_names(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """Clips whose names can serve as keys and folder names, each occurring once.

    Raises:
        DatasetError: a name or scene that cannot, or that occurs twice.
    """
    checked = tuple(clips)
    seen: dict[str, str] = {}
    for clip in checked:
        for what, value in (("clip name", clip.name), ("scene", clip.scene)):
            try:
                _identifier.validate_python(value)
            except ValidationError as error:
                said = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise DatasetError(f"{clip.url}: {what} {value!r}: {said}") from None
        # Parquet folders must differ on file systems that ignore case, too.
        other = seen.setdefault(clip.name.lower(), clip.url)
        if other != clip.url:
            raise DatasetError(f"{clip.url}: expected every clip name once, got {clip.name!r} for {other}, too")
    return checked
