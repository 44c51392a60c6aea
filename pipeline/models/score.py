"""From an anomaly map to an anomaly score: one step for training's thresholds, live, replay and benchmarks."""

from __future__ import annotations

from torch import Tensor


def frame_scores(maps: Tensor, top_fraction: float) -> Tensor:
    """Mean of each map's highest values; on a CPU to the last bit the same, whatever the other maps are.

    Args:
        maps: what scores are read off (``AnomalyMaps.scored``), shape (B, h, w).
        top_fraction: part of the map that counts, at least one value; 0 takes the maximum, as the papers do.

    Returns:
        Shape (B,). Higher is more anomalous.
    """
    values = maps.flatten(1)
    count = max(1, round(top_fraction * values.shape[1]))
    highest = values.topk(count, dim=1).values
    # A lone row of very many values would be summed up by several threads, in another order than a row among others.
    rows = highest.repeat(2, 1) if len(highest) == 1 else highest
    return rows.mean(dim=1)[: len(highest)]
