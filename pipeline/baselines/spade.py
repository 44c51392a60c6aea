"""SPADE: nearest neighbours of frames, then of positions (Cohen and Hoshen 2020, arXiv 2005.02357)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pipeline.baselines.maps import smoothed, stack_levels
from pipeline.baselines.scenes import SceneModels, check_tensor, level_sizes, scene_tensors
from pipeline.errors import ModelSizeError
from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import AnomalyMaps, Encode, StoredModel
from pipeline.models.memory import check_memory

_GIB = 2**30


def nearest_squared(queries: Tensor, gallery: Tensor, count: int) -> Tensor:
    """Squared Euclidean distances to the nearest vectors, exactly: every pair is looked at.

    As one matrix product on the model's device::

        |q - g|^2 = |q|^2 + |g|^2 - 2 q.g

    An index (faiss and its like) pays where one gallery answers many queries. Here every frame has a gallery of its
    own, the positions of its nearest frames, so that none can be built ahead, and a flat index computes just this.

    Args:
        queries: float32, shape (N, D).
        gallery: float32, shape (M, D).
        count: how many, at most M.

    Returns:
        Rising, shape (N, min(count, M)).
    """
    # Far from the origin the terms cancel, and with them digits: the gallery's mean is moved there.
    centre = gallery.mean(dim=0)
    queries, gallery = queries - centre, gallery - centre
    squares = torch.addmm(gallery.square().sum(dim=1), queries, gallery.T, alpha=-2.0)
    nearest = squares.topk(min(count, len(gallery)), dim=1, largest=False).values
    return (nearest + queries.square().sum(dim=1, keepdim=True)).clamp_(min=0.0)


def pooled(levels: Sequence[Tensor]) -> Tensor:
    """Mean of every channel over all positions, all levels side by side; float32, shape (B, sum of D_k)."""
    return torch.cat([level.float().mean(dim=(2, 3)) for level in levels], dim=1)


def gallery_bytes(frames: int, sizes: Sequence[tuple[int, int]], channels: Sequence[int]) -> int:
    """Memory that the features of some frames take, float16, with their pooled features in float32."""
    per_frame = sum(2 * h * w * dims for (h, w), dims in zip(sizes, channels, strict=True)) + 4 * sum(channels)
    return frames * per_frame


def check_gallery(frames: int, settings: ModelSettings, channels: Sequence[int]) -> None:
    """Refuse a gallery that is larger than its limit or than the memory there is, before it is gathered.

    Raises:
        ModelSizeError: says what it would take, and what helps.
    """
    sizes = level_sizes(settings.image_size_px, settings.encoder.strides)
    wanted, limit = gallery_bytes(frames, sizes, channels), settings.spade.gallery_gib
    advice = "set training.frame_step higher"
    if wanted > limit * _GIB:
        raise ModelSizeError(
            f"model.spade.gallery_gib: expected a gallery of at most {limit:g} GiB, got {wanted / _GIB:.2f} GiB for "
            f"{frames:,} training frames; {advice}, or the limit"
        )
    check_memory(wanted, f"model.spade: a gallery of {frames:,} training frames", advice)


class SpadeScene(nn.Module):
    """Gallery of one scene.

    Args:
        pooled: features of every training frame, pooled; float32, shape (N, sum of D_k).
        levels: its features, float16, per level, shape (N, h_k w_k, D_k), finest first.
        settings: of the model.
    """

    pooled: Tensor

    def __init__(self, pooled: Tensor, levels: Sequence[Tensor], settings: ModelSettings) -> None:
        super().__init__()
        self._settings = settings
        self._sizes = level_sizes(settings.image_size_px, settings.encoder.strides)
        self.register_buffer("pooled", pooled)
        for level, values in enumerate(levels):
            self.register_buffer(f"level_{level}", values)

    def neighbours(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The nearest training frames by pooled features.

        Returns:
            Distances, rising, and numbers of the frames, both (B, min(K, N)).
        """
        wanted = min(self._settings.spade.image_neighbours, len(self.pooled))
        # Differences, not products: there are few enough, and frames of one camera are near each other.
        distances = torch.cdist(pooled(levels), self.pooled, compute_mode="donot_use_mm_for_euclid_dist")
        found = distances.topk(wanted, dim=1, largest=False)
        return found.values, found.indices

    def pixel_distances(self, levels: Sequence[Tensor], frames: Sequence[Tensor]) -> Tensor:
        """Mean distance of every position to its nearest feature vectors in some training frames; shape (B, h, w).

        Args:
            levels: per level, shape (B, D_k, h_k, w_k), finest first.
            frames: for each frame of the batch, numbers of training frames, shape (K,).
        """
        count = self._settings.spade.pixel_neighbours
        stacked = stack_levels(levels)
        maps = []
        for queries, chosen in zip(stacked.flatten(2).transpose(1, 2), frames, strict=True):
            # Frame by frame: memory stays at one matrix of positions x positions, however large K is.
            best = [nearest_squared(queries, self._vectors(frame), count) for frame in chosen.tolist()]
            nearest = torch.cat(best, dim=1)
            nearest = nearest.topk(min(count, nearest.shape[1]), dim=1, largest=False).values
            maps.append(nearest.sqrt().mean(dim=1))
        return torch.stack(maps).view(len(stacked), *stacked.shape[-2:])

    def maps_of_features(self, features: Sequence[Tensor]) -> AnomalyMaps:
        """Smoothed pixel distances (B, h, w), and to be scored the mean distance to the K nearest frames (B, 1, 1)."""
        distances, frames = self.neighbours(features)
        sigma = self._settings.spade.smoothing_px / self._settings.encoder.strides[0]
        shown = smoothed(self.pixel_distances(features, list(frames)), sigma)
        return AnomalyMaps(shown, distances.mean(dim=1).view(-1, 1, 1))

    def _vectors(self, frame: int) -> Tensor:
        """Feature vectors of one training frame at the finest level's positions; float32, shape (P, sum of D_k)."""
        levels = [
            self.get_buffer(f"level_{level}")[frame].float().T.unflatten(1, size).unsqueeze(0)
            for level, size in enumerate(self._sizes)
        ]
        return stack_levels(levels)[0].flatten(1).T


class Spade(SceneModels):
    """SPADE for all scenes of a checkpoint."""

    def anomaly_maps(self, images: Tensor, encode: Encode, scene_rows: Tensor) -> AnomalyMaps:
        """As ``AnomalyModel.anomaly_maps``."""
        return self.maps_of_features(encode(images), scene_rows)

    @classmethod
    def build(
        cls, settings: ModelSettings, channels: Sequence[int], scenes: Sequence[str], tensors: Mapping[str, Tensor]
    ) -> Spade:
        """SPADE from a checkpoint's tensors, which it takes as they are; arguments as for ``Padim.build``.

        Raises:
            RuntimeError: names or shapes are not those that the settings ask for.
        """
        sizes = level_sizes(settings.image_size_px, settings.encoder.strides)
        names = ["pooled", *(f"level_{level}" for level in range(len(sizes)))]
        models = []
        for of_scene in scene_tensors(tensors, len(scenes), names):
            frames = len(of_scene["pooled"]) if of_scene["pooled"].ndim else 0
            if not frames:
                raise RuntimeError("pooled: expected at least one frame, got none")
            check_tensor(of_scene["pooled"], "pooled", (frames, sum(channels)))
            levels = [
                check_tensor(of_scene[f"level_{level}"], f"level_{level}", (frames, h * w, dims), torch.float16)
                for level, ((h, w), dims) in enumerate(zip(sizes, channels, strict=True))
            ]
            models.append(SpadeScene(of_scene["pooled"], levels, settings))
        return cls(scenes, models, settings.score.top_fraction)


def build_spade(stored: StoredModel, precision: torch.dtype) -> Spade:
    """SPADE of a checkpoint, as ``Method.builder``; it is float32 always."""
    del precision
    return Spade.build(stored.card.model, stored.channels, stored.card.scenes, stored.tensors)
