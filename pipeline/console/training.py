"""`train` as a person sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from pipeline.calibrate.promises import promises_of_scenes
from pipeline.config import Config
from pipeline.console.calibrating import promises_table
from pipeline.console.footage import passed_over_count
from pipeline.console.progress import TrainingBars, progress_bars
from pipeline.datasets.base import Dataset
from pipeline.errors import RunError
from pipeline.methods import DEFAULT_METHOD, method_of
from pipeline.models.card import ModelCard
from pipeline.training.progress import TrainingProgress

Fit = Callable[[Config, Dataset, Path, TrainingProgress], ModelCard]
"""Trains a model as ``train`` does."""


def train_with_bars(
    config: Config,
    dataset: Dataset,
    out_folder: Path,
    *,
    out: Console,
    err: Console,
    features: Path | None = None,
    fit: Fit | None = None,
) -> ModelCard:
    """Train, with progress bars, and say what came of it.

    Args:
        config: as for ``train``.
        dataset: as for ``train``.
        out_folder: of the model.
        out: for what came of it.
        err: for the bars.
        features: as for ``train``.
        fit: what trains instead of ``train``.

    Raises:
        BadInputError: settings, footage or output folder are not as expected.
        RunError: it was interrupted; the message says what was left behind.
    """
    with progress_bars(err) as progress:
        method = method_of(config.model.method)
        bars = TrainingBars(progress, method.fitted or method.name)
        if fit is None:
            from pipeline.training.train import train  # imports torch: not before it is needed

            card = train(config, dataset, out_folder, bars, features=features)
        else:
            card = fit(config, dataset, out_folder, bars)
    made = card.provenance
    if not made.completed:
        raise RunError(
            f"interrupted after {made.epochs} of {config.training.epochs} epochs: {out_folder} holds a usable model of "
            "that state; the same command goes on from there"
        )
    encoder = card.model.encoder.name
    what = encoder if method.name == DEFAULT_METHOD else f"{method.name} on {encoder}"
    out.print(
        f"model {card.short_fingerprint} in {out_folder}: {what}, scenes {', '.join(card.scenes)}; "
        f"{made.train_frames:,} frames learned, thresholds from {made.holdout_frames:,} held-out normal frames"
        + (f", each unseen by one of {made.folds} further models" if made.folds else ""),
        markup=False,
        highlight=False,
    )
    out.print(promises_table(promises_of_scenes(config, card, out_folder)))
    not_used = [*dataset.passed_over, *bars.not_used]
    if not_used:
        clips = len(dataset.train) - len(bars.not_used)
        out.print(f"trained on {clips:,} clips; {passed_over_count(not_used)}", markup=False, highlight=False)
    return card
