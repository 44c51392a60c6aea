"""From a checkpoint of any method to its encoder and its Detector."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.inference.tuning import PLAIN, Tuning
from pipeline.methods import method_of
from pipeline.models.card import ModelCard
from pipeline.models.checkpoint import read_checkpoint, strange_tensors
from pipeline.models.detector import Detector, StoredModel
from pipeline.models.encoder import Encoder


def load_detector(
    folder: Path, card: ModelCard, *, device: torch.device, tuning: Tuning = PLAIN
) -> tuple[Encoder, Detector]:
    """Read a checkpoint of any method.

    Args:
        folder: as written by ``train``.
        card: its card, as ``read_card`` checked it against the weights.
        device: where the detector shall work.
        tuning: its precision is that of flows; other methods run as they stand.

    Returns:
        The encoder on the CPU, and the detector on the device.

    Raises:
        CheckpointError: it is damaged.
        ModelSizeError: the memory there is cannot hold it.
    """
    encoder, tensors = read_checkpoint(folder, card)
    build = method_of(card.model.method).load_builder()
    try:
        detector = build(StoredModel(folder, card, encoder.channels, tensors), tuning.precision)
    except RuntimeError as error:
        raise strange_tensors(folder, error) from error
    return encoder, detector.requires_grad_(False).to(device)
