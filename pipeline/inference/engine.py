"""A trained model at work: uint8 frames of any cameras in, predictions out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.config import RuntimeSettings
from pipeline.errors import CheckpointError
from pipeline.inference.packages import load_package
from pipeline.inference.tuning import PLAIN, Tuning, choose_tuning, compiled_encoder
from pipeline.methods import method_of
from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import AnomalyModel, Encode
from pipeline.models.card import ModelCard, check_matches, read_card
from pipeline.models.float16 import as_float16
from pipeline.models.pairs import Pairs
from pipeline.models.read_out import Reading, ReadOut, load_read_out
from pipeline.runtime.messages import CameraRole
from pipeline.types import FrameBatch, Prediction
from pipeline.zoning import Regime

_LOGGER = logging.getLogger(__name__)

# Pixels of one forward pass (64 frames of 256 x 256): a wider batch is done in parts, so its memory is bounded.
_MAX_PIXELS = 2**22
_DTYPES = {"uint8": torch.uint8, "float32": torch.float32}  # of a batch


class Engine:
    """An encoder and what a method makes of its features, on one device.

    A prediction depends on its frame, pair and scene alone, whatever else is in the batch: every constant was fixed in
    training.

    Attributes:
        card: what the checkpoint says of itself.
        device: where it runs.
        encode: the encoder.
        anomaly_model: what is made of the features.
        read_out: what is made of that and of motion.
        tuning: how it is run.
    """

    def __init__(
        self,
        card: ModelCard,
        encode: Encode,
        anomaly_model: AnomalyModel,
        read_out: ReadOut,
        device: str = "cpu",
        tuning: Tuning = PLAIN,
    ) -> None:
        self.card = card
        self.device = torch.device(device)
        self.tuning = tuning
        self.encode = encode
        self.anomaly_model = anomaly_model
        self.read_out = read_out

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "cpu", expected: ModelSettings | None = None, tuning: Tuning = PLAIN
    ) -> Engine:
        """Read a checkpoint.

        Args:
            folder: as written by ``train``.
            device: torch device.
            expected: the configuration's model settings; whatever they state must hold for the checkpoint.
            tuning: how it is to be run.

        Raises:
            CheckpointError: it is missing, damaged or not the model that was expected.
            ModelSizeError: the memory there is cannot hold it.
            PackageError: it is to be compiled, and this machine cannot.
            OSError: it is to be compiled, and there is no place for that.
        """
        return cls._load(folder, _expected_card(folder, expected), device, tuning)

    @classmethod
    def _load(cls, folder: Path, card: ModelCard, device: str, tuning: Tuning) -> Engine:
        """As ``load``, with the card as it was read: doing that again would hash all weights once more."""
        where = torch.device(device)
        if tuning.compiled and method_of(card.model.method).packaged:
            packaged = load_package(folder, card, tuning, where)
            return cls(card, *packaged, load_read_out(folder, card, where), device, tuning)
        # What else there is costs its imports: timm, FrEIA.
        from pipeline.inference.loading import load_anomaly_model

        encoder, anomaly_model = load_anomaly_model(folder, card, device=where, tuning=tuning)
        faster = encoder.for_inference().to(where)
        encode = compiled_encoder(faster) if tuning.compiled else faster
        return cls(card, encode, anomaly_model, load_read_out(folder, card, where), device, tuning)

    @classmethod
    def ready(
        cls,
        folder: Path,
        settings: RuntimeSettings,
        *,
        device: str = "cpu",
        card: ModelCard | None = None,
        agree: Callable[[Tuning], Tuning] = lambda tuning: tuning,
    ) -> Engine:
        """Read a checkpoint, decide how to run it here, and run it once: nothing is compiled once frames come.

        A machine on which compiling fails runs the model as it stands, with a warning.

        Args:
            folder: as written by ``train``.
            settings: ``precision``, ``compile`` and ``batch_frames`` are read.
            device: torch device.
            card: its card, where ``read_card`` has just checked it against the weights; None reads it.
            agree: given what suits this process best, says how it is to be: all detectors of a run do it in one way.

        Raises:
            CheckpointError: it is missing or damaged.
            ModelSizeError: the memory there is cannot hold it.
        """
        card = read_card(folder) if card is None else card
        tuning = agree(choose_tuning(settings, torch.device(device), card.model.method))
        started = time.monotonic()
        try:
            engine = cls._load(folder, card, device, tuning)
            engine.warm_up(settings.batch_frames)
        except Exception as error:  # a compiler may fail in many ways, and torch has a class for each
            if not tuning.compiled or isinstance(error, MemoryError | CheckpointError):
                raise
            detail = " ".join(str(error).split())[:300]
            _LOGGER.warning("runtime.compile: the model runs as it stands: compiling it failed: %s", detail)
            engine = cls._load(folder, card, device, replace(tuning, compiled=False))
            engine.warm_up(settings.batch_frames)
        _LOGGER.info(
            "model %s on %s: %s; ready after %.1f s",
            engine.card.short_fingerprint,
            device,
            engine.tuning,
            time.monotonic() - started,
        )
        return engine

    def warm_up(self, batch_frames: int) -> None:
        """Run on empty frames, as few and as many as a batch will hold."""
        for count in {1, batch_frames}:
            images = torch.zeros(count, *self.image_size_px, 3, dtype=torch.uint8)
            gaps_s = torch.full((count,), self.card.model.motion.gap_s)
            self.score(images, Pairs(images[..., 0].contiguous(), gaps_s), [""] * count)

    @property
    def image_size_px(self) -> tuple[int, int]:
        """(height, width) of the frames that ``predict`` takes."""
        return self.card.model.image_size_px

    def predict(
        self,
        batch: FrameBatch,
        scenes: Sequence[str],
        *,
        maps: bool = True,
        regimes: Sequence[Regime | None] | None = None,
    ) -> list[Prediction]:
        """Score frames.

        Args:
            batch: B frames at ``image_size_px``, with their pairs; of any cameras, in any order.
            scenes: for each frame the name of its camera's scene in the model. What becomes of a name that was not
                trained on is the method's business: flows take the mean camera embedding, baselines the scene that
                suits the frame best.
            maps: whether predictions carry their anomaly map.
            regimes: for each frame the zones that hold; None, or no zones, is all of the image.

        Returns:
            B predictions, in the order of the batch.

        Raises:
            ValueError: the frames do not have the model's size, or there are not as many headers, images, pairs and
                scenes.
        """
        self._check(batch, scenes)
        height, width = self.image_size_px
        group = max(1, _MAX_PIXELS // (height * width))
        predictions = []
        for start in range(0, len(batch), group):
            part = slice(start, start + group)
            reading = self.score(*self._upload(batch, part), scenes[part], None if regimes is None else regimes[part])
            numbers = torch.stack([reading.scores, reading.common_surprise, reading.motion_share])
            scores, common, motion = numbers.tolist()
            shown = as_float16(reading.shown) if maps else [None] * len(scores)
            paired = (batch.gaps_s[part] > 0.0).tolist()
            predictions += list(map(Prediction, batch.headers[part], scores, shown, paired, common, motion))
        return predictions

    def predict_as(self, batch: FrameBatch, roles: Sequence[CameraRole]) -> list[Prediction]:
        """Score frames as their cameras' roles say; with maps.

        Args:
            batch: as in ``predict``.
            roles: for each frame its camera's.

        Raises:
            ValueError: as in ``predict``.
        """
        regimes = None
        if any(role.zoning is not None for role in roles):
            regimes = [
                None if role.zoning is None else role.zoning.at(header.captured_at_s)
                for header, role in zip(batch.headers, roles, strict=True)
            ]
        return self.predict(batch, [role.scene for role in roles], regimes=regimes)

    def _check(self, batch: FrameBatch, scenes: Sequence[str]) -> None:
        frames = (len(batch.headers), *self.image_size_px)
        arrays = (batch.images, batch.previous_luma, batch.gaps_s)
        got = [(array.dtype, array.shape) for array in arrays]
        wanted = [(np.dtype(np.uint8), (*frames, 3)), (np.dtype(np.uint8), frames), (np.dtype(np.float32), frames[:1])]
        if got != wanted or len(scenes) != len(batch):
            raise ValueError(
                f"batch: expected uint8 images of shape {(*frames, 3)}, uint8 luma of shape {frames}, float32 gaps of "
                f"shape {frames[:1]} and as many scenes, got "
                + ", ".join(f"{dtype} {shape}" for dtype, shape in got)
                + f" and {len(scenes)} scenes"
            )

    def _upload(self, batch: FrameBatch, part: slice) -> tuple[Tensor, Pairs]:
        """Bytes go to the device, a quarter of what floats would be; they become floats there."""
        arrays = (batch.images[part], batch.previous_luma[part], batch.gaps_s[part])
        images, previous_luma, gaps_s = map(self._copied, arrays)
        return images, Pairs(previous_luma, gaps_s)

    def _copied(self, array: npt.NDArray[Any]) -> Tensor:
        """An array on the device. Copied once: arrays from Ray are read-only, which torch cannot express."""
        if self.device.type != "cuda":
            return torch.from_numpy(array.copy())
        # Straight into pinned memory, which a GPU fetches from by itself, and which torch keeps for it until it has.
        pinned = torch.empty(array.shape, dtype=_DTYPES[array.dtype.name], pin_memory=True)
        np.copyto(pinned.numpy(), array)
        return pinned.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def score(
        self, images: Tensor, pairs: Pairs, scenes: Sequence[str], regimes: Sequence[Regime | None] | None = None
    ) -> Reading:
        """One forward pass.

        Args:
            images: uint8, shape (B, H, W, 3), at ``image_size_px``, on any device.
            pairs: the other halves of their pairs.
            scenes: as for ``predict``.
            regimes: as for ``predict``.
        """
        images, pairs = images.to(self.device), pairs.to(self.device)
        rows = self.anomaly_model.scene_rows(scenes).to(self.device)
        maps = self.anomaly_model.anomaly_maps(images, self.encode, rows)
        return self.read_out(maps, images, pairs, scenes, regimes)


def _expected_card(folder: Path, expected: ModelSettings | None) -> ModelCard:
    card = read_card(folder)
    if expected is not None:
        check_matches(expected, card, folder)
    return card
