"""DifferNet: an unconditional flow on pooled features of the whole image (Rudolph, Wandt, Rosenhahn, WACV 2021)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from pipeline.baselines.scenes import SceneModels, check_tensor, level_sizes
from pipeline.model_settings import DiffernetSettings, ModelSettings
from pipeline.models.anomaly_model import AnomalyMaps, Encode, StoredModel

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SyntaxWarning)  # FrEIA's docstrings hold unescaped backslashes
    from FrEIA.modules import GLOWCouplingBlock

_LOG_2PI = math.log(2.0 * math.pi)
_GRAY = 128.0  # of the corners that a rotation lays bare
_LARGEST = torch.finfo(torch.float32).max
_TINY = torch.finfo(torch.float32).tiny
_SMALLEST_STD = 1e-3  # of a feature, as a fraction of the mean over all


class GlowFlow(nn.Module):
    """Maps vectors y to a standard normal u, without any condition.

    With J its Jacobian::

        log p(y) = -(|u|^2 + D log 2 pi) / 2 + log |det J|

    First every feature is brought to mean 0 and variance 1, which ``standardise`` measures (before that it does
    nothing); then come, in turn, a fixed shuffle of the features and a coupling block that changes both halves, each by
    the other, with log-scales softly clamped. The authors standardise nothing and their blocks have more hidden layers
    (``hidden_layers``).

    Args:
        dims: D, at least 2.
        settings: shape of the blocks.
    """

    mean: Tensor
    std: Tensor
    shuffles: Tensor

    def __init__(self, dims: int, settings: DiffernetSettings) -> None:
        super().__init__()
        self.dims = dims
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("std", torch.ones(dims))
        self.register_buffer("shuffles", torch.stack([torch.randperm(dims) for _ in range(settings.blocks)]))

        def subnet(dims_in: int, dims_out: int) -> nn.Module:
            widths = [dims_in, *[settings.hidden_dims] * settings.hidden_layers]
            hidden = [layer for before, after in pairwise(widths) for layer in (nn.Linear(before, after), nn.ReLU())]
            last = nn.Linear(widths[-1], dims_out)
            # Every block begins as the identity, as Glow's do (Kingma and Dhariwal 2018): from random weights of this
            # width the first steps of training end among numbers that no float holds.
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            return nn.Sequential(*hidden, last)

        self.blocks = nn.ModuleList(
            GLOWCouplingBlock([(dims,)], subnet_constructor=subnet, clamp=settings.clamp)
            for _ in range(settings.blocks)
        )

    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """Set what training vectors look like: mean and standard deviation of every feature, shape (D,)."""
        floor = max(_SMALLEST_STD * float(std.mean()), torch.finfo(torch.float32).tiny)
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=floor))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors u, shape (N, D), and log_det_jacobian in nats, shape (N,), of vectors (N, D)."""
        vectors = (vectors - self.mean) / self.std
        log_det_jacobian = -self.std.log().sum().expand(len(vectors))
        for shuffle, block in zip(self.shuffles, self.blocks, strict=True):
            (vectors,), log_det = block((vectors[:, shuffle],))
            log_det_jacobian = log_det_jacobian + log_det
        return vectors, log_det_jacobian

    def log_likelihood(self, vectors: Tensor) -> Tensor:
        """Log p(y) in nats, shape (N,), of vectors (N, D)."""
        latents, log_det_jacobian = self(vectors)
        return -0.5 * (latents.square().sum(dim=1) + self.dims * _LOG_2PI) + log_det_jacobian


class DiffernetScene(nn.Module):
    """The flow of one scene.

    Args:
        dims: length of the pooled features.
        settings: of the model.
    """

    def __init__(self, dims: int, settings: ModelSettings) -> None:
        super().__init__()
        self.flow = GlowFlow(dims, settings.differnet)
        self._map_size = level_sizes(settings.image_size_px, settings.encoder.strides)[0]

    def maps_of_features(self, features: Sequence[Tensor]) -> AnomalyMaps:
        """Logarithm of the mean of z squared over features and views, in ``features[0]`` of shape (B, views, D).

        The logarithm ranks frames as the paper's mean does. Without it a frame unlike all that was learned scores more
        than a map's float16 can hold, for the flow multiplies what it does not know.

        The method says whether, not where: every position of the map that is shown, (B, h, w), holds its frame's score,
        and the one that is scored, (B, 1, 1), holds nothing else.
        """
        count, views, dims = features[0].shape
        latents, _ = self.flow(features[0].reshape(-1, dims))
        squares = latents.double().nan_to_num(nan=_LARGEST, posinf=_LARGEST, neginf=_LARGEST).square()
        scores = squares.mean(dim=1).view(count, views).mean(dim=1).clamp(min=_TINY).log().float().view(count, 1, 1)
        return AnomalyMaps(scores.expand(count, *self._map_size).contiguous(), scores)


class Differnet(SceneModels):
    """DifferNet for all scenes of a checkpoint.

    Args:
        settings: of the model.
        channels: D_k of every level, finest first.
        scenes: names of the training scenes.
    """

    def __init__(self, settings: ModelSettings, channels: Sequence[int], scenes: Sequence[str]) -> None:
        dims = pooled_dims(settings, channels)
        super().__init__(scenes, [DiffernetScene(dims, settings) for _ in scenes], settings.score.top_fraction)
        self.settings = settings

    def flow(self, row: int) -> GlowFlow:
        """The flow of one scene."""
        scene = self.models[row]
        assert isinstance(scene, DiffernetScene)
        return scene.flow

    def anomaly_maps(self, images: Tensor, encode: Encode, scene_rows: Tensor) -> AnomalyMaps:
        """As ``AnomalyModel.anomaly_maps``; ``encode`` is called once per view and scale."""
        return self.maps_of_features([pooled_views(images, encode, self.settings)], scene_rows)

    @classmethod
    def build(
        cls, settings: ModelSettings, channels: Sequence[int], scenes: Sequence[str], tensors: Mapping[str, Tensor]
    ) -> Differnet:
        """DifferNet from a checkpoint's tensors; arguments as for ``Padim.build``.

        Raises:
            RuntimeError: names, shapes or values are not those that the settings ask for.
        """
        with torch.device("meta"):  # weights come from the checkpoint: no second set of them is made
            model = cls(settings, channels, scenes)
        for name, tensor in model.state_dict().items():
            if name in tensors:
                check_tensor(tensors[name], name, tensor.shape, tensor.dtype)
        model.load_state_dict(dict(tensors), assign=True)
        for row in range(len(scenes)):
            expected = torch.arange(model.flow(row).dims).expand_as(model.flow(row).shuffles)
            if not torch.equal(model.flow(row).shuffles.sort(dim=1).values, expected):
                raise RuntimeError("shuffles: expected permutations, got other numbers")
        return model


def build_differnet(stored: StoredModel, precision: torch.dtype) -> Differnet:
    """DifferNet of a checkpoint, as ``Method.builder``; it is float32 always."""
    del precision
    return Differnet.build(stored.card.model, stored.channels, stored.card.scenes, stored.tensors)


def pooled_dims(settings: ModelSettings, channels: Sequence[int]) -> int:
    """Length of what ``pooled_views`` makes of one view."""
    return channels[-1] * len(settings.differnet.scales)


def pooled_views(images: Tensor, encode: Encode, settings: ModelSettings) -> Tensor:
    """Pooled features of the coarsest level at every scale, side by side, for every rotation.

    Args:
        images: uint8, shape (B, H, W, 3).
        encode: as for ``AnomalyModel.anomaly_maps``.
        settings: of the model.

    Returns:
        float32, shape (B, max(1, rotations), D).
    """
    views = max(1, settings.differnet.rotations)
    found = []
    for view in range(views):
        seen = images if view == 0 else _rotated(images, 360.0 * view / views)
        scaled = (_scaled(seen, size) for size in scaled_sizes(settings))
        found.append(torch.cat([encode(part)[-1].float().mean(dim=(2, 3)) for part in scaled], dim=1))
    return torch.stack(found, dim=1)


def scaled_sizes(settings: ModelSettings) -> list[tuple[int, int]]:
    """(height, width) of the image at every scale: multiples of the coarsest stride, as the encoder asks for."""
    stride = settings.encoder.strides[-1]
    height, width = settings.image_size_px

    def fitting(side: int, scale: float) -> int:
        return max(stride, round(scale * side / stride) * stride)

    return [(fitting(height, scale), fitting(width, scale)) for scale in settings.differnet.scales]


def _scaled(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[1:3]) == size:
        return images
    pixels = images.permute(0, 3, 1, 2).float()
    shrunk = interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
    return shrunk.round().clamp(0.0, 255.0).to(torch.uint8).permute(0, 2, 3, 1)


def _rotated(images: Tensor, degrees: float) -> Tensor:
    pixels = images.permute(0, 3, 1, 2).float()
    turned = rotate(pixels, degrees, interpolation=InterpolationMode.BILINEAR, fill=[_GRAY])
    return turned.round().clamp(0.0, 255.0).to(torch.uint8).permute(0, 2, 3, 1)
