"""PaDiM: one Gaussian per position (Defard, Setkov, Loesch, Audigier, ICPR 2020 workshops, arXiv 2011.08785)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from pipeline.baselines.maps import smoothed, stack_levels
from pipeline.baselines.scenes import SceneModels, check_tensor, level_sizes, scene_tensors
from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import AnomalyMaps, Encode, StoredModel
from pipeline.models.memory import check_memory

_TENSORS = ("channels", "mean", "whitening")
_SUM_BYTES = 8
_KEPT_BYTES = 4


def draw_channels(total: int, wanted: int, seed: int) -> Tensor:
    """Numbers of the channels to keep, drawn without repeats, rising; int64, shape (min(wanted, total),)."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[:wanted].sort().values


class Moments:
    """Mean and covariance of the feature vectors at every position, from sums: no frame is kept.

    Args:
        positions: P, of the finest level.
        dims: d, length of the vectors.

    Raises:
        ModelSizeError: the machine has no room for P matrices of d x d.
    """

    def __init__(self, positions: int, dims: int) -> None:
        check_memory(
            positions * dims * dims * (_SUM_BYTES + _KEPT_BYTES),
            f"model.padim: {positions:,} positions of {dims} x {dims} values",
            "set model.padim.channels or model.image_size_px lower",
        )
        self._count = 0
        self._origin: Tensor | None = None
        self._total = torch.zeros(positions, dims, dtype=torch.float64)
        self._products = torch.zeros(positions, dims, dims, dtype=torch.float64)

    @property
    def count(self) -> int:
        """Frames that were added."""
        return self._count

    def add(self, vectors: Tensor) -> None:
        """Take in frames.

        Args:
            vectors: shape (B, P, d).
        """
        values = vectors.double().transpose(0, 1)  # (P, B, d)
        if self._origin is None:
            # Sums of squares lose what is small beside the mean; from a nearby origin there is little to lose.
            self._origin = values.mean(dim=1, keepdim=True)
        values = values - self._origin
        self._count += values.shape[1]
        self._total += values.sum(dim=1)
        self._products.baddbmm_(values.transpose(1, 2), values)

    def add_up(self, add: Callable[..., None]) -> None:
        """Take in what other processes measured of other frames; all of them call this.

        Args:
            add: puts the sum over all processes into each tensor that it is given.
        """
        positions, dims = self._total.shape
        own = torch.zeros(positions, 1, dims, dtype=torch.float64) if self._origin is None else self._origin
        origin, known = own.clone(), torch.tensor([float(self._origin is not None)])
        add(origin, known)
        origin /= known.double()
        if self._origin is not None:  # sums around the origin that all have from now on
            shift = (own - origin).squeeze(1)
            self._products.baddbmm_(self._total.unsqueeze(2), shift.unsqueeze(1))
            self._products.baddbmm_(shift.unsqueeze(2), (self._total + self._count * shift).unsqueeze(1))
            self._total += self._count * shift
        count = torch.tensor([self._count])
        add(self._total, self._products, count)
        self._origin, self._count = origin, int(count)

    def gaussians(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Means and whitenings of all positions.

        With S = L L^T the covariance of a position, its whitening is W = L^-1::

            S = 1 / (N - 1) sum_n (x_n - m) (x_n - m)^T + ridge I

        Returns:
            Mean (P, d) and W (P, d, d), float32. What was summed up is used up.
        """
        assert self._origin is not None, "no frame was added"
        offset = self._total / self._count
        covariance = self._products
        covariance.baddbmm_(offset.unsqueeze(2), offset.unsqueeze(1), alpha=-float(self._count))
        covariance /= max(1, self._count - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(ridge)
        whitening = torch.empty(covariance.shape, dtype=torch.float32)
        eye = torch.eye(covariance.shape[-1], dtype=torch.float64)
        for position, matrix in enumerate(covariance):  # one by one: a second array of P matrices would not fit always
            factor = torch.linalg.cholesky(matrix)
            whitening[position] = torch.linalg.solve_triangular(factor, eye, upper=False)
        return (self._origin.squeeze(1) + offset).float(), whitening


class PadimScene(nn.Module):
    """Gaussians of one scene.

    Args:
        channels: numbers of the channels that are kept, int64, shape (d,).
        mean: shape (P, d).
        whitening: W = L^-1 of every covariance L L^T, shape (P, d, d).
        settings: of the model.
    """

    channels: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(self, channels: Tensor, mean: Tensor, whitening: Tensor, settings: ModelSettings) -> None:
        super().__init__()
        self._settings = settings
        self.register_buffer("channels", channels)
        self.register_buffer("mean", mean)
        self.register_buffer("whitening", whitening)

    def distances(self, levels: Sequence[Tensor]) -> Tensor:
        """Mahalanobis distance at every position: sqrt((x - m)^T S^-1 (x - m)) = |W (x - m)|; shape (B, h, w).

        Args:
            levels: per level, shape (B, D_k, h_k, w_k), finest first.
        """
        vectors = stack_levels(levels, self.channels)
        centred = vectors.flatten(2).permute(2, 1, 0) - self.mean.unsqueeze(2)  # (P, d, B)
        found = torch.linalg.vector_norm(torch.bmm(self.whitening, centred), dim=1)
        return found.T.reshape(len(vectors), *vectors.shape[-2:])

    def maps_of_features(self, features: Sequence[Tensor]) -> AnomalyMaps:
        """Smoothed distances, (B, h, w): scores are read off the map that is shown."""
        sigma = self._settings.padim.smoothing_px / self._settings.encoder.strides[0]
        maps = smoothed(self.distances(features), sigma)
        return AnomalyMaps(maps, maps)


class Padim(SceneModels):
    """PaDiM for all scenes of a checkpoint."""

    def anomaly_maps(self, images: Tensor, encode: Encode, scene_rows: Tensor) -> AnomalyMaps:
        """As ``AnomalyModel.anomaly_maps``."""
        return self.maps_of_features(encode(images), scene_rows)

    @classmethod
    def build(
        cls, settings: ModelSettings, channels: Sequence[int], scenes: Sequence[str], tensors: Mapping[str, Tensor]
    ) -> Padim:
        """PaDiM from a checkpoint's tensors, which it takes as they are.

        Args:
            settings: of the model.
            channels: D_k of every level, finest first.
            scenes: names of the training scenes.
            tensors: what ``state_dict`` gave.

        Raises:
            RuntimeError: names, shapes or values are not those that the settings ask for.
        """
        height, width = level_sizes(settings.image_size_px, settings.encoder.strides)[0]
        dims, area = min(settings.padim.channels, sum(channels)), height * width
        models = []
        for of_scene in scene_tensors(tensors, len(scenes), _TENSORS):
            chosen = check_tensor(of_scene["channels"], "channels", (dims,), torch.int64)
            if int(chosen.min()) < 0 or int(chosen.max()) >= sum(channels) or bool((chosen.diff() <= 0).any()):
                raise RuntimeError(f"channels: expected rising numbers from 0 to {sum(channels) - 1}, got others")
            mean = check_tensor(of_scene["mean"], "mean", (area, dims))
            whitening = check_tensor(of_scene["whitening"], "whitening", (area, dims, dims))
            models.append(PadimScene(chosen, mean, whitening, settings))
        return cls(scenes, models, settings.score.top_fraction)


def build_padim(stored: StoredModel, precision: torch.dtype) -> Padim:
    """PaDiM of a checkpoint, as ``Method.builder``; it is float32 always."""
    del precision
    return Padim.build(stored.card.model, stored.channels, stored.card.scenes, stored.tensors)
