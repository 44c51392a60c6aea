"""What every method offers, whatever it makes of an encoder's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

Encode = Callable[[Tensor], Sequence[Tensor]]
"""uint8 images (B, H, W, 3) on the device -> per level float32 (B, D_k, h_k, w_k), finest first."""


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
