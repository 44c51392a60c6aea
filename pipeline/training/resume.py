"""Doing the steps that are left of a training, so that Ctrl-C loses none that was done."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from pipeline.signals import caught_signals
from pipeline.training.fit_inputs import FitInputs
from pipeline.training.holdout import Part
from pipeline.training.state import SavedState, States, fit_key
from pipeline.training.trainer import Trainer

_LOGGER = logging.getLogger(__name__)

_HELDOUT_FRAMES_AFTER_INTERRUPT = 200


def run_trainer(fit: Trainer, inputs: FitInputs) -> tuple[bool, tuple[Part, ...]]:
    """Do the steps that are left; several workers do, and stop after, the same ones.

    Returns:
        Whether all are done, or else there was an interruption; and the held-out frames that are to be measured.

    Raises:
        RunError: the training diverged.
        KeyboardInterrupt: interrupted before a single step, or a second time.
    """
    states, training, workers = inputs.states, inputs.config.training, inputs.workers
    key = fit_key(inputs.features_key, inputs.model, training, inputs.device, inputs.split.train)
    saved = states.load(key)
    if saved is not None:
        fit.restore(saved.tensors, saved.step, saved.losses)
        _LOGGER.info("going on after step %d of %d", fit.step, fit.total_steps)
    fit.agree()
    saved_at_s = time.monotonic()
    is_ended = False
    with caught_signals() as signals:  # or a step would be left half done
        while fit.step < fit.total_steps and not workers.any(is_ended):
            epoch = fit.epoch
            try:
                fit.advance()
                inputs.progress.step(epoch, fit.step, fit.total_steps, fit.losses)
            except KeyboardInterrupt:
                if signals.is_stopping:  # a second Ctrl-C, perhaps in the middle of a step
                    raise
                is_ended = True  # the progress raised it, between two steps
            is_ended = is_ended or signals.is_stopping
            if workers.is_first and time.monotonic() - saved_at_s >= training.checkpoint_every_s:
                _save(fit, states, key)
                saved_at_s = time.monotonic()
    if fit.step == 0:
        raise KeyboardInterrupt
    # Saved when complete, too: should measuring or writing the model fail, not a step is done twice.
    if workers.is_first:
        _save(fit, states, key)
    # Who interrupts the last step of a fit that others follow does not want those either.
    completed = fit.step >= fit.total_steps and (inputs.is_last or not is_ended)
    return completed, inputs.split.heldout if completed else beginnings(inputs.split.heldout)


def beginnings(heldout: Sequence[Part]) -> tuple[Part, ...]:
    """The first frames of each held-out part, so that an interrupted training is measured in seconds.

    Args:
        heldout: all of them.
    """
    each = -(-_HELDOUT_FRAMES_AFTER_INTERRUPT // max(1, len(heldout)))
    return tuple(Part(clip, frames[:each]) for clip, frames in heldout)


def _save(fit: Trainer, states: States, key: str) -> None:
    """Save the state; a disk that is full for a while costs no training of hours."""
    try:
        states.save(key, SavedState(fit.stored(), fit.step, fit.losses))
    except OSError as error:
        _LOGGER.warning("step %d cannot be gone on from, were the training to end: %s", fit.step, error)
