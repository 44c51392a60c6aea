"""A trained model at work: uint8 frames of any cameras in, predictions out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.config import ModelSettings
from pipeline.inference.methods import load_detector
from pipeline.models.card import ModelCard
from pipeline.models.detector import Detector
from pipeline.models.encoder import Encoder
from pipeline.types import FrameBatch, Prediction

# Pixels of one forward pass (64 frames of 256 x 256): a wider batch is done in parts, so its memory is bounded.
_MAX_PIXELS = 2**22


class Engine:
    """An encoder and what a method makes of its features, on one device.

    A prediction depends on its frame and scene alone, whatever else is in the batch: every constant was fixed in
    training.

    Attributes:
        card: what the checkpoint says of itself.
        device: where it runs.
    """

    def __init__(self, card: ModelCard, encoder: Encoder, detector: Detector, device: str = "cpu") -> None:
        self.card = card
        self.device = torch.device(device)
        self._encoder = encoder.to(self.device)
        self._detector = detector

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu", expected: ModelSettings | None = None) -> Engine:
        """Read a checkpoint and make it ready.

        Args:
            folder: as written by ``train``.
            device: torch device.
            expected: the configuration's model settings; whatever they state must hold for the checkpoint.

        Raises:
            CheckpointError: it is missing, damaged or not the model that was expected.
            ModelSizeError: the memory there is cannot hold it.
        """
        return cls(*load_detector(folder, expected, device=torch.device(device)), device=device)

    @property
    def image_size_px(self) -> tuple[int, int]:
        """(height, width) of the frames that ``predict`` takes."""
        return self.card.model.image_size_px

    def predict(self, batch: FrameBatch, scenes: Sequence[str], *, maps: bool = True) -> list[Prediction]:
        """Score frames.

        Args:
            batch: B frames at ``image_size_px``; of any cameras, in any order.
            scenes: for each frame the name of its camera's scene in the model. What becomes of a name that was not
                trained on is the method's business: flows take the mean camera embedding, baselines the scene that
                suits the frame best.
            maps: whether predictions carry their anomaly map.

        Returns:
            B predictions, in the order of the batch.

        Raises:
            ValueError: the images do not have the model's size, or there are not as many headers, images and scenes.
        """
        expected = (len(batch.headers), *self.image_size_px, 3)
        if batch.images.shape != expected or batch.images.dtype != np.uint8 or len(scenes) != len(batch):
            raise ValueError(
                f"batch: expected uint8 images of shape {expected} and as many scenes, got {batch.images.dtype} "
                f"{batch.images.shape} and {len(scenes)} scenes"
            )
        height, width = self.image_size_px
        group = max(1, _MAX_PIXELS // (height * width))
        predictions = []
        for start in range(0, len(batch), group):
            part = slice(start, start + group)
            # A copy: arrays from Ray are read-only, which torch cannot express.
            anomaly_maps, scores = self._judge(torch.from_numpy(batch.images[part].copy()), scenes[part])
            shown = anomaly_maps.half().cpu().numpy() if maps else [None] * len(scores)
            predictions += [
                Prediction(header, score, anomaly_map)
                for header, score, anomaly_map in zip(batch.headers[part], scores.tolist(), shown, strict=True)
            ]
        return predictions

    @torch.inference_mode()
    def _judge(self, images: Tensor, scenes: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Anomaly maps (B, h, w) and scores (B,) of uint8 images (B, H, W, 3); on the device."""
        rows = self._detector.scene_rows(scenes).to(self.device)
        return self._detector.judge(images.to(self.device), self._encoder, rows)
