"""From log-likelihoods to anomaly maps and anomaly scores, with constants that were fixed in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.model_settings import ScoreSettings
from pipeline.models.card import LevelConstants


def judge(
    log_likelihoods: Sequence[Tensor], constants: Sequence[LevelConstants], settings: ScoreSettings
) -> tuple[Tensor, Tensor]:
    """Anomaly maps and anomaly scores.

    Args:
        log_likelihoods: per level, nats per dimension, shape (B, h_k, w_k), finest first.
        constants: of the same levels.
        settings: how a score is read off the levels.

    Returns:
        Maps, float32, shape (B, h, w) with the finest level's h and w; and scores, shape (B,).
    """
    maps = combine(log_likelihoods, constants)
    judged = maps if settings.levels == "all" else combine(log_likelihoods[:1], constants[:1])
    return maps, anomaly_scores(judged, settings.top_fraction)


def combine(log_likelihoods: Sequence[Tensor], constants: Sequence[LevelConstants]) -> Tensor:
    """Sum the levels' surprise, each in units of its own spread on normal frames.

    With l_k the log-likelihood per dimension at level k, and m_k and s_k its mean and standard deviation over held-out
    normal frames, upsampled bilinearly to the finest level::

        a(x, y) = sum_k (m_k - l_k(x, y)) / s_k

    Args:
        log_likelihoods: per level, nats per dimension, shape (B, h_k, w_k), finest first.
        constants: of the same levels.

    Returns:
        float32, shape (B, h, w) with the finest level's h and w; 0 is average normal footage, higher is more anomalous.
    """
    size = log_likelihoods[0].shape[-2:]
    total = torch.zeros_like(log_likelihoods[0])
    for level, of in zip(log_likelihoods, constants, strict=True):
        surprise = (of.mean - level) / of.std
        if level.shape[-2:] != size:
            surprise = interpolate(surprise.unsqueeze(1), size=size, mode="bilinear", align_corners=False).squeeze(1)
        total = total + surprise
    return total


def anomaly_scores(anomaly_maps: Tensor, top_fraction: float) -> Tensor:
    """Mean of each map's highest values.

    Args:
        anomaly_maps: shape (B, h, w).
        top_fraction: part of the map that counts, at least one value; 0 takes the maximum, as the paper does.

    Returns:
        Shape (B,).
    """
    values = anomaly_maps.flatten(1)
    count = max(1, round(top_fraction * values.shape[1]))
    return values.topk(count, dim=1).values.mean(dim=1)


def level_constants(log_likelihoods: Tensor, stride: int, channels: int) -> LevelConstants:
    """Measure one level's constants on held-out normal frames.

    Args:
        log_likelihoods: nats per dimension, any shape.
        stride: of the level, in pixels.
        channels: length of its feature vectors.
    """
    values = log_likelihoods.double()
    # A spread of exactly 0 (a single vector, or a painted wall) leaves nothing to measure surprise in.
    std = float(values.std(correction=0)) or 1.0
    return LevelConstants(stride=stride, channels=channels, mean=float(values.mean()), std=std)
