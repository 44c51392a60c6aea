"""A conditional normalizing flow over feature vectors: FrEIA's affine coupling blocks, one after the other."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.model_settings import FlowSettings
from pipeline.models.float16 import round_to_float16, round_weights

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SyntaxWarning)  # FrEIA's docstrings hold unescaped backslashes
    from FrEIA.modules import AllInOneBlock

_LOG_2PI = math.log(2.0 * math.pi)
# Smallest variance of a whitened direction, as a fraction of the mean over all directions, and of a dead level.
_SMALLEST_VARIANCE = 1e-3
_TINY = 1e-12


class Flow(nn.Module):
    """Maps feature vectors z of one level to a standard normal u, given condition vectors c.

    With u = g(z; c) and J its Jacobian, the change of variables gives (Gudovskiy et al. 2022, equation 4)::

        log p(z | c) = -(|u|^2 + D log 2 pi) / 2 + log |det J|

    First comes a fixed whitening, W (z - m), which ``whiten`` measures on training features; before that it does
    nothing. The paper has none, and its flow spends most of a short training on finding scales and correlations that
    are plain to see: on Ped2 at stride 8, 400 steps reach 2.17 nats per dimension with it and 2.51 without.

    Then each block applies, to the second part z2 of z = (z1, z2), an affine map whose scale and offset come from
    (z1, c) through Linear(in, ratio * in) - ReLU - Linear, with log-scales softly clamped (1.9 in the paper); then a
    learned global affine map (SOFTPLUS), then a fixed permutation.

    Args:
        dims: D, length of the feature vectors, at least 2.
        condition_dims: length of the condition vectors.
        settings: shape of the blocks. A ``soft`` permutation is a random rotation, uniform over SO(D).
    """

    whitening_mean: Tensor
    whitening: Tensor
    whitening_log_det: Tensor

    def __init__(self, dims: int, condition_dims: int, settings: FlowSettings) -> None:
        super().__init__()
        self.dims = dims
        self.condition_dims = condition_dims
        self.register_buffer("whitening_mean", torch.zeros(dims))
        self.register_buffer("whitening", torch.eye(dims))
        self.register_buffer("whitening_log_det", torch.zeros(()))
        self.blocks = nn.ModuleList(_coupling_block(dims, condition_dims, settings) for _ in range(settings.blocks))

    def whiten(self, mean: Tensor, covariance: Tensor) -> None:
        """Set the whitening to the symmetric root of the inverse covariance (ZCA: no direction is singled out).

        Args:
            mean: of training features; shape (D,).
            covariance: of the same; shape (D, D).
        """
        variances, directions = torch.linalg.eigh(covariance.double())
        floor = max(_SMALLEST_VARIANCE * float(variances.mean()), _TINY)  # directions that hardly vary stay quiet
        scales = variances.clamp(min=floor).rsqrt()
        self.whitening_mean.copy_(mean)
        self.whitening.copy_((directions * scales) @ directions.T)
        self.whitening_log_det.copy_(scales.log().sum())

    def forward(self, vectors: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Map feature vectors to latent vectors.

        Args:
            vectors: shape (N, D).
            conditions: shape (N, C).

        Returns:
            Latent vectors u, shape (N, D), and log_det_jacobian in nats, shape (N,).
        """
        vectors = (vectors - self.whitening_mean) @ self.whitening
        log_det_jacobian = self.whitening_log_det.expand(len(vectors))
        for block in self.blocks:
            (vectors,), log_det = block((vectors,), c=[conditions])
            log_det_jacobian = log_det_jacobian + log_det
        return vectors, log_det_jacobian

    def inverse(self, latents: Tensor, conditions: Tensor) -> Tensor:
        """Map latent vectors, shape (N, D), back to feature vectors, shape (N, D)."""
        for block in reversed(self.blocks):
            (latents,), _ = block((latents,), c=[conditions], rev=True)
        return torch.linalg.solve(self.whitening, latents, left=False) + self.whitening_mean

    def log_likelihood(self, vectors: Tensor, conditions: Tensor) -> Tensor:
        """Log-likelihood per dimension, log p(z | c) / D, in nats; shape (N,).

        Args:
            vectors: shape (N, D).
            conditions: shape (N, C).
        """
        latents, log_det_jacobian = self(vectors, conditions)
        log_normal = -0.5 * (latents.square().sum(dim=1) + self.dims * _LOG_2PI)
        return (log_normal + log_det_jacobian) / self.dims

    @torch.no_grad()
    def scale_conditions(self, strength: float) -> None:
        """Become the flow that this one is when it is given ``strength`` times its condition vectors."""
        for block in self.blocks:
            weight = block.get_parameter("subnet.0.weight")  # (hidden, passive part of z + conditions)
            weight[:, weight.shape[1] - self.condition_dims :] *= strength

    @torch.no_grad()
    def round_weights(self) -> None:
        """Round matrices to what float16 can hold, so that a checkpoint of half the size gives the same likelihoods.

        A rounded rotation is not quite one: from now on its log-determinant counts. The last block's changes no
        likelihood, so it becomes the identity instead.
        """
        for number, block in enumerate(self.blocks):
            round_weights(block.get_submodule("subnet"))
            permutation = block.get_parameter("w_perm")
            before = torch.linalg.slogdet(permutation.double()).logabsdet
            last = number == len(self.blocks) - 1
            permutation.copy_(torch.eye(self.dims) if last else round_to_float16(permutation))
            self.whitening_log_det += torch.linalg.slogdet(permutation.double()).logabsdet - before
            block.get_parameter("w_perm_inv").copy_(torch.linalg.inv(permutation.double()))

    def stored(self) -> dict[str, Tensor]:
        """The flow's tensors as a checkpoint keeps them: a permutation once, not with its inverse beside it."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.endswith("w_perm_inv")}

    def load_stored(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the tensors that ``stored`` gave; names and shapes must match.

        Raises:
            RuntimeError: they do not.
        """
        inverses = {
            f"{name}_inv": torch.linalg.inv(tensor.double())
            for name, tensor in tensors.items()
            if name.endswith("w_perm")
        }
        self.load_state_dict({**tensors, **inverses})


def _coupling_block(dims: int, condition_dims: int, settings: FlowSettings) -> nn.Module:
    def subnet(dims_in: int, dims_out: int) -> nn.Module:
        hidden = max(1, round(settings.hidden_ratio * dims_in))
        return nn.Sequential(nn.Linear(dims_in, hidden), nn.ReLU(), nn.Linear(hidden, dims_out))

    # FrEIA draws its permutation from numpy's global state, and a soft one of 2048 dimensions takes it minutes. So it
    # is built with a hard one, which is then replaced by one drawn from torch's generator.
    block = AllInOneBlock(
        [(dims,)],
        [(condition_dims,)],
        subnet_constructor=subnet,
        affine_clamping=settings.clamp,
        global_affine_type="SOFTPLUS",
        permute_soft=False,
    )
    permutation = random_rotation(dims) if settings.permutation == "soft" else torch.eye(dims)[torch.randperm(dims)]
    with torch.no_grad():
        block.get_parameter("w_perm").copy_(permutation)
        block.get_parameter("w_perm_inv").copy_(permutation.T)
    return block


def random_rotation(dims: int) -> Tensor:
    """Draw a rotation uniformly from SO(dims); float32, shape (dims, dims).

    The orthogonal factor of a Gaussian matrix is uniform over O(n) once the triangular factor's diagonal is made
    positive (Mezzadri, Notices of the AMS 54(5), 2007); swapping two rows then mends the sign of the determinant.
    """
    orthogonal, triangular = torch.linalg.qr(torch.randn(dims, dims, dtype=torch.float64))
    orthogonal = orthogonal * torch.sign(torch.diagonal(triangular))
    if torch.linalg.det(orthogonal) < 0:
        orthogonal[[0, 1]] = orthogonal[[1, 0]]
    return orthogonal.float()
