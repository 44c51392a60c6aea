"""From an anomaly map to an anomaly score: one step for training's thresholds, live, replay and benchmarks."""

from __future__ import annotations

from torch import Tensor


def read_scores(maps: Tensor, top_fraction: float) -> Tensor:
    """Mean of each map's highest values.

    Args:
        maps: what scores are read off (``AnomalyMaps.scored``), shape (B, h, w).
        top_fraction: part of the map that counts, at least one value; 0 takes the maximum, as the papers do.

    Returns:
        Shape (B,). Higher is more anomalous.
    """
    values = maps.flatten(1)
    count = max(1, round(top_fraction * values.shape[1]))
    return values.topk(count, dim=1).values.mean(dim=1)
