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
from pipeline.training.holdout import Part
from pipeline.training.workers import ALONE, Workers

_LOSS_MEMORY = 0.95  # of the running mean of the losses that is shown and kept
_ADAM = ("step", "exp_avg", "exp_avg_sq")


class Trainer(ABC):
    """Adam on all parameters at once, with linear warm-up and cosine decay; what a step does is the method's business.

    Every time that a frame is learned from, one of its variants is drawn, the frame as it is among them.

    Several workers take a step together: all draw the same, each learns from those frames whose features it has, and
    their gradients are added up. Each so has the same weights after every step.

    Args:
        module: to be fitted, on the device to fit it on.
        clips: cached features.
        frames: those to learn from.
        settings: of the training.
        workers: that take the steps together.

    Attributes:
        step: optimiser steps done.
        total_steps: steps of the whole training.
        losses: running mean of each level's loss, by its name.
    """

    _largest_gradient: float | None = None  # norm over all parameters that a step's gradient is cut down to

    def __init__(
        self,
        module: nn.Module,
        clips: Sequence[ClipFeatures],
        frames: Sequence[Part],
        settings: TrainingSettings,
        workers: Workers = ALONE,
    ) -> None:
        self._settings = settings
        self._module = module
        self._workers = workers
        self._holders = [clip.holders for clip in clips]
        self._variants = tuple(clip.variants() for clip in clips)
        # Number of the clip and of the frame in it, for every frame there is to learn from.
        self._owners = np.repeat([part.clip for part in frames], [len(part.frames) for part in frames])
        self._within = np.concatenate([np.asarray(part.frames, dtype=np.int64) for part in frames])
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
        chosen = self._frames_of_step()
        losses = self._backward(chosen, self._own(chosen), np.random.default_rng((self._settings.seed, 1, self.step)))
        for level, loss in self._added_up(losses).items():
            self._note_loss(level, loss)
        if self._largest_gradient is not None:
            nn.utils.clip_grad_norm_(self._parameters.values(), self._largest_gradient)
        self._optimiser.step()
        self.step += 1

    def agree(self) -> None:
        """Have all workers begin with the same bits: sums over workers may differ in the last one between machines."""
        self._workers.copy_first(tensor.data for tensor in (*self._module.parameters(), *self._module.buffers()))

    @abstractmethod
    def _backward(
        self, chosen: npt.NDArray[np.int64], own: npt.NDArray[np.bool_], random: np.random.Generator
    ) -> dict[str, float]:
        """Add the gradients of this worker's part of one step.

        Args:
            chosen: numbers of the step's frames.
            own: which of them this worker learns from; perhaps none.
            random: draws the same at every worker, so all of the step is drawn.

        Returns:
            This part's share of the loss of each level: the loss is the sum over all workers.
        """

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

    def _own(self, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some frames this worker learns from."""
        holders = [self._holders[owner] for owner in self._owners[chosen]]
        return self._workers.share([1.0] * len(chosen), holders) == self._workers.rank

    def _added_up(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Add up gradients and losses over all workers, in one message."""
        if self._workers.count == 1:
            return losses
        parameters = list(self._parameters.values())
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        learned = [float(p.grad is not None) for p in parameters]
        every = torch.cat([*(part.flatten() for part in parts), parts[0].new_tensor([*learned, *losses.values()])])
        self._workers.add(every)
        *gradients, told = every.split([*(p.numel() for p in parameters), len(parameters) + len(losses)])
        learned, of_levels = told[: len(parameters)].tolist(), told[len(parameters) :].tolist()
        for parameter, gradient, count in zip(parameters, gradients, learned, strict=True):
            # One of which nobody learned has no gradient, not one of 0: Adam leaves it as it is.
            parameter.grad = gradient.view_as(parameter) if count else None
        return dict(zip(losses, of_levels, strict=True))

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
