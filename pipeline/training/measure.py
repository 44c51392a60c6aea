"""What held-out normal frames look like to the fitted flows: the constants of their levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.inference.anomaly_map import level_constants
from pipeline.models.card import LevelConstants
from pipeline.models.cflow import CFlow
from pipeline.training.features import ClipFeatures
from pipeline.training.holdout import Part
from pipeline.training.workers import ALONE, Workers

_BATCH_FRAMES = 16


def measure_levels(
    flows: CFlow, clips: Sequence[ClipFeatures], heldout: Sequence[Part], workers: Workers = ALONE
) -> tuple[LevelConstants, ...]:
    """Measure the constants of every level on held-out normal frames; finest first.

    Args:
        flows: fitted, on the device to be used; left in evaluation mode.
        clips: features of the normal footage.
        heldout: the held-out frames.
        workers: that measure together.
    """
    flows.eval()
    batches = [
        (clips[clip], frames[start : start + _BATCH_FRAMES])
        for clip, frames in heldout
        for start in range(0, len(frames), _BATCH_FRAMES)
    ]
    own = workers.share([len(frames) for _, frames in batches], [clip.holders for clip, _ in batches])
    maps = {int(at): _log_likelihoods(flows, *batches[at]) for at in np.flatnonzero(own == workers.rank)}
    constants = []
    for level, (stride, size) in enumerate(zip(flows.settings.encoder.strides, flows.sizes, strict=True)):
        of_level = workers.merge(
            {at: of_batch[level].numpy() for at, of_batch in maps.items()},
            [(len(frames), *size) for _, frames in batches],
            np.float32,
        )  # a few kilobytes per frame
        values = torch.from_numpy(np.concatenate([part.ravel() for part in of_level]))
        constants.append(level_constants(values, stride, flows.flow(level).dims))
    return tuple(constants)


@torch.inference_mode()
def _log_likelihoods(flows: CFlow, clip: ClipFeatures, frames: range) -> list[Tensor]:
    """Log-likelihood maps of some frames: one tensor (B, h, w) per level, on the CPU."""
    rows = flows.scene_rows([clip.clip.scene] * len(frames))
    maps = []
    for level, (height, width) in enumerate(flows.sizes):
        vectors = torch.from_numpy(clip.levels[level][frames.start : frames.stop].astype("float32"))
        device = flows.get_buffer(f"positions_{level}").device
        features = vectors.to(device).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        maps.append(flows.log_likelihood_map(level, features, rows.to(device)).cpu())
    return maps
