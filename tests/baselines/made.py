"""Random features and the settings that fit them."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.model_settings import ModelSettings

SIZES = ((8, 12), (4, 6), (2, 3))
CHANNELS = (5, 7, 9)


def settings(**sections) -> ModelSettings:
    """Of a model with images of 64 x 96 at strides 8, 16, 32."""
    return ModelSettings.model_validate({"image_size_px": [64, 96], **sections})


def levels(count: int, seed: int = 0, channels: tuple[int, ...] = CHANNELS) -> list[Tensor]:
    """Features of some frames: correlated channels, far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for dims, size in zip(channels, SIZES, strict=True):
        mix = torch.randn(dims, dims, generator=torch.Generator().manual_seed(dims))
        values = torch.randn(count, *size, dims, generator=generator) @ mix + 3.0
        made.append(values.permute(0, 3, 1, 2).contiguous())
    return made


def repeated(parts: list[Tensor]) -> Tensor:
    """All levels at the finest level's size by plain repetition: float64, shape (B, D, h, w)."""
    stacked = []
    for part in parts:
        factor = SIZES[0][0] // part.shape[-2]
        stacked.append(part.double().repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3))
    return torch.cat(stacked, dim=1)
