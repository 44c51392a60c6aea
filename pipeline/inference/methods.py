"""Which Detector a checkpoint asks for. The one place that knows every method; each is imported when it is needed."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.inference.tuning import PLAIN, Tuning
from pipeline.model_settings import ModelSettings
from pipeline.models.card import ModelCard
from pipeline.models.checkpoint import build_flows, read_checkpoint, strange_tensors
from pipeline.models.detector import Detector
from pipeline.models.encoder import Encoder


def load_detector(
    folder: Path, expected: ModelSettings | None = None, *, device: torch.device, tuning: Tuning = PLAIN
) -> tuple[ModelCard, Encoder, Detector]:
    """Read a checkpoint of any method.

    Args:
        folder: as written by ``train``.
        expected: the configuration's model settings; whatever they state must hold for the checkpoint.
        device: where the detector shall work.
        tuning: its precision is that of flows; other methods run as they stand.

    Returns:
        The card, the encoder on the CPU, and the detector on the device.

    Raises:
        CheckpointError: it is missing, damaged or not the model that was expected.
        ModelSizeError: the memory there is cannot hold it.
    """
    card, encoder, tensors = read_checkpoint(folder, expected)
    if card.model.method == "cflow":
        from pipeline.inference.cflow import CflowDetector

        flows = build_flows(folder, card, encoder, tensors)
        return card, encoder, CflowDetector(flows, card.levels, tuning.precision).to(device)
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
    return card, encoder, detector.requires_grad_(False).to(device)
