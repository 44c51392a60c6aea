"""What every method offers, whatever it makes of an encoder's features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from pipeline.models.card import ModelCard

Encode = Callable[[Tensor], Sequence[Tensor]]
"""uint8 images (B, H, W, 3) on the device -> per level float32 (B, D_k, h_k, w_k), finest first."""


@dataclass(frozen=True, slots=True)
class AnomalyMaps:
    """What a method makes of some frames; higher is more anomalous.

    Attributes:
        shown: where the anomaly is; float32, shape (B, h, w) with the finest level's h and w.
        scored: what the frames' scores are read off; float32, shape (B, h', w'). Where that is the map that is shown,
            it is the same tensor; a method that scores whole frames gives (B, 1, 1).
    """

    shown: Tensor
    scored: Tensor

    def changed(self, change: Callable[[Tensor], Tensor]) -> AnomalyMaps:
        """Both maps changed alike; where they are one, it stays one."""
        shown = change(self.shown)
        return AnomalyMaps(shown, shown if self.scored is self.shown else change(self.scored))


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What a checkpoint holds beside the encoder.

    Attributes:
        folder: of the checkpoint, for messages.
        card: what it says of itself.
        channels: D_k of every level, finest first.
        tensors: what the method made, by name; on the CPU.
    """

    folder: Path
    card: ModelCard
    channels: tuple[int, ...]
    tensors: Mapping[str, Tensor]


def rows_of(scenes: Sequence[str], row_of: Mapping[str, int]) -> Tensor:
    """Rows of scenes in a table of all that were trained on; int64, shape (len(scenes),), on the CPU.

    Args:
        scenes: by name.
        row_of: row of each scene that was trained on, 0 to N - 1; others get row N. Where it is empty, every scene gets
            row 0.
    """
    return torch.tensor([row_of.get(scene, len(row_of)) for scene in scenes], dtype=torch.int64)


class AnomalyModel(Protocol):
    """A trained method on one device, without its encoder: what it makes of features is the method."""

    def scene_rows(self, scenes: Sequence[str]) -> Tensor:
        """Which part of the model each scene selects; int64, shape (len(scenes),), on the CPU."""
        ...

    def anomaly_maps(self, images: Tensor, encode: Encode, scene_rows: Tensor) -> AnomalyMaps:
        """Maps of B frames; a frame's map depends on the frame and its scene alone.

        Args:
            images: uint8, shape (B, H, W, 3), on the device.
            encode: called once, or several times by a method that looks at changed images.
            scene_rows: as ``scene_rows`` gives them, int64, shape (B,), on the device.
        """
        ...


class AnomalyModule(AnomalyModel, Protocol):
    """An AnomalyModel that is a ``torch.nn.Module``, as it is made of a checkpoint on the CPU."""

    def requires_grad_(self, requires_grad: bool) -> Self:
        """As ``torch.nn.Module.requires_grad_``."""
        ...

    def to(self, device: torch.device) -> Self:
        """As ``torch.nn.Module.to``."""
        ...
