"""Frames of a report's clips as pictures: decoded, under their anomaly map, with the ground truth outlined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.base import Clip
from pipeline.errors import VideoError
from pipeline.evaluation.figures import jpeg_address, with_map, with_truth
from pipeline.sinks.parquet_reader import CameraScores
from pipeline.video.source import open_source

_PICTURE_WIDTH_PX = 400


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame as a report shows it.

    Attributes:
        caption: what it is, in a line.
        addresses: ``data:`` addresses of it: as it is, and under its map where there is one.
        alts: what each says to who cannot see it.
    """

    caption: str
    addresses: tuple[str, ...]
    alts: tuple[str, ...]


def pictures_of(
    clip: Clip,
    captions: Sequence[tuple[int, str]],
    maps: Mapping[int, npt.NDArray[np.float16]],
    colours: tuple[float, float] | None,
) -> list[Picture]:
    """Frames of one clip, each plain and, where there is one, under its map, with the truth outlined.

    Args:
        clip: the clip, which is decoded up to the last of them.
        captions: number and caption of each frame.
        maps: anomaly maps by frame number, (h, w) each.
        colours: values that get the first and the last colour; None leaves maps out.

    Raises:
        VideoError: they cannot be decoded.
    """
    images = images_of(clip, [frame for frame, _ in captions], maps, colours)
    return [
        Picture(
            caption,
            tuple(jpeg_address(image) for image in images[frame]),
            (f"frame {frame} of {clip.name}", f"its anomaly map over frame {frame}")[: len(images[frame])],
        )
        for frame, caption in captions
    ]


def images_of(
    clip: Clip,
    frames: Sequence[int],
    maps: Mapping[int, npt.NDArray[np.float16]],
    colours: tuple[float, float] | None,
) -> dict[int, list[npt.NDArray[np.uint8]]]:
    """What ``pictures_of`` shows, as images, uint8 (H, W, 3), by frame number; arguments as there."""
    masks = clip.pixel_labels()
    size_px = _picture_size(masks, maps)
    images: dict[int, list[npt.NDArray[np.uint8]]] = {}
    for frame, image in _decode(clip, frames, size_px).items():
        layers = [image]
        if colours is not None and frame in maps:
            layers.append(with_map(image, maps[frame], colours))
        mask = None if masks is None else _resized_mask(np.asarray(masks[frame]), size_px)
        images[frame] = [with_truth(layer, mask) for layer in layers]
    return images


def maps_at(rows: CameraScores, frames: Sequence[int]) -> dict[int, npt.NDArray[np.float16]]:
    """Anomaly maps of some rows of a clip, by number; none where the scores hold none."""
    if not rows.has_maps or not frames:
        return {}
    return {frame: one.copy() for frame, one in enumerate(_each_map(rows)) if frame in frames}


def _each_map(rows: CameraScores) -> Iterator[npt.NDArray[np.float16]]:
    for several in rows.iter_maps():
        yield from several


def _picture_size(masks: npt.NDArray[Any] | None, maps: Mapping[int, npt.NDArray[np.float16]]) -> tuple[int, int]:
    """Height and width of the pictures: the shape of the ground truth, or else that of the model's input."""
    height, width = (3, 4)
    if maps:
        height, width = next(iter(maps.values())).shape
    if masks is not None:
        height, width = masks.shape[1:]
    return max(2, round(_PICTURE_WIDTH_PX * height / width / 2) * 2), _PICTURE_WIDTH_PX


def _decode(clip: Clip, frames: Sequence[int], size_px: tuple[int, int]) -> dict[int, npt.NDArray[np.uint8]]:
    """Decode some frames of a clip."""
    images: dict[int, npt.NDArray[np.uint8]] = {}
    with open_source(clip.url, size_px, name=clip.name) as source:
        for index, decoded in enumerate(source):
            if index in frames:
                images[index] = decoded.image
            if len(images) == len(set(frames)):
                break
    if absent := sorted(set(frames) - images.keys()):
        raise VideoError(f"clip {clip.name}: expected a frame {absent[0]}, got {source.decoded} frames")
    return images


def _resized_mask(mask: npt.NDArray[np.bool_], size_px: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Nearest neighbour, which keeps ground truth what it is."""
    rows = (np.arange(size_px[0]) + 0.5) * mask.shape[0] / size_px[0]
    columns = (np.arange(size_px[1]) + 0.5) * mask.shape[1] / size_px[1]
    return mask[rows.astype(int)[:, None], columns.astype(int)]
