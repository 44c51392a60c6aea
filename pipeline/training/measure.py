"""What held-out normal frames look like to the fitted flows: constants of scoring, and normal anomaly scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.baselines.scenes import SceneModels
from pipeline.inference.anomaly_map import anomaly_maps, level_constants
from pipeline.models.card import LevelConstants
from pipeline.models.cflow import CFlow
from pipeline.models.score import frame_scores
from pipeline.training.features import ClipFeatures

_BATCH_FRAMES = 16

HeldoutScores = dict[str, tuple[tuple[float, ...], ...]]


def measure_normal(
    flows: CFlow,
    clips: Sequence[ClipFeatures],
    heldout: Sequence[range],
    progress: Callable[[int, int], None],
) -> tuple[tuple[LevelConstants, ...], HeldoutScores]:
    """Measure on held-out normal frames.

    Args:
        flows: fitted, on the device to be used; left in evaluation mode.
        clips: features of the normal footage.
        heldout: per clip, its held-out frames.
        progress: called with the frames done and the frames there are.

    Returns:
        Constants of every level, finest first; and anomaly scores by scene, one tuple per clip, in frame order.
    """
    flows.eval()
    parts = [(clip, frames) for clip, frames in zip(clips, heldout, strict=True) if frames]
    total, done = sum(len(frames) for _, frames in parts), 0
    maps: list[list[Tensor]] = []  # per clip and level; a few kilobytes per frame
    for clip, frames in parts:
        batches = []
        for start in range(frames.start, frames.stop, _BATCH_FRAMES):
            batch = range(start, min(start + _BATCH_FRAMES, frames.stop))
            batches.append(_log_likelihoods(flows, clip, batch))
            done += len(batch)
            progress(done, total)
        maps.append([torch.cat(level) for level in zip(*batches, strict=True)])
    strides = flows.settings.encoder.strides
    constants = tuple(
        level_constants(torch.cat([of_clip[level].flatten() for of_clip in maps]), stride, flows.flow(level).dims)
        for level, stride in enumerate(strides)
    )
    scores: dict[str, list[tuple[float, ...]]] = {}
    score = flows.settings.score
    for (clip, _), of_clip in zip(parts, maps, strict=True):
        of_frames = frame_scores(anomaly_maps(of_clip, constants, score).scored, score.top_fraction)
        scores.setdefault(clip.clip.scene, []).append(tuple(of_frames.tolist()))
    return constants, {scene: tuple(of_clips) for scene, of_clips in scores.items()}


@torch.inference_mode()
def _log_likelihoods(flows: CFlow, clip: ClipFeatures, frames: range) -> list[Tensor]:
    """Log-likelihood maps of some frames: one tensor (B, h, w) per level, on the CPU."""
    rows = flows.scene_rows([clip.clip.scene] * len(frames))
    maps = []
    for level, (height, width) in enumerate(flows.sizes):
        vectors = torch.from_numpy(clip.levels[level][frames.start : frames.stop].astype("float32"))
        device = flows.get_buffer(f"positions_{level}").device
        features = vectors.to(device).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        maps.append(flows.log_likelihood_map(level, features, rows.to(device)).cpu())
    return maps


@torch.inference_mode()
def score_features(
    models: SceneModels,
    features: Callable[[ClipFeatures, range], Sequence[Tensor]],
    clips: Sequence[ClipFeatures],
    heldout: Sequence[range],
    progress: Callable[[int, int], None],
) -> HeldoutScores:
    """Score held-out normal frames by a method that needs no constants.

    Args:
        models: fitted, of every scene.
        features: some frames of a clip as they take them, on their device.
        clips: features of the normal footage.
        heldout: per clip, its held-out frames.
        progress: called with the frames done and the frames there are.

    Returns:
        Anomaly scores by scene, one tuple per clip, in frame order.
    """
    parts = [(clip, frames) for clip, frames in zip(clips, heldout, strict=True) if frames]
    total, done = sum(len(frames) for _, frames in parts), 0
    scores: dict[str, list[tuple[float, ...]]] = {}
    for clip, frames in parts:
        of_clip: list[float] = []
        for start in range(frames.start, frames.stop, _BATCH_FRAMES):
            batch = range(start, min(start + _BATCH_FRAMES, frames.stop))
            found = features(clip, batch)
            rows = models.scene_rows([clip.clip.scene] * len(batch)).to(found[0].device)
            of_clip += frame_scores(models.maps_of_features(found, rows).scored, models.top_fraction).tolist()
            done += len(batch)
            progress(done, total)
        scores.setdefault(clip.clip.scene, []).append(tuple(of_clip))
    return {scene: tuple(of_clips) for scene, of_clips in scores.items()}
