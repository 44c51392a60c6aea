"""From a checkpoint of any method to its encoder and its AnomalyModel."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.inference.tuning import PLAIN, Tuning
from pipeline.methods import method_of
from pipeline.models.anomaly_model import AnomalyModel, StoredModel
from pipeline.models.card import ModelCard
from pipeline.models.checkpoint import read_checkpoint, unexpected_tensors
from pipeline.models.encoder import Encoder


def load_anomaly_model(
    folder: Path, card: ModelCard, *, device: torch.device, tuning: Tuning = PLAIN
) -> tuple[Encoder, AnomalyModel]:
    """Read a checkpoint of any method.

    Args:
        folder: as written by ``train``.
        card: its card, as ``read_card`` checked it against the weights.
        device: where the model is to run.
        tuning: its precision is that of flows; other methods run as they stand.

    Returns:
        The encoder on the CPU, and the AnomalyModel on the device.

    Raises:
        CheckpointError: it is damaged.
        ModelSizeError: the memory there is cannot hold it.
    """
    encoder, tensors = read_checkpoint(folder, card)
    build = method_of(card.model.method).load_builder()
    try:
        anomaly_model = build(StoredModel(folder, card, encoder.channels, tensors), tuning.precision)
    except RuntimeError as error:
        raise unexpected_tensors(folder, error) from error
    return encoder, anomaly_model.requires_grad_(False).to(device)
