"""CFLOW: one conditional flow per level of the pyramid, sharing condition vectors of position and camera."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import rows_of
from pipeline.models.condition import CameraEmbedding, position_encoding
from pipeline.models.flow import Flow

# Feature vectors go through a flow in groups whose widest intermediate stays below this many values (256 MiB in
# float32), so that memory does not grow with the batch.
_MAX_VALUES = 2**26


class CFlow(nn.Module):
    """The decoders of CFLOW-AD (Gudovskiy et al. 2022): log-likelihoods of the pyramid's feature vectors.

    Args:
        settings: what makes the model; the strides and the image size fix the levels' sizes.
        channels: D_k of every level, finest first.
        scenes: names of the training scenes; they matter only with a camera embedding.

    Attributes:
        settings: as given.
        sizes: (height, width) of every level's feature map.
        flows: one per level.
    """

    def __init__(self, settings: ModelSettings, channels: Sequence[int], scenes: Sequence[str]) -> None:
        super().__init__()
        self.settings = settings
        flow = settings.flow
        height, width = settings.image_size_px
        self.sizes = tuple((height // stride, width // stride) for stride in settings.encoder.strides)
        for level, (rows, columns) in enumerate(self.sizes):
            # Without positions a table of no columns: everything below stays as it is.
            dims = flow.position_dims
            table = position_encoding(dims, rows, columns) if dims else torch.empty(rows * columns, 0)
            self.register_buffer(f"positions_{level}", table, persistent=False)
        self.embedding = CameraEmbedding(scenes, flow.camera_embedding) if flow.camera_embedding else None
        condition_dims = flow.position_dims + flow.camera_embedding
        self.flows = nn.ModuleList(Flow(dims, condition_dims, flow) for dims in channels)

    def scene_rows(self, scenes: Sequence[str]) -> Tensor:
        """Row of each scene in the camera embedding's table (0 without one); int64, shape (scenes,), on the CPU."""
        return rows_of(scenes, {} if self.embedding is None else self.embedding.row_of)

    def flow(self, level: int) -> Flow:
        """The flow of one level."""
        flow = self.flows[level]
        assert isinstance(flow, Flow)
        return flow

    def conditions(self, level: int, positions: Tensor, scene_rows: Tensor) -> Tensor:
        """Condition vectors: position encoding, then camera embedding; of length 0 where there is neither.

        Args:
            level: of the pyramid, 0 is the finest.
            positions: row-major positions on the level's map, int64, shape (N,).
            scene_rows: as ``scene_rows`` gives them, int64, shape (N,).

        Returns:
            Shape (N, C).
        """
        encoded = self.get_buffer(f"positions_{level}")[positions]
        if self.embedding is None:
            return encoded
        return torch.cat([encoded, self.embedding.table()[scene_rows]], dim=1)

    def log_likelihood(self, level: int, vectors: Tensor, positions: Tensor, scene_rows: Tensor) -> Tensor:
        """Log-likelihood per dimension of single feature vectors, in nats; shape (N,).

        Args:
            level: of the pyramid, 0 is the finest.
            vectors: shape (N, D_k).
            positions: row-major positions on the level's map, int64, shape (N,).
            scene_rows: as ``scene_rows`` gives them, int64, shape (N,).
        """
        return self.flow(level).log_likelihood(vectors, self.conditions(level, positions, scene_rows))

    def log_likelihood_map(self, level: int, features: Tensor, scene_rows: Tensor) -> Tensor:
        """Log-likelihood per dimension at every position of feature maps, in nats; shape (B, h, w).

        Args:
            level: of the pyramid, 0 is the finest.
            features: shape (B, D_k, h, w).
            scene_rows: as ``scene_rows`` gives them, int64, shape (B,).
        """
        count, dims, height, width = features.shape
        area = height * width
        widest = max(dims, round(self.settings.flow.hidden_ratio * (dims + self.settings.flow.condition_dims)))
        group = max(1, _MAX_VALUES // (area * widest))
        positions = torch.arange(area, device=features.device)
        maps = []
        for start in range(0, count, group):
            part = features[start : start + group]
            vectors = part.permute(0, 2, 3, 1).reshape(-1, dims)
            rows = scene_rows[start : start + group].repeat_interleave(area)
            maps.append(self.log_likelihood(level, vectors, positions.repeat(len(part)), rows))
        return torch.cat(maps).view(count, height, width)
