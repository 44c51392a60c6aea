"""From log-likelihoods to anomaly maps, with constants that were fixed in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.model_settings import ScoreSettings
from pipeline.models.anomaly_model import AnomalyMaps
from pipeline.models.card import LevelConstants


def anomaly_maps(
    log_likelihoods: Sequence[Tensor], constants: Sequence[LevelConstants], settings: ScoreSettings
) -> AnomalyMaps:
    """The map of all levels, and the map of those levels that scores are read off.

    Args:
        log_likelihoods: per level, nats per dimension, shape (B, h_k, w_k), finest first.
        constants: of the same levels.
        settings: ``levels`` is read.
    """
    shown = combine(log_likelihoods, constants)
    finest = sum(of.stride == constants[0].stride for of in constants)  # more than one where blocks share a stride
    if settings.levels == "all" or finest == len(constants):
        return AnomalyMaps(shown, shown)
    return AnomalyMaps(shown, combine(log_likelihoods[:finest], constants[:finest]))


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
