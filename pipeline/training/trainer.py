"""Optimiser steps over cached features; every draw follows from the seed and the step's number."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.config import TrainingSettings
from pipeline.errors import RunError
from pipeline.training.features import ClipFeatures

_LOSS_MEMORY = 0.95  # of the running mean of the losses that is shown and kept
_ADAM = ("step", "exp_avg", "exp_avg_sq")


class Trainer(ABC):
    """Adam on all parameters at once, with linear warm-up and cosine decay; what a step does is the method's business.

    Every time that a frame is learned from, one of its variants is drawn, the frame as it is among them.

    Args:
        module: to be fitted, on the device to fit it on.
        clips: cached features.
        frames: per clip, the frames to learn from.
        settings: of the training.

    Attributes:
        step: optimiser steps done.
        total_steps: steps of the whole training.
        losses: running mean of each level's loss, by its name.
    """

    def __init__(
        self,
        module: nn.Module,
        clips: Sequence[ClipFeatures],
        frames: Sequence[range],
        settings: TrainingSettings,
    ) -> None:
        self._settings = settings
        self._variants = tuple(clip.variants() for clip in clips)
        # Number of the clip and of the frame in it, for every frame there is to learn from.
        self._owners = np.repeat(np.arange(len(clips)), [len(part) for part in frames])
        self._within = np.concatenate([np.asarray(part, dtype=np.int64) for part in frames])
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._optimiser = torch.optim.Adam(self._parameters.values(), lr=settings.learning_rate)
        self._steps_per_epoch = math.ceil(len(self._within) / settings.batch_frames)
        self.step = 0
        epochs = max(settings.epochs, math.ceil(settings.least_steps / self._steps_per_epoch))
        self.total_steps = epochs * self._steps_per_epoch
        self.losses: dict[str, float] = {}

    @property
    def epoch(self) -> int:
        """Whole passes over the footage that were done."""
        return self.step // self._steps_per_epoch

    def advance(self) -> None:
        """Do one optimiser step.

        Raises:
            RunError: the loss is not finite any more.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.learning_rate * relative_rate(
                self.step, self.total_steps, self._settings.warmup_fraction
            )
        self._optimiser.zero_grad(set_to_none=True)
        self._backward(self._frames_of_step(), np.random.default_rng((self._settings.seed, 1, self.step)))
        self._optimiser.step()
        self.step += 1

    @abstractmethod
    def _backward(self, chosen: npt.NDArray[np.int64], random: np.random.Generator) -> None:
        """Add the gradients of one step, and note its losses."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """Everything that was fitted, by name."""

    @abstractmethod
    def _load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what ``_tensors`` gave; RuntimeError when it is not this model's."""

    def stored(self) -> dict[str, Tensor]:
        """Everything that a continued training needs beside step and losses."""
        tensors = self._tensors()
        for name, parameter in self._parameters.items():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor], step: int, losses: Mapping[str, float]) -> None:
        """Go on from what ``stored`` gave after ``step`` steps.

        Raises:
            RuntimeError: the tensors are not this training's.
        """
        self._load_tensors({name: t for name, t in tensors.items() if not name.startswith("adam.")})
        for name, parameter in self._parameters.items():
            found = {key: tensors.get(f"adam.{key}.{name}") for key in _ADAM}
            if any(value is None for value in found.values()):
                raise RuntimeError(f"no optimiser state for {name}")
            self._optimiser.state[parameter] = {
                key: value.clone() if key == "step" else value.clone().to(parameter.device)
                for key, value in found.items()
                if value is not None
            }
        self.step, self.losses = step, dict(losses)

    def _frame_features(
        self, chosen: npt.NDArray[np.int64], variants: npt.NDArray[np.int64], level: int
    ) -> list[npt.NDArray[np.float16]]:
        """A level's features of some frames, each in one of its variants: (positions, D) each, memory-mapped."""
        return [
            self._variants[self._owners[frame]][variant].levels[level][self._within[frame]]
            for frame, variant in zip(chosen, variants, strict=True)
        ]

    def _draw_variants(self, chosen: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.int64]:
        """Number of a variant for each of some frames."""
        count = len(self._variants[0])
        return random.integers(0, count, len(chosen)) if count > 1 else np.zeros(len(chosen), np.int64)

    def _note_loss(self, level: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise RunError(
                f"training diverged in step {self.step + 1}: the loss at {level} is {loss}; set "
                "training.learning_rate lower"
            )
        before = self.losses.get(level, loss)
        self.losses[level] = _LOSS_MEMORY * before + (1.0 - _LOSS_MEMORY) * loss

    def _frames_of_step(self) -> npt.NDArray[np.int64]:
        """Numbers of the frames of this step; every epoch goes once over all, in an order of its own."""
        order = np.random.default_rng((self._settings.seed, 0, self.epoch)).permutation(len(self._within))
        start = (self.step % self._steps_per_epoch) * self._settings.batch_frames
        return np.sort(order[start : start + self._settings.batch_frames])


def relative_rate(step: int, total_steps: int, warmup_fraction: float) -> float:
    """Learning rate of a step relative to the highest: rising linearly, then falling as half a cosine.

    Args:
        step: from 0.
        total_steps: of the whole training.
        warmup_fraction: part of them in which it rises.
    """
    warmup = max(1, round(warmup_fraction * total_steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
