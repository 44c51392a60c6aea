"""What the numbers of a label file mean; a number that means nothing is named, with its file and place.

Whatever is not 0 must not pass for an anomaly: labels of -1 and 1 would make every frame one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import DatasetError

_PICTURE_WHITE = 255  # an anomalous pixel of a mask that was a picture once


def frame_labels(values: npt.NDArray[Any], file: Path) -> npt.NDArray[np.bool_]:
    """Whether each frame is anomalous: bool, shape (T,).

    Args:
        values: of any kind of number, shape (T,); 1 where anomalous, 0 where normal.
        file: where they come from.

    Raises:
        DatasetError: another value, or none at all.
    """
    check_numbers(values, file)
    if values.ndim != 1 or not values.size:
        raise DatasetError(f"{file}: expected one label per frame, shape (T,), got {values.shape}")
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if wrong.size:
        first = int(wrong[0])
        raise DatasetError(
            f"{file}: expected 0 for a normal and 1 for an anomalous frame, got {values[first]} for frame {first} "
            f"(counted from 0), and such values for {wrong.size} of {values.size} frames"
        )
    return np.asarray(values == 1)


def pixel_labels(masks: Iterable[npt.NDArray[Any]], file: Callable[[int], Path]) -> Iterator[npt.NDArray[np.bool_]]:
    """Whether each pixel of each frame is anomalous: bool, shape (H, W) each, as lazily as the masks come.

    Args:
        masks: of one clip, of any kind of number, shape (H, W); 0 where normal, and either 1 or, as in pictures, 255
            where anomalous, in all of them alike.
        file: where the mask of frame i, counted from 0, comes from.

    Raises:
        DatasetError: a mask that has another value or other axes.
    """
    anomalous = None  # until it occurs
    for frame, values in enumerate(masks):
        check_numbers(values, file(frame))
        if values.ndim != 2:
            raise DatasetError(f"{file(frame)}: expected a mask (H, W) for frame {frame}, got shape {values.shape}")
        if values.dtype == np.bool_:
            yield values
            continue
        if anomalous is None and values.any():
            anomalous = _PICTURE_WHITE if values[values != 0][0] == _PICTURE_WHITE else 1
        marked = values == (1 if anomalous is None else anomalous)
        wrong = (values != 0) & ~marked
        if wrong.any():
            row, column = (int(place[0]) for place in np.nonzero(wrong))
            raise DatasetError(
                f"{file(frame)}: expected masks of 0 and 1, or of 0 and {_PICTURE_WHITE}, alike for all frames of a "
                f"clip, got {values[row, column]} in frame {frame}, row {row}, column {column} (counted from 0)"
            )
        yield marked


def check_numbers(values: npt.NDArray[Any], file: Path) -> None:
    """Make sure that an array holds numbers.

    Raises:
        DatasetError: it holds text, objects, times or complex numbers.
    """
    if values.dtype.kind not in "biuf":
        raise DatasetError(f"{file}: expected numbers as labels, got {values.dtype}")
