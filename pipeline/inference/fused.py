"""The trained flow, rewritten for inference: the same log-likelihoods, without what only training needs.

What a coupling block computes for a feature vector z and its condition vector c is (``pipeline.models.flow``)::

    (z1, z2) = z,   (s, t) = V relu(W z1 + U c + b) + d,   y = (z1, z2 exp(clamp tanh s) + t),   next z = P (g y + o)

Here, once and exactly, when a model is loaded:

* U c + b does not depend on the frame. Half of the position encoding belongs to the column and half to the row, so U c
  is the sum of a table over columns, one over rows and one over cameras. Together they are far smaller than a table
  over positions, and stay in the processor's cache.
* P and g are one matrix. A hard permutation is an index instead, and g waits until its channel is used.
* Offsets are never added to the channels that pass through a block: they wait until the channel is used.
* The last permutation is orthogonal. It leaves the latent vector's norm as it is, and is left out.
* FrEIA's factor 0.1 on (s, t) is part of V and d.
* The whitening is the first matrix. It stays in float32 where the others do not: it blows up directions that hardly
  vary, and the rounding of its factors with them.

A call takes whole feature maps of frames of any cameras; nothing loops over positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pipeline.models.flow import Flow

_LOG_2PI = math.log(2.0 * math.pi)
_COEFFICIENT = 0.1  # by which FrEIA scales what a subnet gives


@dataclass(frozen=True)
class _Channels:
    """What the stored channels stand for: ``scale * stored + offset``; float64, shape (D,) each."""

    scale: Tensor
    offset: Tensor

    def __getitem__(self, part: slice | Tensor) -> _Channels:
        return _Channels(self.scale[part], self.offset[part])


@dataclass(frozen=True)
class _Conditions:
    """What a level's flow is given: encodings of its columns and rows, and of all cameras; float64.

    Shapes (w, C/2), (h, C/2) and (S, E); a part that the flow is not given has no values: (w, 0), (h, 0) and (1, 0).
    """

    columns: Tensor
    rows: Tensor
    cameras: Tensor

    @classmethod
    def of(cls, size: tuple[int, int], positions: Tensor | None, cameras: Tensor | None) -> Self:
        height, width = size
        if positions is None:
            columns, rows = torch.zeros(width, 0), torch.zeros(height, 0)
        else:
            half = positions.shape[1] // 2
            table = positions.view(height, width, 2 * half)
            columns, rows = table[0, :, :half], table[:, 0, half:]
        return cls(columns.double(), rows.double(), (torch.zeros(1, 0) if cameras is None else cameras).double())

    def times(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Products with a layer's weight, shape (H, C + E), by column, row and camera: (w, H), (h, H), (S, H)."""
        sizes = [self.columns.shape[1], self.rows.shape[1], self.cameras.shape[1]]
        of_columns, of_rows, of_cameras = weight.split(sizes, dim=1)
        return self.columns @ of_columns.T, self.rows @ of_rows.T, self.cameras @ of_cameras.T


class FusedBlock(nn.Module):
    """One coupling block, together with the permutation and scaling that come before it.

    Args:
        block: FrEIA's, trained.
        channels: what this block's inputs stand for.
        mix: the matrix, shape (D, D), float64, or the index, shape (D,), int64, that makes its inputs of what is
            stored; None where they are stored.
        conditions: of the level.
        precision: of the matrix products.
    """

    mix: Tensor | None
    order: Tensor | None
    first: Tensor
    columns: Tensor
    rows: Tensor
    cameras: Tensor
    second: Tensor
    bias_s: Tensor
    bias_t: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(
        self,
        block: nn.Module,
        channels: _Channels,
        mix: Tensor | None,
        conditions: _Conditions,
        precision: torch.dtype,
    ) -> None:
        super().__init__()
        dims = len(channels.scale)
        self.passive = dims - dims // 2
        self.clamp = float(getattr(block, "clamp"))  # noqa: B009 (FrEIA's attribute, untyped)
        exact = torch.float64 if precision == torch.float64 else torch.float32
        indexed = mix is not None and mix.dim() == 1
        self.register_buffer("mix", None if mix is None or indexed else mix.to(precision))
        self.register_buffer("order", mix if indexed else None)

        subnet = block.get_submodule("subnet")
        weight, bias = (subnet.get_parameter(f"0.{name}").double() for name in ("weight", "bias"))
        of_passive, of_conditions = weight[:, : self.passive], weight[:, self.passive :]
        passive, active = channels[: self.passive], channels[self.passive :]
        columns, rows, cameras = conditions.times(of_conditions)
        self.register_buffer("first", (of_passive * passive.scale).to(precision))
        self.register_buffer("columns", columns.to(precision))
        self.register_buffer("rows", (rows + bias + of_passive @ passive.offset).to(precision))
        self.register_buffer("cameras", cameras.to(precision))

        weight, bias = (_COEFFICIENT * subnet.get_parameter(f"2.{name}").double() for name in ("weight", "bias"))
        self.register_buffer("second", weight.to(precision))
        self.register_buffer("bias_s", bias[: dims - self.passive].to(exact))
        self.register_buffer("bias_t", bias[dims - self.passive :].to(exact))
        self.register_buffer("scale", active.scale.to(exact))
        self.register_buffer("offset", active.offset.to(exact))

    def forward(self, stored: Tensor, camera_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block.

        Args:
            stored: channels as the block before left them, in the block's precision, shape (B * h * w, D).
            camera_rows: rows of the frames in the table of cameras, int64, shape (B,).

        Returns:
            Channels as this block leaves them, in its precision, shape (B * h * w, D), and its log_det_jacobian in nats
            but for a constant, float32 (float64), shape (B * h * w,).
        """
        if self.mix is not None:
            stored = linear(stored, self.mix)
        elif self.order is not None:
            stored = stored[:, self.order]
        passive, active = stored[:, : self.passive], stored[:, self.passive :]
        height, width = len(self.rows), len(self.columns)
        of_frames = self.rows + self.cameras[camera_rows].unsqueeze(1)  # (B, h, H)
        hidden = linear(passive, self.first)
        shaped = hidden.view(camera_rows.shape[0], height, width, hidden.shape[1])
        shaped.add_(of_frames.unsqueeze(2)).add_(self.columns).relu_()
        coefficients = linear(hidden, self.second)
        log_scale = torch.tanh(coefficients[:, : active.shape[1]] + self.bias_s).mul_(self.clamp)
        shift = coefficients[:, active.shape[1] :] + self.bias_t
        moved = torch.addcmul(self.offset, active, self.scale).mul_(log_scale.exp()).add_(shift)
        return torch.cat([passive, moved.to(stored.dtype)], dim=1), log_scale.sum(dim=1)


class FusedFlow(nn.Module):
    """One level's flow for inference.

    Args:
        flow: trained.
        size: (h, w) of the level's feature maps.
        positions: encodings of the level's positions in row-major order, shape (h * w, C), of which the first half
            depends on the column alone and the second on the row alone; None for a flow that is given no positions.
        cameras: embeddings of the cameras, shape (S, E); None for a flow that is given no cameras. The flow's condition
            vectors are positions first, then cameras.
        precision: of the matrix products and of what is stored between them: float32, bfloat16, or float64 (to prove
            the rewriting). Everything else is float32 (float64).
    """

    whitening: Tensor
    latent_scale: Tensor
    latent_offset: Tensor

    def __init__(
        self,
        flow: Flow,
        size: tuple[int, int],
        positions: Tensor | None = None,
        cameras: Tensor | None = None,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dims = flow.dims
        self.precision = precision
        self._exact = torch.float64 if precision == torch.float64 else torch.float32
        conditions = _Conditions.of(size, positions, cameras)
        whitening = flow.whitening.double()
        self.register_buffer("whitening", whitening.T.to(self._exact))
        channels = _Channels(torch.ones(flow.dims).double(), -flow.whitening_mean.double() @ whitening)
        log_det = float(flow.whitening_log_det)
        mix: Tensor | None = None
        moved = channels
        blocks = []
        for block in flow.blocks:
            blocks.append(FusedBlock(block, channels, mix, conditions, precision))
            moved, log_det_of_scale = _after(block, channels)
            log_det += log_det_of_scale
            mix, channels = _permuted(block, moved)
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("latent_scale", moved.scale.to(self._exact))
        self.register_buffer("latent_offset", moved.offset.to(self._exact))
        self._constant = log_det - 0.5 * flow.dims * _LOG_2PI

    def forward(self, features: Tensor, camera_rows: Tensor) -> Tensor:
        """Log-likelihood per dimension at every position, in nats.

        Args:
            features: shape (B, D, h, w), best in channels-last order.
            camera_rows: rows of the frames' cameras, int64, shape (B,); any value with one table row.

        Returns:
            float32 (float64), shape (B, h, w).
        """
        count, dims, height, width = features.shape
        vectors = features.permute(0, 2, 3, 1).reshape(-1, dims)
        stored = linear(vectors.to(self._exact), self.whitening).to(self.precision)
        log_det: Tensor | float = self._constant
        for block in self.blocks:
            stored, of_block = block(stored, camera_rows)
            log_det = of_block + log_det
        latent = torch.addcmul(self.latent_offset, stored, self.latent_scale)
        log_likelihood = (log_det - 0.5 * latent.square().sum(dim=1)) / self.dims
        return log_likelihood.view(count, height, width)


def _after(block: nn.Module, channels: _Channels) -> tuple[_Channels, float]:
    """What the channels stand for behind a block's global affine map, and that map's log-determinant in nats."""
    raw, offset = (block.get_parameter(name).double().flatten() for name in ("global_scale", "global_offset"))
    scale = _COEFFICIENT * nn.functional.softplus(raw, beta=0.5)
    passive = len(raw) - len(raw) // 2
    # Active channels come out of the block as they are; passive ones still stand for what they stood for before it.
    before = _Channels(channels.scale.clone(), channels.offset.clone())
    before.scale[passive:], before.offset[passive:] = 1.0, 0.0
    return _Channels(scale * before.scale, scale * before.offset + offset), float(scale.log().sum())


def _permuted(block: nn.Module, channels: _Channels) -> tuple[Tensor, _Channels]:
    """The matrix or index that a block's permutation becomes, and what the channels stand for behind it."""
    permutation = block.get_parameter("w_perm").double()
    if bool(((permutation == 0) | (permutation == 1)).all()):
        order = permutation.argmax(dim=1)
        return order, channels[order]
    ones = torch.ones_like(channels.scale)
    return permutation * channels.scale, _Channels(ones, permutation @ channels.offset)
