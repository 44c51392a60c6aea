"""Zones on maps: what is left out of them, and what counts for more. On the device of the maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.zoning import EVERYTHING, Regime

_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Mask:
    """What the cells of B maps count for.

    Attributes:
        weights: 0 where a cell is left out, else the sensitivity; float32, shape (B, h, w).
        cells: how many are not left out, map by map.
    """

    weights: Tensor
    cells: tuple[int, ...]

    def weighted(self, maps: Tensor, left_out: float = -torch.inf) -> Tensor:
        """Maps with what stands out above normal, which is above 0, multiplied by the sensitivity there.

        Args:
            maps: shape (B, h, w).
            left_out: what the cells become that are left out.
        """
        return self.kept(torch.where(maps > 0.0, maps * self.weights, maps), left_out)

    def kept(self, maps: Tensor, left_out: float = -torch.inf) -> Tensor:
        """Maps without what is left out, whatever the sensitivity; arguments as for ``weighted``."""
        return maps.masked_fill(self.weights == 0.0, left_out)

    def shown(self, maps: Tensor) -> Tensor:
        """Maps to be looked at: what is left out is the median of what is not, so it stands out nowhere.

        Args:
            maps: shape (B, h, w).
        """
        seen = self.weighted(maps, torch.nan)
        medians = seen.flatten(1).nanmedian(dim=1).values[:, None, None]
        return torch.where(self.weights == 0.0, medians, seen)


class Masks:
    """Masks of frames, made once per regime and size of map."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, int, torch.device], tuple[Tensor, int]] = {}

    def of(self, regimes: Sequence[Regime | None], like: Tensor) -> Mask:
        """The mask of some frames.

        Args:
            regimes: the zones that hold for each; None, or no zones, for all of the image.
            like: their maps, shape (B, h, w).
        """
        found = [self._one(regime or EVERYTHING, like) for regime in regimes]
        return Mask(torch.stack([weights for weights, _ in found]), tuple(cells for _, cells in found))

    def _one(self, regime: Regime, like: Tensor) -> tuple[Tensor, int]:
        height, width = like.shape[1:]
        key = (regime.key, height, width, like.device)
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            weights = regime.weights(height, width).copy()  # torch takes no read-only array
            self._kept[key] = torch.from_numpy(weights).to(like.device), int(np.count_nonzero(weights))
        return self._kept[key]
