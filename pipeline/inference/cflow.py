"""CFLOW at inference: rewritten flows of all levels, and the maps that are made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.inference.anomaly_map import anomaly_maps
from pipeline.inference.fused import FusedFlow
from pipeline.models.anomaly_model import AnomalyMaps, Encode, StoredModel
from pipeline.models.card import LevelConstants
from pipeline.models.cflow import CFlow
from pipeline.models.checkpoint import build_flows


class CflowModel(nn.Module):
    """A trained CFLOW as an ``AnomalyModel``.

    Args:
        flows: trained, on the CPU.
        constants: of all levels, finest first.
        precision: of the flows' matrix products.
    """

    def __init__(
        self, flows: CFlow, constants: Sequence[LevelConstants], precision: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self._constants = tuple(constants)
        self._score = flows.settings.score
        self.scene_rows = flows.scene_rows
        cameras = None if flows.embedding is None else flows.embedding.table()
        positions = [flows.get_buffer(f"positions_{level}") for level in range(len(flows.flows))]
        self.levels = nn.ModuleList(
            FusedFlow(flows.flow(level), size, table if table.shape[1] else None, cameras, precision)
            for level, (size, table) in enumerate(zip(flows.sizes, positions, strict=True))
        )
        self.requires_grad_(False)

    def anomaly_maps(self, images: Tensor, encode: Encode, scene_rows: Tensor) -> AnomalyMaps:
        """As ``AnomalyModel.anomaly_maps``."""
        return self(encode(images), scene_rows)

    def log_likelihoods(self, features: Sequence[Tensor], scene_rows: Tensor) -> list[Tensor]:
        """Log-likelihoods per dimension in nats: per level float32, shape (B, h_k, w_k).

        Args:
            features: per level, shape (B, D_k, h_k, w_k), finest first, best in channels-last order.
            scene_rows: as ``scene_rows`` gives them, int64, shape (B,), on the device.
        """
        return [level(part, scene_rows) for level, part in zip(self.levels, features, strict=True)]

    def forward(self, features: Sequence[Tensor], scene_rows: Tensor) -> AnomalyMaps:
        """Anomaly maps of features as ``log_likelihoods`` takes them."""
        return anomaly_maps(self.log_likelihoods(features, scene_rows), self._constants, self._score)


def build_cflow(stored: StoredModel, precision: torch.dtype) -> CflowModel:
    """CFLOW of a checkpoint; arguments as for ``Method.builder``.

    Raises:
        CheckpointError: the tensors are not those that the card describes.
    """
    flows = build_flows(stored.folder, stored.card, stored.channels, stored.tensors)
    return CflowModel(flows, stored.card.levels, precision)
