"""Footage for tests: scores as they are measured, and what the real smoother and tracker make of them."""

from fractions import Fraction

import numpy as np
from scipy.signal import lfilter

from pipeline.normal_footage import NormalStretch
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.events import EventTracker
from pipeline.scoring.smoothing import CausalSmoother
from pipeline.scoring.thresholds import Thresholds
from pipeline.types import FrameHeader, Prediction


def stretch(scores, fps=8.0, kind="own", unpaired=None) -> NormalStretch:
    """Some footage."""
    other = None if unpaired is None else np.asarray(unpaired, np.float64)
    return NormalStretch(kind, fps, np.asarray(scores, np.float64), other)


def calibrated(scores, settings, fps=10.0, unpaired=None) -> Calibration:
    """A camera's calibration by one stretch of footage."""
    return Calibration.of([stretch(scores, fps, unpaired=unpaired)], settings)


def really_opened(scores, fps, settings, opening, closing) -> int:
    """How many events the real smoother and the real tracker open in one session."""
    smoother = CausalSmoother(settings.smoothing_s)
    settings = settings.model_copy(update={"cooldown_s": 0.0})  # each one counts
    tracker = EventTracker("gate", settings, Thresholds(opening, closing, closing))
    period = Fraction(1) / Fraction(fps).limit_denominator(1000)
    for index, score in enumerate(scores):
        header = FrameHeader("gate", 0, index, index, period, float(index * period), index)
        tracker.update(Prediction(header, score), smoother.update(score, 0, header.media_time_s), 0.0)
    return tracker.state.opened


def busy_scores(hours, fps, seed, *, memory_s=1.0, shape=4.0):
    """Scores as cameras have them: each resembles the last, and high ones are rare and come in groups."""
    generator = np.random.default_rng(seed)
    keep = np.exp(-1.0 / fps / memory_s)
    noise = generator.standard_gamma(shape, size=round(hours * 3600 * fps)) - shape
    return lfilter([np.sqrt(1 - keep**2)], [1.0, -keep], noise)
