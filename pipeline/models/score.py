"""From an anomaly map to an anomaly score: one step for training's thresholds, live, replay and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.model_settings import top_count


@dataclass(frozen=True, slots=True)
class TopCells:
    """The cells of B maps that scores are read off.

    Attributes:
        values: what stands there, highest first, shape (B, K).
        cells: which they are, by number in the map's rows one after the other, int64, shape (B, K).
        counts: how many of them are read, map by map; None where it is all K.
    """

    values: Tensor
    cells: Tensor
    counts: tuple[int, ...] | None = None

    def mean(self, at_cells: Tensor) -> Tensor:
        """Means over the cells that are read; on a CPU to the last bit the same, whatever the other maps are.

        Args:
            at_cells: of every cell, shape (B, K).

        Returns:
            Shape (B,).
        """
        if self.counts is None:
            return _mean_of_rows(at_cells)
        means = at_cells.new_empty(len(at_cells))
        for count in set(self.counts):
            rows = torch.tensor([row for row, of_row in enumerate(self.counts) if of_row == count])
            rows = rows.to(at_cells.device)
            means[rows] = _mean_of_rows(at_cells[rows, :count])
        return means


def frame_scores(maps: Tensor, top_fraction: float) -> Tensor:
    """Mean of each map's highest values; on a CPU to the last bit the same, whatever the other maps are.

    Args:
        maps: what scores are read off (``AnomalyMaps.scored``), shape (B, h, w).
        top_fraction: part of the map that counts, at least one value; 0 takes the maximum, as the papers do.

    Returns:
        Shape (B,). Higher is more anomalous.
    """
    top = top_cells(maps, top_fraction)
    return top.mean(top.values)


def top_cells(maps: Tensor, top_fraction: float, cells: Sequence[int] | None = None) -> TopCells:
    """The cells with each map's highest values.

    Args:
        maps: shape (B, h, w).
        top_fraction: as for ``frame_scores``.
        cells: how many cells each map has, where some are left out of it, which must be as low as can be; None counts
            all.
    """
    values = maps.flatten(1)
    counts = None if cells is None else tuple(top_count(of_map, top_fraction) for of_map in cells)
    most = top_count(values.shape[1], top_fraction) if counts is None else max(counts)
    highest = values.topk(most, dim=1)
    return TopCells(highest.values, highest.indices, counts)


def _mean_of_rows(values: Tensor) -> Tensor:
    # A lone row of very many values would be summed up by several threads, in another order than a row among others.
    rows = values.repeat(2, 1) if len(values) == 1 else values
    return rows.mean(dim=1)[: len(values)]
