"""Condition vectors: where in the image a feature vector lies and, with a camera embedding, whose image it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def position_encoding(dims: int, height: int, width: int) -> Tensor:
    """Two-dimensional sinusoidal position encoding (Gudovskiy et al. 2022, section 4.2; C = 128 there).

    The first C/2 values encode the column x, the last C/2 the row y, each as sines and cosines of geometrically falling
    frequencies, interleaved::

        c[2i] = sin(x * w_i),  c[2i + 1] = cos(x * w_i),  w_i = 10000 ** (-2i / (C/2)),  i = 0 .. C/4 - 1

    Args:
        dims: C, a multiple of 4.
        height: rows of the feature map.
        width: columns of the feature map.

    Returns:
        float32, shape (height * width, C), in row-major order of the positions.

    Raises:
        ValueError: ``dims`` is no positive multiple of 4.
    """
    if dims <= 0 or dims % 4:
        raise ValueError(f"dims: expected a positive multiple of 4, got {dims}")
    half = dims // 2
    frequencies = torch.exp(torch.arange(0, half, 2, dtype=torch.float64) * (-math.log(10_000.0) / half))
    columns = _waves(width, frequencies)  # (W, C/2)
    rows = _waves(height, frequencies)  # (H, C/2)
    table = torch.cat([columns.expand(height, width, half), rows.unsqueeze(1).expand(height, width, half)], dim=-1)
    return table.reshape(height * width, dims).float()


def _waves(length: int, frequencies: Tensor) -> Tensor:
    """Interleaved sines and cosines of positions 0 .. length - 1; shape (length, 2 * len(frequencies))."""
    angles = torch.arange(length, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class CameraEmbedding(nn.Module):
    """One learned vector per scene, trained together with the flows and shared by all levels.

    A scene that was not trained on gets the mean of all vectors: the centre of what the flows have seen.

    Args:
        scenes: names of the training scenes.
        dims: length of the vectors, at least 1.

    Attributes:
        row_of: row of each scene in ``table``; scenes that were not trained on have the last.
    """

    def __init__(self, scenes: Sequence[str], dims: int) -> None:
        super().__init__()
        self.row_of = {scene: row for row, scene in enumerate(scenes)}
        # Unit variance, the scale of the position encoding beside it.
        self.vectors = nn.Parameter(torch.randn(len(self.row_of), dims))

    def table(self) -> Tensor:
        """Vectors of all scenes and, last, their mean; shape (scenes + 1, dims)."""
        return torch.cat([self.vectors, self.vectors.mean(dim=0, keepdim=True)])
