"""What PaDiM and SPADE share: one feature vector per position over all levels, and smoothed maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

_TRUNCATED_AT = 4.0  # standard deviations, as scipy's


def stack_levels(levels: Sequence[Tensor], channels: Tensor | None = None) -> Tensor:
    """One feature vector per position of the finest level: coarser levels repeat theirs (nearest neighbour).

    Args:
        levels: per level, shape (B, D_k, h_k, w_k), finest first.
        channels: rising numbers of the channels to keep, over all levels counted on, int64, shape (d,); None keeps all.

    Returns:
        float32, shape (B, d, h, w).
    """
    size, first, parts = levels[0].shape[-2:], 0, []
    for level in levels:
        dims = level.shape[1]
        part = level
        if channels is not None:  # chosen before they are enlarged, which is most of the work
            part = level[:, channels[(channels >= first) & (channels < first + dims)] - first]
        first += dims
        part = part.float()
        parts.append(part if part.shape[-2:] == size or not part.shape[1] else interpolate(part, size=size))
    return torch.cat([part for part in parts if part.shape[1]], dim=1)


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Convolve maps with a Gaussian; edges are continued outwards.

    The papers smooth with 4 pixels after enlarging the map to the image. Both are linear, so smoothing the small map by
    as many of its cells comes to the same but for the interpolation, at a fraction of the cost.

    Args:
        maps: float32, shape (B, h, w).
        sigma: standard deviation in cells; 0 leaves the maps as they are.

    Returns:
        Shape (B, h, w).
    """
    if sigma <= 0.0:
        return maps
    radius = max(1, math.ceil(_TRUNCATED_AT * sigma - 0.5))
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).to(maps.dtype)
    framed = pad(maps.unsqueeze(1), (radius, radius, radius, radius), mode="replicate")
    return conv2d(conv2d(framed, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1)).squeeze(1)
