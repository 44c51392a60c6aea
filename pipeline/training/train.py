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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.config import Config
from pipeline.datasets.base import Dataset
from pipeline.datasets.clip_digest import clip_digest
from pipeline.datasets.image_rates import with_image_fps
from pipeline.errors import CheckpointError, DatasetError
from pipeline.inference.device import torch_device
from pipeline.methods import method_of
from pipeline.model_settings import ModelSettings
from pipeline.models.anomaly_model import AnomalyModel, StoredModel
from pipeline.models.card import CARD_FILE, ModelCard, Provenance, read_card
from pipeline.models.cflow import CFlow
from pipeline.models.checkpoint import check_writable, library_versions, save_checkpoint, stored_flows
from pipeline.models.encoder import Encoder, build_encoder
from pipeline.models.float16 import as_float16_if_exact, round_weights
from pipeline.models.normal_store import MAPS_MB, NormalStore, kept_maps, spread_evenly
from pipeline.normal_footage import MapStretch
from pipeline.private_folder import temporary_folder
from pipeline.training.cross_fit import Fitted, fit_crosswise, fit_once, is_wanted
from pipeline.training.features import ClipFeatures
from pipeline.training.fit_inputs import FitInputs, FitResult, scenes_of
from pipeline.training.holdout import count_frames, split_clips
from pipeline.training.progress import NullProgress, TrainingProgress
from pipeline.training.read_out import MeasuredReadOut, measure_read_out
from pipeline.training.scene_references import measure_references
from pipeline.training.shared_features import pictures, share_features
from pipeline.training.state import StateFolder, States, features_key, training_folder
from pipeline.training.workers import ALONE, Workers
from pipeline.types import SceneReference

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingTask:
    """What is to be fitted to what: all that is decided before footage is read.

    Attributes:
        config: ``training`` is read.
        dataset: its training clips are used.
        model: settings of the model, with everything resolved that was left to timm.
        encoder: on the CPU.
        features_key: digest of all that decides the features.
    """

    config: Config
    dataset: Dataset
    model: ModelSettings
    encoder: Encoder
    features_key: str


@dataclass(frozen=True)
class Trained:
    """A model that was fitted and measured.

    Attributes:
        card: without its fingerprint.
        tensors: of the method, as a checkpoint has them.
        speed_scales: as for ``save_checkpoint``.
        maps: of frames that were held out, by scene.
        clips: digests of the clips that it has seen.
    """

    card: ModelCard
    tensors: dict[str, Tensor]
    speed_scales: Tensor | None
    maps: tuple[tuple[str, MapStretch], ...] = ()
    clips: tuple[str, ...] = ()


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
    check_out(out)
    folder = training_folder(out)
    device = torch_device(config)
    task = training_task(config, dataset)

    def make_folder(name: str) -> States:
        folder.mkdir(parents=True, exist_ok=True)
        return StateFolder(folder, name)

    trained = fit_and_measure(task, device, features or folder, make_folder, progress or NullProgress())
    assert trained is not None  # there is no other worker
    return finish(task, trained, out)


def check_out(out: Path) -> None:
    """Make sure, before hours of work, that a folder can take the model.

    Raises:
        BadInputError: it cannot, or holds a complete one.
    """
    temporary_folder()  # torch wants one when the features are computed already
    check_writable(out)
    if (out / CARD_FILE).exists() and read_card(out).provenance.completed:
        raise CheckpointError(f"{out}: expected a new folder or an interrupted training's, got a complete model")


def training_task(config: Config, dataset: Dataset) -> TrainingTask:
    """Decide all that can be decided before footage is read.

    Raises:
        ConfigError: the encoder cannot be built as configured.
        WeightsError: its weights cannot be had.
        DatasetError: there are no training clips.
    """
    if not dataset.train:
        raise DatasetError(f"{dataset.root}: expected training clips, got none")
    dataset = replace(dataset, train=with_image_fps(dataset.train, lambda _: config.training.image_fps))
    encoder = build_encoder(config.model.encoder)
    round_weights(encoder)
    model = config.model.model_copy(update={"encoder": encoder.settings})
    return TrainingTask(config, dataset, model, encoder, features_key(dataset, encoder, model, config.training))


def fit_and_measure(
    task: TrainingTask,
    device: str,
    features: Path,
    open_states: Callable[[str], States],
    progress: TrainingProgress,
    workers: Workers = ALONE,
) -> Trained | None:
    """From footage to a model, but for writing it; several workers do it together, each of which calls this.

    Args:
        task: the same for all.
        device: of this worker.
        features: folder where cached features are looked for and left, on each worker's node.
        open_states: where a fit keeps its state, by its name; called when there is something to keep.
        progress: of this worker.
        workers: that fit the model together.

    Returns:
        The model; None at all workers but the first.

    Raises:
        As ``train``.
    """
    clips = _read_footage(task, device, features, progress, workers)
    training, encoder = task.config.training, task.encoder
    split = split_clips(
        [clip.clip.scene for clip in clips],
        [len(clip) for clip in clips],
        [clip.fps for clip in clips],
        training.holdout_fraction,
    )
    states = open_states("")
    inputs = FitInputs(
        task.config, task.model, encoder, device, clips, split, states, task.features_key, progress, workers
    )
    fit = method_of(task.model.method).load_fit()
    crosswise = is_wanted(training, clips, workers)
    fitted = fit_crosswise(inputs, fit, open_states) if crosswise else fit_once(inputs, fit)
    of_scenes = pictures(clips, workers)
    card = _card(task, clips, of_scenes, fitted)
    read_out = _measure_read_out(card, encoder, fitted, clips, torch.device(device), progress, workers)
    if read_out is None:
        return None
    measured = card.model_copy(
        update={
            "read_out": read_out.constants,
            "normal_scores": read_out.normal_scores,
            "normal_kinds": read_out.normal_kinds,
            "unpaired_scores": read_out.unpaired_scores,
            "normal_common": read_out.normal_common,
        }
    )
    kept = spread_evenly(kept_maps(read_out.maps), MAPS_MB * 10**6)
    seen = [digest for clip in clips if (digest := clip_digest(clip.clip)) is not None]
    return Trained(
        measured,
        _tensors(fitted.result),
        read_out.speed_scales,
        tuple((one.scene, one.load()) for one in kept),
        tuple(seen),
    )


def finish(task: TrainingTask, trained: Trained, out: Path) -> ModelCard:
    """Write a model's checkpoint, and delete what an unfinished training keeps, if it was completed.

    Raises:
        CheckpointError: the folder holds something else, or cannot be written.
    """
    normal = NormalStore().with_added((), maps=kept_maps(trained.maps), clips=trained.clips)
    written = save_checkpoint(out, trained.card, task.encoder, trained.tensors, trained.speed_scales, normal)
    if trained.card.provenance.completed:
        shutil.rmtree(training_folder(out), ignore_errors=True)
    return written


def extract_shared(config: Config, dataset: Dataset, folder: Path, progress: TrainingProgress | None = None) -> None:
    """Extract features alone, for several trainings that are then given the same folder.

    Raises:
        BadInputError: settings or footage are not as expected.
    """
    device = torch_device(config)
    _read_footage(training_task(config, dataset), device, folder, progress or NullProgress(), ALONE)


def _read_footage(
    task: TrainingTask, device: str, folder: Path, progress: TrainingProgress, workers: Workers
) -> list[ClipFeatures]:
    """Compute, or find in ``folder``, what the method keeps of the footage; the encoder is moved to the device."""
    model, training = task.model, task.config.training
    encoder = task.encoder.to(device)
    clips = share_features(
        task.dataset.train,
        method_of(model.method).load_feature_spec()(model, encoder.for_inference()),
        model.image_size_px,
        gap_s=model.motion.gap_s,
        training=training,
        folder=folder,
        key=task.features_key,
        progress=progress.features,
        passed_over=progress.passed_over,
        workers=workers,
    )
    if not clips:
        raise DatasetError(
            f"{task.dataset.root}: expected training clips, got none of {len(task.dataset.train)} that can be read"
        )
    return clips


def _card(
    task: TrainingTask,
    clips: Sequence[ClipFeatures],
    of_scenes: Sequence[npt.NDArray[np.float32]] | None,
    fitted: Fitted,
) -> ModelCard:
    """What the checkpoint says of itself, but for its read-out, which is measured with the model that it describes."""
    result = fitted.result
    unseen = [one.part for one in fitted.shown if one.kind == "own"]
    return ModelCard(
        model=task.model,
        scenes=scenes_of(clips),
        levels=result.levels,
        normal_scores={},
        views={} if of_scenes is None else _scene_references(clips, of_scenes),
        normal_fps=statistics.median(clips[part.clip].fps for part in unseen),
        provenance=Provenance(
            dataset=task.dataset.name,
            training=task.config.training,
            completed=result.completed,
            epochs=result.epochs,
            steps=result.steps,
            train_frames=fitted.train_frames,
            holdout_frames=count_frames(unseen),
            folds=len(fitted.measured) if fitted.measured[0] is not result else 0,
            losses=result.losses,
            condition_strengths=result.condition_strengths,
            trained_at_s=time.time(),
            versions=library_versions(),
        ),
    )


def _tensors(result: FitResult) -> dict[str, Tensor]:
    """What was fitted, as a checkpoint has it, on the CPU."""
    if isinstance(result.method, CFlow):
        return {name: as_float16_if_exact(tensor).cpu() for name, tensor in stored_flows(result.method).items()}
    return {name: tensor.cpu() for name, tensor in result.method.items()}


def _measure_read_out(
    card: ModelCard,
    encoder: Encoder,
    fitted: Fitted,
    clips: Sequence[ClipFeatures],
    device: torch.device,
    progress: TrainingProgress,
    workers: Workers,
) -> MeasuredReadOut | None:
    return measure_read_out(
        card.model,
        card.provenance.training,
        [_anomaly_model(card, encoder, result, device) for result in fitted.measured],
        encoder.for_inference(),
        clips,
        fitted.shown,
        device,
        progress.heldout,
        workers=workers,
    )


def _anomaly_model(card: ModelCard, encoder: Encoder, result: FitResult, device: torch.device) -> AnomalyModel:
    """What was fitted, as it will run; its constants may be others than the card's, whose own fit it need not be."""
    card = card.model_copy(update={"levels": result.levels})
    tensors = stored_flows(result.method) if isinstance(result.method, CFlow) else result.method
    stored = StoredModel(Path(), card, encoder.channels, {name: tensor.cpu() for name, tensor in tensors.items()})
    return method_of(card.model.method).load_builder()(stored, torch.float32).requires_grad_(False).to(device)


def _scene_references(
    clips: Sequence[ClipFeatures], of_scenes: Sequence[npt.NDArray[np.float32]]
) -> dict[str, SceneReference]:
    views = measure_references([clip.clip.scene for clip in clips], of_scenes)
    for scene, reference in views.items():
        if not reference.telling:
            _LOGGER.warning("scene %s: too little structure or footage to notice when its camera is moved", scene)
    return views
