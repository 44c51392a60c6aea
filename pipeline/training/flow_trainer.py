"""The steps that fit conditional flows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.config import TrainingSettings
from pipeline.models.cflow import CFlow
from pipeline.models.checkpoint import load_flows, stored_flows
from pipeline.training.condition_strength import draw_strengths
from pipeline.training.features import ClipFeatures
from pipeline.training.holdout import Part
from pipeline.training.loss import flow_loss
from pipeline.training.trainer import Trainer
from pipeline.training.workers import ALONE, Workers


class FlowTrainer(Trainer):
    """All flows at once; arguments and attributes as for ``Trainer``."""

    def __init__(
        self,
        flows: CFlow,
        clips: Sequence[ClipFeatures],
        frames: Sequence[Part],
        settings: TrainingSettings,
        workers: Workers = ALONE,
    ) -> None:
        super().__init__(flows, clips, frames, settings, workers)
        self._flows = flows
        self._device = flows.get_buffer("positions_0").device
        self._scene_rows = flows.scene_rows([clip.clip.scene for clip in clips])

    def _backward(
        self, chosen: npt.NDArray[np.int64], own: npt.NDArray[np.bool_], random: np.random.Generator
    ) -> dict[str, float]:
        variants = self._draw_variants(chosen, random)[own]
        adaptive = self._flows.settings.flow.condition == "adaptive"
        strengths = draw_strengths(len(chosen), random)[own] if adaptive else None
        losses = {}
        for level, name in enumerate(self._flows.settings.encoder.level_names):
            positions = self._draw_positions(level, own, random)
            losses[name] = 0.0
            if positions:
                # Every frame gives as many vectors, so the mean over all is that of the workers' means by their frames.
                part = len(positions) / len(chosen)
                loss = flow_loss(self._log_likelihood(level, chosen[own], variants, strengths, positions)) * part
                loss.backward()  # level by level: only one graph is in memory
                losses[name] = float(loss.detach())
        return losses

    def _tensors(self) -> dict[str, Tensor]:
        return stored_flows(self._flows)

    def _load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        load_flows(self._flows, tensors)

    def _draw_positions(
        self, level: int, own: npt.NDArray[np.bool_], random: np.random.Generator
    ) -> list[npt.NDArray[np.int64]]:
        """Rising numbers of the positions that a step takes of each of this worker's frames."""
        height, width = self._flows.sizes[level]
        area = height * width
        wanted = min(self._settings.positions_per_frame or area, area)
        drawn = [random.permutation(area)[:wanted] for _ in own]
        return [np.sort(positions) for positions, is_own in zip(drawn, own, strict=True) if is_own]

    def _log_likelihood(
        self,
        level: int,
        chosen: npt.NDArray[np.int64],
        variants: npt.NDArray[np.int64],
        strengths: npt.NDArray[np.float32] | None,
        positions: Sequence[npt.NDArray[np.int64]],
    ) -> Tensor:
        """Log-likelihoods per dimension of whitened vectors drawn from some frames; shape (N,).

        Args:
            level: of the pyramid.
            chosen: numbers of the frames.
            variants: of each of them.
            strengths: of the condition, of each of them; None leaves it as it is.
            positions: of each of them, as many of all.
        """
        wanted = len(positions[0])
        vectors = np.concatenate(
            [
                features[drawn]
                for features, drawn in zip(self._frame_features(chosen, variants, level), positions, strict=True)
            ]
        )
        flow = self._flows.flow(level)
        conditions = self._flows.conditions(
            level,
            torch.from_numpy(np.concatenate(positions)).to(self._device),
            self._scene_rows[torch.from_numpy(self._owners[chosen])].repeat_interleave(wanted).to(self._device),
        )
        if strengths is not None:
            of_vectors = torch.from_numpy(strengths).repeat_interleave(wanted).to(self._device)
            conditions = conditions * of_vectors.unsqueeze(1)
        found = flow.log_likelihood(torch.from_numpy(vectors).to(self._device).float(), conditions)
        # The loss saturates for vectors that are likely. How likely they are must not depend on the encoder's units.
        return found - flow.whitening_log_det / flow.dims
