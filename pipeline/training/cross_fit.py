"""Little footage serves twice: models of parts of it are measured on the rest, and the model that is kept learns all.

Each of ``FOLDS`` models learns from all parts but one and is measured on that one, which it has not seen. What they
score together is what the method makes of unseen footage of the scene, and is as long as the footage; thresholds are
measured on that. The model that is kept has learned from more than they have, so it is less surprised than they are,
if anything: thresholds err on the side of silence.

It costs as much as the fit, once for every model: with three of them (each of two thirds) two fits more, and the
footage is measured once as a whole instead of a tenth of it.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.config import TrainingSettings
from pipeline.errors import DatasetError
from pipeline.models.card import LevelConstants
from pipeline.training.features import ClipFeatures
from pipeline.training.fit_inputs import FitInputs, FitResult, Settled
from pipeline.training.holdout import FOLDS, Part, Split, cross_splits
from pipeline.training.measured_parts import Shown, shown_crosswise, shown_once
from pipeline.training.progress import TrainingProgress
from pipeline.training.resume import beginnings
from pipeline.training.state import States
from pipeline.training.workers import Workers

_LOGGER = logging.getLogger(__name__)

LITTLE_S = 600.0
"""A scene with less footage than that has it cross-fitted, unless the settings say otherwise."""

_LEAST_S = 10.0  # of every scene: what is shorter tells too little to be worth it
_MOST_S = 3600.0  # of all scenes together: what is measured is kept in memory

Fit = Callable[[FitInputs], FitResult]


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and how it is to be measured.

    Attributes:
        result: the model.
        measured: the fits that are measured in its place; the model's own where nothing was cross-fitted.
        shown: on which frames.
        train_frames: frames that the model learned from.
    """

    result: FitResult
    measured: tuple[FitResult, ...]
    shown: tuple[Shown, ...]
    train_frames: int


def fit_once(inputs: FitInputs, fit: Fit) -> Fitted:
    """Fit a model on what is not held out.

    Raises:
        As ``fit``.
    """
    result = fit(inputs)
    seen = Split(inputs.split.train, result.heldout)
    # An interrupted training is measured in seconds.
    shown = shown_once(inputs.clips, seen, learned=result.completed)
    return Fitted(result, (result,), tuple(shown), inputs.split.train_frames)


def fit_crosswise(inputs: FitInputs, fit: Fit, states_of: Callable[[str], States]) -> Fitted:
    """Fit a model on all footage, after those that are measured in its place.

    Interrupted among those, what there is of the one that is being fitted is the model; interrupted later, what there
    is of the model itself. Either way the next call goes on from there.

    Args:
        inputs: what the model is fitted on; its split, and its states, are not looked at.
        fit: fits one.
        states_of: where each keeps its state, by its name; empty for the model.

    Raises:
        As ``fit``.
    """
    clips = inputs.clips
    splits = cross_splits(*_described(clips))
    everything = Split(tuple(Part(number, range(len(clip))) for number, clip in enumerate(clips)), ())
    frames = [split.train_frames for split in (*splits, everything)]
    inputs.progress.models(len(frames))
    parts, done = list[FitResult](), 0
    for number, split in enumerate(splits):
        steps = _Steps(inputs.progress, frames, number, done)
        states = states_of(f"fold-{number}")
        parts.append(fit(replace(inputs, split=split, states=states, progress=steps, is_last=False)))
        done = steps.done
        if not parts[-1].completed:
            shown = shown_once(clips, Split(split.train, parts[-1].heldout), learned=False)
            return Fitted(parts[-1], (parts[-1],), tuple(shown), split.train_frames)
    settled = Settled(_pooled([part.levels for part in parts]), _agreed([part.condition_strengths for part in parts]))
    whole = replace(
        inputs,
        split=everything,
        states=states_of(""),
        progress=_Steps(inputs.progress, frames, len(splits), done),
        settled=settled,
    )
    result = fit(whole)
    if not result.completed:
        splits = tuple(Split(split.train, beginnings(split.heldout)) for split in splits)
    shown = shown_crosswise(clips, splits, inputs.config.training.holdout_fraction)
    return Fitted(result, tuple(parts), tuple(shown), everything.train_frames)


def is_wanted(settings: TrainingSettings, clips: Sequence[ClipFeatures], workers: Workers) -> bool:
    """Whether footage is to be cross-fitted.

    Args:
        settings: ``cross_fit`` is read.
        clips: features of the footage.
        workers: those of a cluster fit a model, but do not cross-fit one, however many are left of them.

    Raises:
        DatasetError: it is to be, and a scene has too little footage even for that.
    """
    frames: dict[str, int] = {}
    lasts_s: dict[str, float] = {}
    for clip in clips:
        scene = clip.clip.scene
        frames[scene] = frames.get(scene, 0) + len(clip)
        lasts_s[scene] = lasts_s.get(scene, 0.0) + len(clip) / clip.fps
    shortest = min(frames, key=lambda scene: frames[scene])
    if settings.cross_fit and frames[shortest] < 2 * FOLDS:
        raise DatasetError(
            f"scene {shortest}: expected {2 * FOLDS} frames or more to cross-fit, got {frames[shortest]}; set "
            "training.cross_fit: false"
        )
    is_enough = frames[shortest] >= 2 * FOLDS and min(lasts_s.values()) >= _LEAST_S
    is_little = is_enough and min(lasts_s.values()) < LITTLE_S and sum(lasts_s.values()) <= _MOST_S
    wanted = is_little if settings.cross_fit is None else settings.cross_fit
    if wanted and not workers.is_alone:
        _LOGGER.warning("training.cross_fit: several workers do not: thresholds are measured on a part of the footage")
        return False
    return wanted


def _described(clips: Sequence[ClipFeatures]) -> tuple[list[str], list[int], list[float]]:
    return [clip.clip.scene for clip in clips], [len(clip) for clip in clips], [clip.fps for clip in clips]


def _pooled(levels: Sequence[Sequence[LevelConstants]]) -> tuple[LevelConstants, ...]:
    """Constants of unseen frames of all parts together, level by level."""
    pooled = []
    for of_level in zip(*levels, strict=True):
        mean = sum(one.mean for one in of_level) / len(of_level)
        square = sum(one.std**2 + (one.mean - mean) ** 2 for one in of_level) / len(of_level)
        pooled.append(of_level[0].model_copy(update={"mean": mean, "std": math.sqrt(square)}))
    return tuple(pooled)


def _agreed(strengths: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The strengths of conditions that most parts support."""
    return {level: statistics.median_low(of_part[level] for of_part in strengths) for level in strengths[0]}


class _Steps:
    """A ``TrainingProgress`` of one of several fits, whose steps are told as those of one training.

    Args:
        progress: of the training.
        frames: that each of the fits learns from: how long those take that are still to come follows from that.
        fit: number of this one.
        before: steps that were done in those before.
    """

    def __init__(self, progress: TrainingProgress, frames: Sequence[int], fit: int, before: int) -> None:
        self._progress, self._before = progress, before
        self._later = sum(frames[fit + 1 :]) / frames[fit]
        self.done = before

    def step(self, epoch: int, step: int, total_steps: int, losses: Mapping[str, float]) -> None:
        self.done = self._before + total_steps
        total = self.done + round(self._later * total_steps)
        self._progress.step(epoch, self._before + step, total, losses)

    def features(self, done: int, total: int) -> None:
        self._progress.features(done, total)

    def passed_over(self, line: str) -> None:
        self._progress.passed_over(line)

    def models(self, count: int) -> None:
        self._progress.models(count)

    def heldout(self, done: int, total: int) -> None:
        self._progress.heldout(done, total)
