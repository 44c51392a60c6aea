"""Doing the steps that are left of a training, so that Ctrl-C loses none that was done."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from pipeline.signals import caught_signals
from pipeline.training.fit_inputs import FitInputs
from pipeline.training.state import SavedState, States, fit_key
from pipeline.training.trainer import Trainer

_LOGGER = logging.getLogger(__name__)

_HELDOUT_FRAMES_AFTER_INTERRUPT = 200


def run_trainer(fit: Trainer, inputs: FitInputs) -> tuple[bool, tuple[range, ...]]:
    """Do the steps that are left; several workers do, and stop after, the same ones.

    Returns:
        Whether all are done, or else there was an interruption; and the held-out frames of every clip to be measured.

    Raises:
        RunError: the training diverged.
        KeyboardInterrupt: interrupted before a single step, or a second time.
    """
    states, training, workers = inputs.states, inputs.config.training, inputs.workers
    key = fit_key(inputs.features_key, inputs.model, training, inputs.device)
    saved = states.load(key)
    if saved is not None:
        fit.restore(saved.tensors, saved.step, saved.losses)
        _LOGGER.info("going on after step %d of %d", fit.step, fit.total_steps)
    fit.agree()
    saved_at_s = time.monotonic()
    is_ended = False
    with caught_signals() as signals:  # or a step would be left half done
        while fit.step < fit.total_steps and not workers.any(is_ended or signals.is_stopping):
            epoch = fit.epoch
            try:
                fit.advance()
                inputs.progress.step(epoch, fit.step, fit.total_steps, fit.losses)
            except KeyboardInterrupt:
                if signals.is_stopping:  # a second Ctrl-C, perhaps in the middle of a step
                    raise
                is_ended = True  # the progress raised it, between two steps
            if workers.is_first and time.monotonic() - saved_at_s >= training.checkpoint_every_s:
                _save(fit, states, key)
                saved_at_s = time.monotonic()
    if fit.step == 0:
        raise KeyboardInterrupt
    # Saved when complete, too: should measuring or writing the model fail, not a step is done twice.
    if workers.is_first:
        _save(fit, states, key)
    completed = fit.step >= fit.total_steps
    return completed, inputs.split.heldout if completed else _beginnings(inputs.split.heldout)


def _save(fit: Trainer, states: States, key: str) -> None:
    """Save the state; a disk that is full for a while costs no training of hours."""
    try:
        states.save(key, SavedState(fit.stored(), fit.step, fit.losses))
    except OSError as error:
        _LOGGER.warning("step %d cannot be gone on from, were the training to end: %s", fit.step, error)


def _beginnings(heldout: Sequence[range]) -> tuple[range, ...]:
    """The first held-out frames of each clip, so that an interrupted training is measured in seconds."""
    clips = sum(1 for frames in heldout if frames)
    each = -(-_HELDOUT_FRAMES_AFTER_INTERRUPT // max(1, clips))
    return tuple(frames[:each] for frames in heldout)
