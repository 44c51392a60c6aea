"""Which Detector a checkpoint asks for. The one place that knows every method; each is imported when it is needed."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.inference.tuning import PLAIN, Tuning
from pipeline.models.card import ModelCard
from pipeline.models.checkpoint import build_flows, read_checkpoint, strange_tensors
from pipeline.models.detector import Detector
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
    if card.model.method == "cflow":
        from pipeline.inference.cflow import CflowDetector

        flows = build_flows(folder, card, encoder, tensors)
        return encoder, CflowDetector(flows, card.levels, tuning.precision).to(device)
    if card.model.method == "padim":
        from pipeline.baselines.padim import Padim as Method
    elif card.model.method == "spade":
        from pipeline.baselines.spade import Spade as Method
    else:
        from pipeline.baselines.differnet import Differnet as Method
    try:
        detector = Method.build(card.model, encoder.channels, card.scenes, tensors)
    except RuntimeError as error:
        raise strange_tensors(folder, error) from error
    return encoder, detector.requires_grad_(False).to(device)
