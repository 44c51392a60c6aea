"""Fitting PaDiM and SPADE: one pass over the cached features, and no gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pipeline.baselines.maps import stack_levels
from pipeline.baselines.padim import Moments, Padim, PadimScene, draw_channels
from pipeline.baselines.scenes import SceneModels, level_sizes
from pipeline.baselines.spade import Spade, SpadeScene, check_gallery, pooled
from pipeline.training.features import ClipFeatures
from pipeline.training.ground import Fitted, Ground, scenes_of
from pipeline.training.measure import score_features

_BATCH_FRAMES = 32


def fit_padim(ground: Ground) -> Fitted:
    """Measure one Gaussian per position and scene; sums are kept, not frames.

    Raises:
        ModelSizeError: the covariances would not fit into memory.
    """
    model, channels = ground.model, ground.encoder.channels
    kept = draw_channels(sum(channels), model.padim.channels, ground.config.training.seed)
    height, width = level_sizes(model.image_size_px, model.encoder.strides)[0]
    report = _Report(ground)
    models = []
    for scene in scenes_of(ground.clips):
        moments = Moments(height * width, len(kept))
        for levels in _batches(ground, scene):
            moments.add(stack_levels(levels, kept).flatten(2).transpose(1, 2))
            report(len(levels[0]))
        models.append(PadimScene(kept.clone(), *moments.gaussians(model.padim.ridge), model))
    return _fitted(ground, Padim(scenes_of(ground.clips), models, model.score.top_fraction))


def fit_spade(ground: Ground) -> Fitted:
    """Gather the features of all training frames.

    Raises:
        ModelSizeError: they are more than ``model.spade.gallery_gib``, or than the memory there is.
    """
    check_gallery(ground.split.train_frames, ground.model, ground.encoder.channels)
    report = _Report(ground)
    models = []
    for scene in scenes_of(ground.clips):
        frames = sum(len(part) for _, part in _of_scene(ground, scene))
        galleries = [torch.empty((frames, *level.shape[1:]), dtype=torch.float16) for level in ground.clips[0].levels]
        means, done = [], 0
        for levels in _batches(ground, scene):
            for gallery, level in zip(galleries, levels, strict=True):
                gallery[done : done + len(level)] = level.flatten(2).transpose(1, 2)  # float16 as cached: nothing lost
            means.append(pooled(levels))
            done += len(levels[0])
            report(len(levels[0]))
        models.append(SpadeScene(torch.cat(means), galleries, ground.model))
    return _fitted(ground, Spade(scenes_of(ground.clips), models, ground.model.score.top_fraction))


class _Report:
    """Tells the progress how many training frames were taken in."""

    def __init__(self, ground: Ground) -> None:
        self._progress, self._total = ground.progress, ground.split.train_frames
        self._done = 0

    def __call__(self, frames: int) -> None:
        self._done += frames
        self._progress.step(0, self._done, self._total, {})


def _of_scene(ground: Ground, scene: str) -> list[tuple[ClipFeatures, range]]:
    pairs = zip(ground.clips, ground.split.train, strict=True)
    return [(clip, frames) for clip, frames in pairs if clip.clip.scene == scene and frames]


def _batches(ground: Ground, scene: str) -> Iterator[list[Tensor]]:
    """Features of a scene's training frames, per level (B, D_k, h_k, w_k), float32, on the CPU."""
    sizes = level_sizes(ground.model.image_size_px, ground.model.encoder.strides)
    for clip, frames in _of_scene(ground, scene):
        for start in range(frames.start, frames.stop, _BATCH_FRAMES):
            yield feature_maps(clip, range(start, min(start + _BATCH_FRAMES, frames.stop)), sizes)


def feature_maps(clip: ClipFeatures, frames: range, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Cached features as the encoder would give them: per level float32 (B, D_k, h_k, w_k)."""
    return [
        torch.from_numpy(level[frames.start : frames.stop].astype("float32")).unflatten(1, size).permute(0, 3, 1, 2)
        for level, size in zip(clip.levels, sizes, strict=True)
    ]


def _fitted(ground: Ground, models: SceneModels) -> Fitted:
    """Score the held-out frames, which nothing was taken from, and give back what a checkpoint holds."""
    sizes = level_sizes(ground.model.image_size_px, ground.model.encoder.strides)
    models = models.requires_grad_(False).to(ground.device)
    normal_scores = score_features(
        models,
        lambda clip, frames: [level.to(ground.device) for level in feature_maps(clip, frames, sizes)],
        ground.clips,
        ground.split.heldout,
        ground.progress.heldout,
    )
    tensors: Mapping[str, Tensor] = models.state_dict()
    return Fitted(
        method=tensors,
        levels=(),
        normal_scores=normal_scores,
        heldout=ground.split.heldout,
        completed=True,
        epochs=1,
        steps=0,
        losses={},
    )
