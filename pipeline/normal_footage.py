"""What a camera's thresholds and p-values are measured on: normal footage, stretch by stretch, in scores and maps."""

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
        unpaired: what the same frames score without their pairs, float64, shape (T,); None where ``scores`` serve both,
            or where nobody has looked: what a run has stored of frames with pairs says nothing of frames without.
    """

    kind: StretchKind
    fps: float
    scores: npt.NDArray[np.float64]
    unpaired: npt.NDArray[np.float64] | None = None

    @property
    def hours(self) -> float:
        """How long it lasts."""
        return len(self.scores) / self.fps / 3600.0

    def is_same(self, other: NormalStretch) -> bool:
        """Whether both say the same, wherever they were read."""
        if (self.kind, self.fps, self.unpaired is None) != (other.kind, other.fps, other.unpaired is None):
            return False
        alike = self.unpaired is None or other.unpaired is None or np.array_equal(self.unpaired, other.unpaired)
        return alike and np.array_equal(self.scores, other.scores)


@dataclass(frozen=True, slots=True, eq=False)
class MapStretch:
    """Maps of consecutive normal frames of one scene, as scores are read off them.

    Appearance and motion are brought together already: the score of a frame is the mean of the highest
    ``score.top_fraction`` of its map (``pipeline.models.score``), up to what float16 leaves of it.

    Attributes:
        kind: what they are good for.
        fps: frames per second.
        maps: float16, shape (T, h, w).
        unpaired: of the same frames without their pairs, of the same shape; None where ``maps`` serve both.
    """

    kind: StretchKind
    fps: float
    maps: npt.NDArray[np.float16]
    unpaired: npt.NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AddedStretch:
    """Normal footage that was found after a model's training.

    Attributes:
        stretch: what it scores.
        scene: as which scene it was scored.
        camera_id: the camera that it is of, where it is good for that camera alone; None for all cameras of the scene.
        source: where it comes from, one line.
        since_s: Unix time at which the first frame was captured; None where nobody knows.
        until_s: the same of the last one.
        zones: which zones of the camera were looked at, as ``pipeline.scoring`` names them; empty for all of the image.
    """

    stretch: NormalStretch
    scene: str
    camera_id: str | None = None
    source: str = ""
    since_s: float | None = None
    until_s: float | None = None
    zones: str = ""

    def is_of(self, scene: str, camera_id: str | None = None) -> bool:
        """Whether it is good for a camera of a scene.

        Args:
            scene: of the camera.
            camera_id: the camera; None asks for what is good for all of the scene.
        """
        return self.scene == scene and self.camera_id in {None, camera_id}

    def is_same(self, other: AddedStretch) -> bool:
        """Whether both say the same of the same cameras, wherever they come from."""
        of_one, of_other = ((one.scene, one.camera_id, one.zones) for one in (self, other))
        return of_one == of_other and (self.stretch is other.stretch or self.stretch.is_same(other.stretch))
