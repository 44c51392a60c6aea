"""Fitting DifferNet: maximum likelihood of pooled features, one flow per scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.baselines.differnet import Differnet, pooled_dims, pooled_views, scaled_sizes
from pipeline.config import TrainingSettings
from pipeline.model_settings import ModelSettings
from pipeline.models.encoder import Encoder
from pipeline.models.float16 import as_float16
from pipeline.training.features import ClipFeatures, FeatureSpec
from pipeline.training.fit_inputs import FitInputs, FitResult, scenes_of
from pipeline.training.holdout import Part, Split
from pipeline.training.resume import run_trainer
from pipeline.training.trainer import Trainer
from pipeline.training.workers import ALONE, Workers


def pooled_spec(model: ModelSettings, encoder: Encoder) -> FeatureSpec:
    """Pooled features of every view: a few kilobytes of a frame, and nothing that other methods could use.

    Raises:
        ConfigError: the encoder takes no images of one of the sizes that the scales give.
    """
    for size_px in scaled_sizes(model):
        encoder.check_size(size_px)

    def encode(images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float16]]:
        with torch.inference_mode():
            return [as_float16(pooled_views(torch.from_numpy(images).to(encoder.mean.device), encoder, model))]

    views = max(1, model.differnet.rotations)
    return FeatureSpec(("pooled",), ((views, pooled_dims(model, encoder.channels)),), encode)


def fit_differnet(inputs: FitInputs) -> FitResult:
    """Fit one flow per scene, or go on where an interrupted training stopped.

    Raises:
        RunError: the training diverged.
        KeyboardInterrupt: interrupted before a single step.
    """
    training, split, workers = inputs.config.training, inputs.split, inputs.workers
    model = initial_differnet(inputs.model, inputs.encoder, inputs.clips, split, training.seed, workers)
    fit = DiffernetTrainer(model.to(inputs.device), inputs.clips, split.train, training, inputs.device, workers)
    completed, heldout = run_trainer(fit, inputs)
    return FitResult(
        method=model.state_dict(),
        levels=(),
        heldout=heldout,
        completed=completed,
        epochs=fit.epoch,
        steps=fit.step,
        losses=fit.losses,
    )


def initial_differnet(
    model: ModelSettings,
    encoder: Encoder,
    clips: Sequence[ClipFeatures],
    split: Split,
    seed: int,
    workers: Workers = ALONE,
) -> Differnet:
    """Flows with weights drawn from the seed and scales measured on the training features; on the CPU."""
    scenes = scenes_of(clips)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Differnet(model, encoder.channels, scenes)
    for row, scene in enumerate(scenes):
        pairs = [
            (variant, part.frames)
            for part in split.train
            if clips[part.clip].clip.scene == scene
            for variant in clips[part.clip].variants()
        ]
        own = workers.share([len(part) for _, part in pairs], [clip.holders for clip, _ in pairs]) == workers.rank
        found = workers.merge(
            {at: _pooled(*pairs[at]) for at in np.flatnonzero(own).tolist()},
            [(len(part), *clip.levels[0].shape[1:]) for clip, part in pairs],
            np.float32,
        )
        values = np.concatenate([of_clip.reshape(-1, made.flow(row).dims) for of_clip in found])
        made.flow(row).standardise(torch.from_numpy(values.mean(axis=0)), torch.from_numpy(values.std(axis=0)))
    return made


class DiffernetTrainer(Trainer):
    """All scenes' flows at once; a step sees a frame in one variant and one view. Further arguments as for ``Trainer``.

    Args:
        model: to be fitted.
        device: where it lies.
        workers: that fit it together.
    """

    # A vector that the flow does not know yet is multiplied block by block, and its gradient with it.
    _largest_gradient = 1.0

    def __init__(
        self,
        model: Differnet,
        clips: Sequence[ClipFeatures],
        frames: Sequence[Part],
        settings: TrainingSettings,
        device: str,
        workers: Workers = ALONE,
    ) -> None:
        rate = model.settings.differnet.learning_rate
        super().__init__(model, clips, frames, settings.model_copy(update={"learning_rate": rate}), workers)
        self._model = model
        self._device = device
        self._rows = model.scene_rows([clip.clip.scene for clip in clips]).numpy()

    def _backward(
        self, chosen: npt.NDArray[np.int64], own: npt.NDArray[np.bool_], random: np.random.Generator
    ) -> dict[str, float]:
        """Mean over the frames of -log p(y) / D, up to a constant: (|u|^2 / 2 - log |det J|) / D."""
        views = random.integers(0, self._variants[0][0].levels[0].shape[1], len(chosen))[own]
        variants = self._draw_variants(chosen, random)[own]
        level, total = self._model.settings.encoder.level_names[-1], 0.0
        if not own.any():
            return {level: total}
        vectors = [of[view] for of, view in zip(self._frame_features(chosen[own], variants, 0), views, strict=True)]
        of_step = torch.from_numpy(np.stack(vectors).astype(np.float32)).to(self._device)
        rows = self._rows[self._owners[chosen[own]]]
        for row in np.unique(rows):
            flow = self._model.flow(int(row))
            latents, log_det_jacobian = flow(of_step[torch.from_numpy(rows == row)])
            # Without the scales that were measured: how well a flow fits must not depend on the encoder's units.
            log_det_jacobian = log_det_jacobian + flow.std.log().sum()
            loss = (0.5 * latents.square().sum(dim=1) - log_det_jacobian).sum() / (flow.dims * len(chosen))
            loss.backward()
            total += float(loss.detach())
        return {level: total}

    def _tensors(self) -> dict[str, Tensor]:
        return dict(self._model.state_dict())

    def _load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        self._model.load_state_dict(dict(tensors))


def _pooled(clip: ClipFeatures, frames: range) -> npt.NDArray[np.float32]:
    """Pooled features of some frames, float32, shape (B, views, D)."""
    return clip.levels[0][frames.start : frames.stop].astype(np.float32)
