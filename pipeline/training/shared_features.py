"""Features of the footage where several workers fit a model together: each keeps those of its share of the clips.

Whoever can read a clip may extract its features, and keeps them where it runs; workers of one node, or of nodes that
share a disk, see each other's. All learn how long every clip is and when its frames have pairs; the rest of what lies
elsewhere is NaN that takes no memory, so that a mistake would be seen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.config import TrainingSettings
from pipeline.datasets.base import Clip
from pipeline.training.features import (
    LEAST_FRAMES,
    ClipFeatures,
    FeatureSpec,
    extract_features,
    is_extracted,
    open_features,
)
from pipeline.training.state import prepare_features
from pipeline.training.workers import Workers

_Shapes = dict[str, Any]


def share_features(
    clips: Sequence[Clip],
    spec: FeatureSpec,
    size_px: tuple[int, int],
    *,
    gap_s: float,
    training: TrainingSettings,
    folder: Path,
    key: str,
    progress: Callable[[int, int], None],
    passed_over: Callable[[str], None],
    workers: Workers,
) -> list[ClipFeatures]:
    """Compute, or find, the features of every clip that can be read; all workers call it.

    Args:
        clips: normal footage, the same for all.
        spec: what is computed of every frame and kept.
        size_px: (height, width) of the frames it takes.
        gap_s: as for ``extract_features``.
        training: as for ``extract_features``.
        folder: where cached features are looked for and left, on each worker's node; need not be there.
        key: digest of all that decides them.
        progress: called with the frames that this worker did and those there are for it.
        passed_over: told at one worker of a clip that cannot be read (any more), or is too short.
        workers: that fit a model together.

    Returns:
        The same clips at every worker, in their order.

    Raises:
        DatasetError: a disk has no room for the features.
        RunError: features are damaged.
    """
    variants = training.augmentation.variants
    cache = _prepared_in_turn(folder, key, workers)
    done = workers.holders([is_extracted(cache, number) for number in range(len(clips))])
    readable = workers.holders([Path(clip.url).exists() for clip in clips])
    holders = [of_done or of_footage for of_done, of_footage in zip(done, readable, strict=True)]
    owners = workers.share([float(clip.frame_count or 1) for clip in clips], holders)
    mine = [int(number) for number in np.flatnonzero(owners == workers.rank)]

    def extract() -> dict[int, ClipFeatures]:
        return extract_features(
            clips, spec, size_px, gap_s=gap_s, training=training, folder=cache,
            progress=progress, passed_over=passed_over, numbers=mine,
        )  # fmt: skip

    found = workers.together(extract)  # after which all of them are done
    if workers.count == 1:
        return list(found.values())

    def see() -> dict[int, ClipFeatures]:
        seen = (number for number in range(len(clips)) if is_extracted(cache, number))
        return {number: open_features(clips[number], spec, variants, cache, number) for number in seen}

    return _exchanged(clips, spec, variants, workers.together(see), workers)


def pictures(clips: Sequence[ClipFeatures], workers: Workers) -> list[npt.NDArray[np.float32]] | None:
    """All clips' pictures of their scenes at the first worker, None at the others; float32, shape (n, h, w) each."""
    found = [
        workers.collect(torch.from_numpy(np.array(clip.gray_images)) if workers.rank in clip.holders else None, owner)
        for clip, owner in zip(clips, (min(clip.holders) for clip in clips), strict=True)
    ]
    return [picture.numpy() for picture in found if picture is not None] if workers.is_first else None


def _prepared_in_turn(folder: Path, key: str, workers: Workers) -> Path:
    """The folder of cached features: who shares one must not empty it twice."""
    cache = folder
    for rank in range(workers.count):
        if rank == workers.rank:
            cache = workers.together(lambda: prepare_features(folder, key))
        else:
            workers.together(lambda: None)
    return cache


def _exchanged(
    clips: Sequence[Clip], spec: FeatureSpec, variants: int, own: Mapping[int, ClipFeatures], workers: Workers
) -> list[ClipFeatures]:
    """All clips that anyone has, as this worker knows them."""
    holders = workers.holders([number in own for number in range(len(clips))])
    told: dict[str, _Shapes] = {}
    for said in workers.tell({str(number): _shapes(found) for number, found in own.items()}):
        told.update(said)
    known = [number for number in range(len(clips)) if str(number) in told]
    first = {at: own[number].gaps_s for at, number in enumerate(known) if holders[number][0] == workers.rank}
    gaps_s = workers.merge(first, [(told[str(number)]["frames"],) for number in known], np.float32)
    shared = []
    for number, gaps in zip(known, gaps_s, strict=True):
        found = own.get(number) or _elsewhere(clips[number], spec, variants, told[str(number)], gaps)
        if len(found) >= LEAST_FRAMES:
            shared.append(replace(found, holders=holders[number]))
    return shared


def _shapes(found: ClipFeatures) -> _Shapes:
    return {
        "frames": len(found),
        "fps": found.fps,
        "gray_images": found.gray_images.shape,
        "speeds": found.speeds.shape,
    }


def _elsewhere(
    clip: Clip, spec: FeatureSpec, variants: int, told: _Shapes, gaps_s: npt.NDArray[np.float32]
) -> ClipFeatures:
    """A clip whose features another worker has."""
    levels = tuple(_nothing(np.float16, (told["frames"], *shape)) for shape in spec.shapes)
    return ClipFeatures(
        clip,
        told["fps"],
        levels,
        (levels,) * variants,
        _nothing(np.float32, told["gray_images"]),
        gaps_s,
        _nothing(np.float16, told["speeds"]),
    )


def _nothing(dtype: Any, shape: Sequence[int]) -> npt.NDArray[Any]:
    return np.broadcast_to(np.array(np.nan, dtype=dtype), tuple(shape))
