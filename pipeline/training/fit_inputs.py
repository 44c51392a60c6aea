"""What every method is fitted on, and what every method gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from pipeline.config import Config
from pipeline.model_settings import ModelSettings
from pipeline.models.card import LevelConstants
from pipeline.models.cflow import CFlow
from pipeline.models.encoder import Encoder
from pipeline.training.features import ClipFeatures
from pipeline.training.holdout import Part, Split
from pipeline.training.progress import TrainingProgress
from pipeline.training.state import States
from pipeline.training.workers import ALONE, Workers


@dataclass(frozen=True)
class Settled:
    """What fits on parts of the footage have settled for the one on all of it, which leaves nothing to measure it on.

    Attributes:
        levels: constants of scoring, finest level first; empty for a method that needs none.
        condition_strengths: as of ``FitResult``.
    """

    levels: tuple[LevelConstants, ...]
    condition_strengths: dict[str, float]


@dataclass(frozen=True)
class FitInputs:
    """What a method is fitted on.

    Attributes:
        config: ``training`` is read.
        model: settings of the model, with everything resolved that was left to timm.
        encoder: on the device.
        device: torch device of the fit.
        clips: cached features of the normal footage.
        split: which frames are learned from, and which are held out.
        states: where an unfinished training keeps its state.
        features_key: digest of everything that decides the features.
        progress: called as it goes on.
        workers: that fit it together.
        settled: what is not to be measured; None where it is.
        is_last: whether nothing is fitted after this.
    """

    config: Config
    model: ModelSettings
    encoder: Encoder
    device: str
    clips: Sequence[ClipFeatures]
    split: Split
    states: States
    features_key: str
    progress: TrainingProgress
    workers: Workers = ALONE
    settled: Settled | None = None
    is_last: bool = True


@dataclass(frozen=True)
class FitResult:
    """What a fit gives back.

    Attributes:
        method: flows, or another method's tensors by the names that a checkpoint gives them.
        levels: constants of scoring, finest level first; empty for a method that needs none.
        heldout: the frames that were measured.
        completed: whether it ran to its end.
        epochs: whole passes over the training frames.
        steps: optimiser steps.
        losses: running mean of the loss, by the level's name.
        condition_strengths: of the flows' conditions, by the level's name, where they were chosen.
    """

    method: CFlow | Mapping[str, Tensor]
    levels: tuple[LevelConstants, ...]
    heldout: tuple[Part, ...]
    completed: bool
    epochs: int
    steps: int
    losses: dict[str, float]
    condition_strengths: dict[str, float] = field(default_factory=dict)


def scenes_of(clips: Sequence[ClipFeatures]) -> tuple[str, ...]:
    """Names of the training scenes, sorted: the order of a model's rows."""
    return tuple(sorted({clip.clip.scene for clip in clips}))
