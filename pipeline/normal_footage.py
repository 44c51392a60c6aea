"""What a camera's thresholds and p-values are measured on: scores of normal footage, stretch by stretch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

StretchKind = Literal["own", "light", "learned"]
"""What a stretch is good for.

``own``: unseen footage as it is, whose hours count. ``light``: the same moments in another light. ``learned``: frames
that the model was fitted to, less surprising than unseen ones: they may raise a threshold, and prove nothing.
"""


@dataclass(frozen=True, slots=True, eq=False)
class NormalStretch:
    """Scores of consecutive normal frames of one scene.

    Attributes:
        kind: what they are good for.
        fps: frames per second.
        scores: anomaly scores, float64, shape (T,), in frame order.
        unpaired: what the same frames score without their pairs, float64, shape (T,); None where ``scores`` serve both.
    """

    kind: StretchKind
    fps: float
    scores: npt.NDArray[np.float64]
    unpaired: npt.NDArray[np.float64] | None = None

    @property
    def hours(self) -> float:
        """How long it lasts."""
        return len(self.scores) / self.fps / 3600.0
