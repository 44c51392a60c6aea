"""What held-out normal frames look like to the fitted flows: the constants of their levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.inference.anomaly_map import level_constants
from pipeline.models.card import LevelConstants
from pipeline.models.cflow import CFlow
from pipeline.training.features import ClipFeatures

_BATCH_FRAMES = 16


def measure_levels(flows: CFlow, clips: Sequence[ClipFeatures], heldout: Sequence[range]) -> tuple[LevelConstants, ...]:
    """Measure the constants of every level on held-out normal frames; finest first.

    Args:
        flows: fitted, on the device to be used; left in evaluation mode.
        clips: features of the normal footage.
        heldout: per clip, its held-out frames.
    """
    flows.eval()
    maps = [
        _log_likelihoods(flows, clip, frames[start : start + _BATCH_FRAMES])
        for clip, frames in zip(clips, heldout, strict=True)
        for start in range(0, len(frames), _BATCH_FRAMES)
    ]  # a few kilobytes per frame
    return tuple(
        level_constants(torch.cat([of_batch[level].flatten() for of_batch in maps]), stride, flows.flow(level).dims)
        for level, stride in enumerate(flows.settings.encoder.strides)
    )


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
