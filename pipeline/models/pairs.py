"""The other halves of frames' pairs, on the device: what a model sees of motion.

``pipeline.video.pairs`` says which frames make a pair.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Pairs(NamedTuple):
    """The other halves of B frames' pairs.

    Attributes:
        previous_luma: uint8, shape (B, H, W); zeros for a frame without a pair.
        gaps_s: float32, shape (B,); seconds between the frames of each pair, 0 for a frame without one.
    """

    previous_luma: Tensor
    gaps_s: Tensor

    @classmethod
    def of(cls, previous_luma: npt.NDArray[np.uint8], gaps_s: npt.NDArray[np.float32]) -> Self:
        """Arrays of these shapes as tensors on the CPU; copied, since arrays from Ray are read-only."""
        return cls(torch.from_numpy(previous_luma.copy()), torch.from_numpy(gaps_s.copy()))

    @classmethod
    def none(cls, images: Tensor) -> Self:
        """No pair for any of these images, uint8 (B, H, W, 3); on their device."""
        return cls(images.new_zeros(images.shape[:3]), images.new_zeros(len(images), dtype=torch.float32))

    def to(self, device: torch.device) -> Self:
        """The same on a device; from pinned memory it does not wait."""
        return type(self)(*(tensor.to(device, non_blocking=True) for tensor in self))


def luma_of(images: Tensor) -> Tensor:
    """Brightness of RGB images by the integers of ``pipeline.video.pairs.luma_of``: a still camera shows no motion.

    Args:
        images: uint8, shape (B, H, W, 3).

    Returns:
        uint8, shape (B, H, W), on the same device.
    """
    red, green, blue = images.unbind(-1)
    total = red.int().mul_(77).add_(green, alpha=150).add_(blue, alpha=29).add_(128)
    return (total >> 8).to(torch.uint8)
