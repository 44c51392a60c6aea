"""What every method offers, whatever it makes of an encoder's features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

Encode = Callable[[Tensor], Sequence[Tensor]]
"""uint8 images (B, H, W, 3) on the device -> per level float32 (B, D_k, h_k, w_k), finest first."""


def rows_of(scenes: Sequence[str], row_of: Mapping[str, int]) -> Tensor:
    """Rows of scenes in a table of all that were trained on; int64, shape (len(scenes),), on the CPU.

    Args:
        scenes: by name.
        row_of: row of each scene that was trained on, 0 to N - 1; others get row N. Where it is empty, every scene gets
            row 0.
    """
    return torch.tensor([row_of.get(scene, len(row_of)) for scene in scenes], dtype=torch.int64)


class Detector(Protocol):
    """A trained method on one device, without its encoder: what it makes of features is the method."""

    def scene_rows(self, scenes: Sequence[str]) -> Tensor:
        """Which part of the model each scene selects; int64, shape (len(scenes),), on the CPU."""
        ...

    def judge(self, images: Tensor, encode: Encode, scene_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly maps and anomaly scores; both depend on each frame and its scene alone.

        Args:
            images: uint8, shape (B, H, W, 3), on the device.
            encode: called once, or several times by a method that looks at changed images.
            scene_rows: as ``scene_rows`` gives them, int64, shape (B,), on the device.

        Returns:
            Maps, float32, shape (B, h, w) with the finest level's h and w; and scores, shape (B,). Higher is more
            anomalous.
        """
        ...
