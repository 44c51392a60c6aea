"""What anomaly maps are worth, by pixels and by regions, in one pass over them and the masks of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import DatasetError, ScoresError
from pipeline.evaluation.metrics import PixelHistogram, upsample
from pipeline.evaluation.regions import RegionCounter, cut_heights
from pipeline.evaluation.scored_clips import ScoredClip

_CHUNK_PIXELS = 1 << 22
"""Pixels that are upsampled and counted at a time (about 100 MB of temporary arrays)."""


@dataclass(slots=True)
class PixelCounts:
    """What was counted of some clips.

    Attributes:
        pixels: pixels by value.
        regions: regions and tracks.
        note: why there are no pixel metrics of them, or None where there are.
    """

    pixels: PixelHistogram
    regions: RegionCounter
    note: str | None = None

    @classmethod
    def none(cls, thresholds: npt.NDArray[np.float32]) -> PixelCounts:
        """Nothing counted yet."""
        return cls(PixelHistogram(), RegionCounter(thresholds))

    def merge(self, other: PixelCounts) -> None:
        """Count all that another one, of the same thresholds, has counted."""
        self.pixels.merge(other.pixels)
        self.regions.merge(other.regions)
        self.note = self.note or other.note


def map_thresholds(clips: Sequence[ScoredClip]) -> npt.NDArray[np.float32]:
    """The heights at which all maps of the clips are cut into regions."""
    return cut_heights(maps for clip in clips if clip.rows.has_maps for maps in clip.rows.iter_maps())


def count_pixels(
    clips: Sequence[ScoredClip], thresholds: npt.NDArray[np.float32], advance: Callable[[int], None]
) -> PixelCounts:
    """Count the pixels and regions of some clips, or say why their pixel metrics do not exist.

    Args:
        clips: of a scene, say.
        thresholds: of ``map_thresholds``.
        advance: called with the frames of each clip when it is done.

    Raises:
        ScoresError: maps are damaged or not finite.
        DatasetError: masks do not fit the labels.
    """
    counts = PixelCounts.none(thresholds)
    for clip in clips:
        counts.note = counts.note or _count_clip(clip, counts)
        advance(clip.labels.size)
    return counts


def _count_clip(clip: ScoredClip, counts: PixelCounts) -> str | None:
    """Count one clip; returns what is missing for it, or None."""
    if not clip.rows.has_maps:
        return f"no pixel metrics: the scores of clip {clip.clip.name} hold no anomaly maps (replay with output.maps)"
    masks = clip.clip.pixel_labels()
    if masks is None:
        return f"no pixel metrics: clip {clip.clip.name} has no pixel masks"
    if len(masks) != clip.labels.size:
        raise DatasetError(
            f"clip {clip.clip.name}: expected {clip.labels.size} pixel masks, one per frame label, got {len(masks)}"
        )
    counts.regions.begin_clip()
    for part, maps in _chunks(clip.rows.iter_maps(), size_px=masks.shape[1:]):
        truth = np.asarray(masks[part])
        try:
            counts.pixels.add(truth, upsample(maps, masks.shape[1:]))
        except ScoresError as error:
            raise ScoresError(f"clip {clip.clip.name}: anomaly maps from frame {part.start} on: {error}") from None
        counts.regions.add(truth, maps)
    return None


def _chunks(
    maps: Iterator[npt.NDArray[np.float16]], size_px: tuple[int, int]
) -> Iterator[tuple[slice, npt.NDArray[np.float16]]]:
    """Cut anomaly maps so that each piece, upsampled, stays within ``_CHUNK_PIXELS``; says which frames each holds."""
    step, first = max(1, _CHUNK_PIXELS // (size_px[0] * size_px[1])), 0
    for several in maps:
        for start in range(0, len(several), step):
            piece = several[start : start + step]
            yield slice(first, first + len(piece)), piece
            first += len(piece)
