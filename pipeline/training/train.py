"""From normal footage to a checkpoint, by any method: resumable, and the same to the last bit for the same seed.

Every draw (initial weights, order of frames, positions) follows from ``training.seed`` and the number of the step, so a
training that goes on from its last saved state ends where an uninterrupted one does. The weights are those of the last
epoch, always; the constants of scoring are measured on held-out normal frames, never on test data.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.config import Config
from pipeline.datasets.base import Dataset
from pipeline.datasets.image_rates import with_image_fps
from pipeline.errors import CheckpointError, ConfigError, DatasetError
from pipeline.methods import method_of
from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import StoredModel
from pipeline.models.card import CARD_FILE, ModelCard, Provenance, read_card
from pipeline.models.cflow import CFlow
from pipeline.models.checkpoint import check_writable, library_versions, save_checkpoint, stored_flows
from pipeline.models.encoder import Encoder, build_encoder
from pipeline.models.float16 import round_weights
from pipeline.private_folder import temporary_folder
from pipeline.training.features import ClipFeatures, extract_features
from pipeline.training.fit_inputs import FitInputs, FitResult, scenes_of
from pipeline.training.holdout import Split, split_clips
from pipeline.training.progress import NullProgress, TrainingProgress
from pipeline.training.read_out import MeasuredReadOut, measure_read_out
from pipeline.training.scene_references import measure_references
from pipeline.training.state import features_key, prepare_features, training_folder
from pipeline.types import SceneReference

_LOGGER = logging.getLogger(__name__)


def train(
    config: Config,
    dataset: Dataset,
    out: Path,
    progress: TrainingProgress | None = None,
    *,
    features: Path | None = None,
) -> ModelCard:
    """Train a model on a data set's normal footage and write its checkpoint.

    A clip that cannot be read, or is too short, is passed over.

    Ctrl-C while the flows are fitted leaves a usable checkpoint, marked as not completed; the same call then goes on
    from there. What it needs for that lies in ``OUT.training`` until the model is complete.

    Args:
        config: ``model``, ``training`` and ``runtime.device`` are read.
        dataset: its training clips are used.
        out: folder of the checkpoint.
        progress: called as it goes on.
        features: a folder where cached features are looked for and left, for several trainings to share; by default
            they lie in ``OUT.training``.

    Returns:
        The checkpoint's card; ``card.provenance.completed`` says whether the training ran to its end.

    Raises:
        ConfigError: the encoder cannot be built as configured.
        WeightsError: its weights cannot be had.
        DatasetError: there is no footage that can be used.
        CheckpointError: ``out`` cannot hold a checkpoint, or holds a complete one.
        RunError: the training diverged.
        KeyboardInterrupt: interrupted before a single step; the features so far are kept.
    """
    reporter = progress or NullProgress()
    _check_out(out)
    folder = training_folder(out)
    model, encoder, device, key, clips = _read_footage(config, dataset, features or folder, reporter)
    split = split_clips(
        [clip.clip.scene for clip in clips], [len(clip) for clip in clips], config.training.holdout_fraction
    )
    folder.mkdir(parents=True, exist_ok=True)
    fit = method_of(model.method).load_fit()
    result = fit(FitInputs(config, model, encoder, device, clips, split, folder, key, reporter))
    card = _card(dataset, config, model, clips, split, result)
    read_out = _measure_read_out(out, card, encoder, result, clips, torch.device(device), reporter)
    measured = card.model_copy(
        update={
            "read_out": read_out.constants,
            "normal_scores": read_out.normal_scores,
            "unpaired_scores": read_out.unpaired_scores,
            "normal_common": read_out.normal_common,
        }
    )
    written = save_checkpoint(out, measured, encoder, result.method, read_out.speed_scales)
    if result.completed:
        shutil.rmtree(folder, ignore_errors=True)
    return written


def extract_shared(config: Config, dataset: Dataset, folder: Path, progress: TrainingProgress | None = None) -> None:
    """Extract features alone, for several trainings that are then given the same folder.

    Raises:
        BadInputError: settings or footage are not as expected.
    """
    _read_footage(config, dataset, folder, progress or NullProgress())


def _read_footage(
    config: Config, dataset: Dataset, folder: Path, progress: TrainingProgress
) -> tuple[ModelSettings, Encoder, str, str, list[ClipFeatures]]:
    """Compute, or find in ``folder``, what the method keeps of the footage.

    Returns:
        The model's settings with everything resolved, the encoder, its device, the features' key, and the features.
    """
    if not dataset.train:
        raise DatasetError(f"{dataset.root}: expected training clips, got none")
    dataset = replace(dataset, train=with_image_fps(dataset.train, lambda _: config.training.image_fps))
    device = _device(config)
    encoder = build_encoder(config.model.encoder).to(device)
    round_weights(encoder)
    model = config.model.model_copy(update={"encoder": encoder.settings})
    key = features_key(dataset, encoder, model, config.training)
    clips = extract_features(
        dataset.train,
        method_of(model.method).load_feature_spec()(model, encoder.for_inference()),
        model.image_size_px,
        gap_s=model.motion.gap_s,
        training=config.training,
        folder=prepare_features(folder, key),
        progress=progress.features,
        passed_over=progress.passed_over,
    )
    if not clips:
        raise DatasetError(
            f"{dataset.root}: expected training clips, got none of {len(dataset.train)} that can be read"
        )
    return model, encoder, device, key, clips


def _card(
    dataset: Dataset,
    config: Config,
    model: ModelSettings,
    clips: Sequence[ClipFeatures],
    split: Split,
    result: FitResult,
) -> ModelCard:
    """What the checkpoint says of itself, but for its read-out, which is measured with the model that it describes."""
    return ModelCard(
        model=model,
        scenes=scenes_of(clips),
        levels=result.levels,
        normal_scores={},
        views=_scene_references(clips),
        normal_fps=statistics.median(clip.fps for clip, held in zip(clips, result.heldout, strict=True) if held),
        provenance=Provenance(
            dataset=dataset.name,
            training=config.training,
            completed=result.completed,
            epochs=result.epochs,
            steps=result.steps,
            train_frames=split.train_frames,
            holdout_frames=sum(len(held) for held in result.heldout),
            losses=result.losses,
            condition_strengths=result.condition_strengths,
            trained_at_s=time.time(),
            versions=library_versions(),
        ),
    )


def _measure_read_out(
    out: Path,
    card: ModelCard,
    encoder: Encoder,
    result: FitResult,
    clips: Sequence[ClipFeatures],
    device: torch.device,
    progress: TrainingProgress,
) -> MeasuredReadOut:
    tensors = stored_flows(result.method) if isinstance(result.method, CFlow) else result.method
    stored = StoredModel(out, card, encoder.channels, {name: tensor.cpu() for name, tensor in tensors.items()})
    method = method_of(card.model.method).load_builder()(stored, torch.float32).requires_grad_(False).to(device)
    return measure_read_out(
        card.model,
        card.provenance.training,
        method,
        encoder.for_inference(),
        clips,
        result.heldout,
        device,
        progress.heldout,
        learned=result.completed,  # an interrupted training is measured in seconds
    )


def _check_out(out: Path) -> None:
    temporary_folder()  # torch wants one when the features are computed already
    check_writable(out)
    if (out / CARD_FILE).exists() and read_card(out).provenance.completed:
        raise CheckpointError(f"{out}: expected a new folder or an interrupted training's, got a complete model")


def _scene_references(clips: Sequence[ClipFeatures]) -> dict[str, SceneReference]:
    views = measure_references([clip.clip.scene for clip in clips], [clip.gray_images for clip in clips])
    for scene, reference in views.items():
        if not reference.telling:
            _LOGGER.warning("scene %s: too little structure or footage to notice when its camera is moved", scene)
    return views


def _device(config: Config) -> str:
    wanted = config.runtime.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("runtime.device: expected a CUDA device on this machine, got none")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
