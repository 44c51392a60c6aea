"""Fitting the flows to normal footage: resumable, and the same to the last bit for the same seed and machine.

Every draw (initial weights, order of frames, positions) follows from ``training.seed`` and the number of the step, so a
training that goes on from its last saved state ends where an uninterrupted one does. The weights are those of the last
epoch, always; the constants of scoring are measured on held-out normal frames, never on test data.
"""

from __future__ import annotations

import logging
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.config import Config, ModelSettings
from pipeline.datasets.base import Dataset
from pipeline.errors import CheckpointError, ConfigError, DatasetError
from pipeline.models.card import CARD_FILE, ModelCard, Provenance, read_card
from pipeline.models.cflow import CFlow
from pipeline.models.checkpoint import check_writable, library_versions, save_checkpoint
from pipeline.models.encoder import Encoder, build_encoder
from pipeline.training.features import ClipFeatures, extract_features
from pipeline.training.fit import Fit
from pipeline.training.holdout import Split, split_clips
from pipeline.training.measure import measure_normal
from pipeline.training.state import (
    SavedState,
    features_key,
    fit_key,
    load_state,
    prepare_features,
    save_state,
    training_folder,
)
from pipeline.training.views import measure_views
from pipeline.types import SceneView

_LOGGER = logging.getLogger(__name__)

_HELDOUT_FRAMES_AFTER_INTERRUPT = 200
# Mean and covariance are taken over this many frames, or as many as give this many vectors.
_WHITENING_FRAMES = 64
_WHITENING_VECTORS = 65_536


class TrainingProgress(Protocol):
    """Told how a training gets on; called between steps, so raising KeyboardInterrupt here ends it cleanly."""

    def features(self, done: int, total: int) -> None:
        """Frames whose features were extracted."""

    def step(self, epoch: int, step: int, total_steps: int, losses: Mapping[int, float]) -> None:
        """An optimiser step was done.

        Args:
            epoch: the pass over the frames it belongs to, from 0.
            step: steps done.
            total_steps: steps of the whole training.
            losses: running mean of every level's loss, by stride.
        """

    def heldout(self, done: int, total: int) -> None:
        """Held-out normal frames that were scored."""


class NullProgress:
    """Progress that nobody watches."""

    def features(self, done: int, total: int) -> None:
        """Ignore it."""

    def step(self, epoch: int, step: int, total_steps: int, losses: Mapping[int, float]) -> None:
        """Ignore it."""

    def heldout(self, done: int, total: int) -> None:
        """Ignore it."""


def train(config: Config, dataset: Dataset, out: Path, progress: TrainingProgress | None = None) -> ModelCard:
    """Train a model on a data set's normal footage and write its checkpoint.

    Ctrl-C while the flows are fitted leaves a usable checkpoint, marked as not completed; the same call then goes on
    from there. What it needs for that lies in ``OUT.training`` until the model is complete.

    Args:
        config: ``model``, ``training`` and ``runtime.device`` are read.
        dataset: its training clips are used.
        out: folder of the checkpoint.
        progress: told how it gets on.

    Returns:
        The checkpoint's card; ``card.provenance.completed`` says whether the training ran to its end.

    Raises:
        ConfigError: the encoder cannot be built as configured.
        WeightsError: its weights cannot be had.
        DatasetError: there is no footage, or not enough.
        VideoError: a clip cannot be opened.
        CheckpointError: ``out`` cannot hold a checkpoint, or holds a complete one.
        RunError: the training diverged.
        KeyboardInterrupt: interrupted before a single step; the features so far are kept.
    """
    told = progress or NullProgress()
    if not dataset.train:
        raise DatasetError(f"{dataset.root}: expected training clips, got none")
    _check_out(out)
    device = _device(config)
    encoder = build_encoder(config.model.encoder).to(device)
    model = config.model.model_copy(update={"encoder": encoder.settings})

    folder = training_folder(out)
    features = features_key(dataset, encoder, model, config.training.frame_step)
    clips = extract_features(
        dataset.train,
        encoder,
        model.image_size_px,
        frame_step=config.training.frame_step,
        folder=prepare_features(folder, features),
        progress=told.features,
    )
    split = split_clips(
        [clip.clip.scene for clip in clips], [len(clip) for clip in clips], config.training.holdout_fraction
    )
    flows = initial_flows(model, encoder, clips, split, config.training.seed).to(device)
    fit = Fit(flows, clips, split.train, config.training)
    key = fit_key(features, model, config.training, device)
    completed = _run(fit, folder, key, config.training.checkpoint_every_s, told)

    heldout = split.heldout if completed else _beginnings(split.heldout)
    levels, normal_scores = measure_normal(flows, clips, heldout, told.heldout)
    card = ModelCard(
        model=model,
        scenes=_scenes(clips),
        levels=levels,
        normal_scores=normal_scores,
        views=_views(clips),
        normal_fps=statistics.median(clip.fps for clip, held in zip(clips, heldout, strict=True) if held),
        provenance=Provenance(
            dataset=dataset.name,
            training=config.training,
            completed=completed,
            epochs=fit.epoch,
            steps=fit.step,
            train_frames=split.train_frames,
            holdout_frames=sum(len(held) for held in heldout),
            losses=fit.losses,
            trained_at_s=time.time(),
            versions=library_versions(),
        ),
    )
    written = save_checkpoint(out, card, encoder, flows)
    if completed:
        shutil.rmtree(folder, ignore_errors=True)
    return written


def initial_flows(
    model: ModelSettings, encoder: Encoder, clips: Sequence[ClipFeatures], split: Split, seed: int
) -> CFlow:
    """Flows with weights drawn from the seed and whitening measured on the training features; on the CPU.

    The global random state stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flows = CFlow(model, encoder.channels, _scenes(clips))
    for level in range(len(encoder.channels)):
        flows.flow(level).whiten(*_moments(clips, split.train, level))
    return flows


def _moments(clips: Sequence[ClipFeatures], frames: Sequence[range], level: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D), float64, of a level's features in frames spread evenly over the footage."""
    every = [(clip, frame) for clip, part in zip(clips, frames, strict=True) for frame in part]
    _, area, dims = clips[0].levels[level].shape
    wanted = min(len(every), max(_WHITENING_FRAMES, _WHITENING_VECTORS // area))
    total, products, count = np.zeros(dims), np.zeros((dims, dims)), 0
    for at in np.unique(np.linspace(0, len(every) - 1, wanted).round().astype(int)):
        clip, frame = every[at]
        values = clip.levels[level][frame].astype(np.float64)
        total, products, count = total + values.sum(axis=0), products + values.T @ values, count + len(values)
    mean = total / count
    return torch.from_numpy(mean), torch.from_numpy(products / count - np.outer(mean, mean))


def _check_out(out: Path) -> None:
    check_writable(out)
    if (out / CARD_FILE).exists() and read_card(out).provenance.completed:
        raise CheckpointError(f"{out}: expected a new folder or an interrupted training's, got a complete model")


def _scenes(clips: Sequence[ClipFeatures]) -> tuple[str, ...]:
    return tuple(sorted({clip.clip.scene for clip in clips}))


def _views(clips: Sequence[ClipFeatures]) -> dict[str, SceneView]:
    views = measure_views([clip.clip.scene for clip in clips], [clip.pictures for clip in clips])
    for scene, view in views.items():
        if not view.telling:
            _LOGGER.warning("scene %s: too little structure or footage to notice when its camera is moved", scene)
    return views


def _device(config: Config) -> str:
    wanted = config.runtime.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("runtime.device: expected a CUDA device on this machine, got none")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def _run(fit: Fit, folder: Path, key: str, save_every_s: float, progress: TrainingProgress) -> bool:
    """Do the steps that are left; True when all are done, False after an interruption."""
    saved = load_state(folder, key)
    if saved is not None:
        fit.restore(saved.tensors, saved.step, saved.losses)
        _LOGGER.info("going on after step %d of %d", fit.step, fit.total_steps)
    saved_at_s = time.monotonic()
    with _interrupt_noted() as interrupted:
        try:
            while fit.step < fit.total_steps and not interrupted.is_set():
                epoch = fit.epoch
                fit.advance()
                progress.step(epoch, fit.step, fit.total_steps, fit.losses)
                if time.monotonic() - saved_at_s >= save_every_s:
                    save_state(folder, key, SavedState(fit.stored(), fit.step, fit.losses))
                    saved_at_s = time.monotonic()
        except KeyboardInterrupt:  # raised by the progress, between two steps
            pass
    if fit.step == 0:
        raise KeyboardInterrupt
    # Saved when complete, too: should measuring or writing the model fail, not a step is done twice.
    save_state(folder, key, SavedState(fit.stored(), fit.step, fit.losses))
    return fit.step >= fit.total_steps


@contextmanager
def _interrupt_noted() -> Iterator[threading.Event]:
    """Note the first Ctrl-C instead of raising it, so that no step is left half done; a second one raises.

    Signals reach the main thread only; in another thread nothing changes.
    """
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        del number, frame
        noted.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, previous)


def _beginnings(heldout: Sequence[range]) -> tuple[range, ...]:
    """The first held-out frames of each clip, so that an interrupted training is measured in seconds."""
    clips = sum(1 for frames in heldout if frames)
    each = -(-_HELDOUT_FRAMES_AFTER_INTERRUPT // max(1, clips))
    return tuple(frames[:each] for frames in heldout)
