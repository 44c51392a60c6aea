"""Fitting PaDiM and SPADE: one pass over the cached features, and no gradient.

PaDiM's sums go over all variants of a frame. SPADE's gallery grows with what is in it, and has every frame once: each
frame of a clip in the next of its variants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pipeline.baselines.maps import stack_levels
from pipeline.baselines.padim import Moments, Padim, PadimScene, draw_channels
from pipeline.baselines.scenes import SceneModels, level_sizes
from pipeline.baselines.spade import Spade, SpadeScene, check_gallery, pooled
from pipeline.training.features import ClipFeatures
from pipeline.training.fit_inputs import FitInputs, FitResult, scenes_of
from pipeline.training.progress import TrainingProgress

_BATCH_FRAMES = 32


def fit_padim(inputs: FitInputs) -> FitResult:
    """Measure one Gaussian per position and scene; sums are kept, not frames.

    Raises:
        ModelSizeError: the covariances would not fit into memory.
    """
    model, channels = inputs.model, inputs.encoder.channels
    kept = draw_channels(sum(channels), model.padim.channels, inputs.config.training.seed)
    height, width = level_sizes(model.image_size_px, model.encoder.strides)[0]
    variants = len(inputs.clips[0].variants())
    workers = inputs.workers
    own = {scene: _own(inputs, scene) for scene in scenes_of(inputs.clips)}
    report = _Report(inputs.progress, variants * sum(len(frames) for parts in own.values() for _, frames in parts))
    models = []
    for parts in own.values():
        every = [(variant, frames) for clip, frames in parts for variant in clip.variants()]
        moments = Moments(height * width, len(kept))
        for levels in _batches(inputs, every):
            moments.add(stack_levels(levels, kept).flatten(2).transpose(1, 2))
            report(len(levels[0]))
        if workers.count > 1:
            moments.add_up(workers.add)
        models.append(PadimScene(kept.clone(), *moments.gaussians(model.padim.ridge), model))
    return _fit_result(inputs, Padim(scenes_of(inputs.clips), models, model.score.top_fraction))


def fit_spade(inputs: FitInputs) -> FitResult:
    """Gather the features of all training frames.

    Raises:
        ModelSizeError: they are more than ``model.spade.gallery_gib``, or than the memory there is.
    """
    check_gallery(inputs.split.train_frames, inputs.model, inputs.encoder.channels)
    report = _Report(inputs.progress, inputs.split.train_frames)
    models = []
    for scene in scenes_of(inputs.clips):
        by_turns = [
            (variant, part[turn :: len(clip.variants())])
            for clip, part in _of_scene(inputs, scene)
            for turn, variant in enumerate(clip.variants())
        ]
        frames = sum(len(part) for _, part in by_turns)
        galleries = [torch.empty((frames, *level.shape[1:]), dtype=torch.float16) for level in inputs.clips[0].levels]
        means, done = [], 0
        for levels in _batches(inputs, by_turns):
            for gallery, level in zip(galleries, levels, strict=True):
                gallery[done : done + len(level)] = level.flatten(2).transpose(1, 2)  # float16 as cached: nothing lost
            means.append(pooled(levels))
            done += len(levels[0])
            report(len(levels[0]))
        models.append(SpadeScene(torch.cat(means), galleries, inputs.model))
    return _fit_result(inputs, Spade(scenes_of(inputs.clips), models, inputs.model.score.top_fraction))


class _Report:
    """Reports how many training frames were taken in."""

    def __init__(self, progress: TrainingProgress, total: int) -> None:
        self._progress, self._total = progress, total
        self._done = 0

    def __call__(self, frames: int) -> None:
        self._done += frames
        self._progress.step(0, self._done, self._total, {})


def _of_scene(inputs: FitInputs, scene: str) -> list[tuple[ClipFeatures, range]]:
    """A scene's parts to learn from."""
    parts = [(inputs.clips[clip], frames) for clip, frames in inputs.split.train]
    return [(clip, frames) for clip, frames in parts if clip.clip.scene == scene]


def _own(inputs: FitInputs, scene: str) -> list[tuple[ClipFeatures, range]]:
    """Those of a scene's parts that this worker measures."""
    parts = _of_scene(inputs, scene)
    owners = inputs.workers.share([len(frames) for _, frames in parts], [clip.holders for clip, _ in parts])
    return [part for part, owner in zip(parts, owners, strict=True) if owner == inputs.workers.rank]


def _batches(inputs: FitInputs, parts: Sequence[tuple[ClipFeatures, range]]) -> Iterator[list[Tensor]]:
    """Features of frames of some clips, per level (B, D_k, h_k, w_k), float32, on the CPU."""
    sizes = level_sizes(inputs.model.image_size_px, inputs.model.encoder.strides)
    for clip, frames in parts:
        for start in range(0, len(frames), _BATCH_FRAMES):
            yield feature_maps(clip, frames[start : start + _BATCH_FRAMES], sizes)


def feature_maps(clip: ClipFeatures, frames: range, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Cached features as the encoder would give them: per level float32 (B, D_k, h_k, w_k)."""
    return [
        torch.from_numpy(level[frames.start : frames.stop : frames.step].astype("float32"))
        .unflatten(1, size)
        .permute(0, 3, 1, 2)
        for level, size in zip(clip.levels, sizes, strict=True)
    ]


def _fit_result(inputs: FitInputs, models: SceneModels) -> FitResult:
    tensors: Mapping[str, Tensor] = models.state_dict()
    return FitResult(
        method=tensors, levels=(), heldout=inputs.split.heldout, completed=True, epochs=1, steps=0, losses={}
    )
