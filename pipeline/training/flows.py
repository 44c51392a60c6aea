"""Fitting conditional flows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.model_settings import ModelSettings
from pipeline.models.cflow import CFlow
from pipeline.models.encoder import Encoder
from pipeline.training.condition_strength import choose_strengths
from pipeline.training.features import ClipFeatures
from pipeline.training.fit_inputs import FitInputs, FitResult, scenes_of
from pipeline.training.flow_trainer import FlowTrainer
from pipeline.training.holdout import Part, Split
from pipeline.training.measure import measure_levels
from pipeline.training.resume import run_trainer
from pipeline.training.workers import ALONE, Workers

# Mean and covariance are taken over this many frames, or as many as give this many vectors.
_WHITENING_FRAMES = 64
_WHITENING_VECTORS = 65_536


def fit_flows(inputs: FitInputs) -> FitResult:
    """Fit the flows, or go on where an interrupted training stopped.

    Raises:
        RunError: the training diverged.
        KeyboardInterrupt: interrupted before a single step.
    """
    training, workers = inputs.config.training, inputs.workers
    flows = initial_flows(inputs.model, inputs.encoder, inputs.clips, inputs.split, training.seed, workers)
    flows = flows.to(inputs.device)
    fit = FlowTrainer(flows, inputs.clips, inputs.split.train, training, workers)
    completed, heldout = run_trainer(fit, inputs)
    settled = inputs.settled
    strengths = settled.condition_strengths if settled else choose_strengths(flows, inputs.clips, heldout, workers)
    for level, name in enumerate(inputs.model.encoder.level_names):
        if name in strengths:
            flows.flow(level).scale_conditions(strengths[name])
        flows.flow(level).round_weights()
    return FitResult(
        method=flows,
        levels=settled.levels if settled else measure_levels(flows, inputs.clips, heldout, workers),
        heldout=heldout,
        completed=completed,
        epochs=fit.epoch,
        steps=fit.step,
        losses=fit.losses,
        condition_strengths=strengths,
    )


def initial_flows(
    model: ModelSettings,
    encoder: Encoder,
    clips: Sequence[ClipFeatures],
    split: Split,
    seed: int,
    workers: Workers = ALONE,
) -> CFlow:
    """Flows with weights drawn from the seed and whitening measured on the training features; on the CPU.

    The global random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flows = CFlow(model, encoder.channels, scenes_of(clips))
    for level in range(len(encoder.channels)):
        flows.flow(level).whiten(*_moments(clips, split.train, level, workers))
    return flows


def _moments(
    clips: Sequence[ClipFeatures], parts: Sequence[Part], level: int, workers: Workers
) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D), float64, of a level's features in frames spread evenly over the footage.

    Variants are taken in turn.
    """
    every = [(clips[part.clip], frame) for part in parts for frame in part.frames]
    _, area, dims = clips[0].levels[level].shape
    wanted = min(len(every), max(_WHITENING_FRAMES, _WHITENING_VECTORS // area))
    chosen = [every[at] for at in np.unique(np.linspace(0, len(every) - 1, wanted).round().astype(int))]
    own = workers.share([1.0] * len(chosen), [clip.holders for clip, _ in chosen]) == workers.rank
    total, products = np.zeros(dims), np.zeros((dims, dims))
    for turn in np.flatnonzero(own):
        clip, frame = chosen[turn]
        variants = clip.variants()
        values = variants[turn % len(variants)].levels[level][frame].astype(np.float64)
        total, products = total + values.sum(axis=0), products + values.T @ values
    workers.add(torch.from_numpy(total), torch.from_numpy(products))
    count = len(chosen) * area
    mean = total / count
    return torch.from_numpy(mean), torch.from_numpy(products / count - np.outer(mean, mean))
