"""What normal footage scores: conformal p-values and thresholds, from held-out normal frames alone.

Reference for the p-value: Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*, 2005 (conformal
prediction); Laxhammar and Falkman 2010 for its use on anomalies.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.errors import CheckpointError
from pipeline.scoring.smoothing import CausalSmoother

_log = logging.getLogger(__name__)

_WIDEST_STEP = 10**9
_DEVIATIONS = 1.4826  # median absolute deviations of a normal law in its standard deviation


class ScoreCalibration:
    """Anomaly scores of held-out normal frames of one scene.

    Args:
        clips: the scores, one sequence per clip, in frame order.
        fps: frames per second of these sequences.
        source: what they belong to, for messages.
        field: of the model card, for messages.

    Raises:
        CheckpointError: there is no score, one is not finite, or ``fps`` is not positive.
    """

    def __init__(
        self,
        clips: Sequence[npt.ArrayLike],
        fps: float,
        *,
        source: str = "model.json",
        field: str = "normal_scores",
    ) -> None:
        arrays = [np.asarray(clip, np.float64).reshape(-1) for clip in clips]
        self._clips = [clip for clip in arrays if clip.size]
        self._fps = fps
        self._smoothed: dict[float, npt.NDArray[np.float64]] = {}  # sorted, by time constant
        if not self._clips:
            raise CheckpointError(f"{source}: {field}: expected scores of held-out normal frames, got none")
        self._sorted: npt.NDArray[np.float64] = np.sort(np.concatenate(self._clips))
        if not np.isfinite(self._sorted).all():
            raise CheckpointError(f"{source}: {field}: expected finite scores, got one that is not")
        if not (math.isfinite(fps) and fps > 0):
            raise CheckpointError(f"{source}: normal_fps: expected a positive number, got {fps!r}")

    @classmethod
    def of_scene(
        cls, normal_scores: Mapping[str, Sequence[Sequence[float]]], scene: str, fps: float, *, camera_id: str
    ) -> ScoreCalibration:
        """Take a scene's scores from a model card; a scene the model does not know gets all scenes' scores pooled.

        Pooled scores are a stopgap: cameras differ in level, so alarms come too often or too seldom. It is logged.

        Args:
            normal_scores: scene to its clips' scores, as the model card holds them.
            scene: the scene that the camera was trained as.
            fps: frames per second of the sequences.
            camera_id: for messages.

        Raises:
            CheckpointError: see the class.
        """
        source = f"camera {camera_id}: model.json"
        if any(len(clip) for clip in normal_scores.get(scene, ())):
            return cls(normal_scores[scene], fps, source=source)
        _log.warning(
            "camera %s: the model has no normal scores of scene %r (it has: %s); using those of all scenes together",
            camera_id,
            scene,
            ", ".join(sorted(normal_scores)) or "none",
            extra={"camera": camera_id},
        )
        return cls(_pooled(normal_scores), fps, source=source)

    @classmethod
    def of_unpaired(
        cls,
        unpaired_scores: Mapping[str, Sequence[Sequence[float]]],
        normal_scores: Mapping[str, Sequence[Sequence[float]]],
        scene: str,
        fps: float,
        *,
        camera_id: str,
    ) -> ScoreCalibration | None:
        """As ``of_scene``, of frames without a pair.

        Args:
            unpaired_scores: scene to its clips' scores without pairs, as the model card holds them.
            normal_scores: the same with pairs.
            scene: the scene that the camera was trained as.
            fps: frames per second of the sequences.
            camera_id: for messages.

        Returns:
            None where none were measured, so that ``normal_scores`` serve both: of the scene, or, of a scene whose
            ``normal_scores`` are all scenes' pooled, of any.

        Raises:
            CheckpointError: see the class.
        """
        is_known = any(len(clip) for clip in normal_scores.get(scene, ()))
        clips = unpaired_scores.get(scene, ()) if is_known else _pooled(unpaired_scores)
        if not any(len(clip) for clip in clips):
            return None
        return cls(clips, fps, source=f"camera {camera_id}: model.json", field="unpaired_scores")

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def spread(self) -> float:
        """Standard deviation of the scores without their outliers: by the median absolute deviation."""
        return _DEVIATIONS * float(np.median(np.abs(self._sorted - np.median(self._sorted))))

    def subsampled(self, sample_fps: float | None) -> ScoreCalibration:
        """What these scores would have been had the footage been thinned as a camera with ``sample_fps`` is.

        Smoothing at a lower rate averages fewer frames, which widens the distribution and moves its quantiles. Every
        k-th frame is taken, from each of the k offsets, with k the rounded ratio of the rates: no score is lost.

        Args:
            sample_fps: frames per second the camera scores; None for all of them.
        """
        step = 1 if sample_fps is None else max(1, round(min(self._fps / sample_fps, _WIDEST_STEP)))
        if step == 1:
            return self
        sequences = [clip[offset::step] for clip in self._clips for offset in range(min(step, len(clip)))]
        return ScoreCalibration(sequences, self._fps / step)

    def p_value(self, score: float) -> float:
        r"""Conformal p-value of a raw (not smoothed) anomaly score, in (0, 1].

        .. math:: p(s) = \frac{1 + \#\{i : s_i \ge s\}}{n + 1}

        For a frame exchangeable with the held-out ones, :math:`P(p \le a) \le a`. Neighbouring frames resemble each
        other, so p-values of consecutive frames are far from independent.
        """
        at_least = len(self._sorted) - int(self._sorted.searchsorted(score))
        return (1 + at_least) / (len(self._sorted) + 1)

    def threshold(self, quantile: float, smoothing_s: float) -> float:
        """Quantile of the normal scores after smoothing each clip exactly as live frames are.

        The next higher score is taken where the quantile falls between two; with few frames that is their maximum, and
        no threshold can promise more: no p-value is below ``1 / (n + 1)``.

        Args:
            quantile: in (0, 1).
            smoothing_s: time constant of ``CausalSmoother``, in seconds.
        """
        if smoothing_s not in self._smoothed:
            self._smoothed[smoothing_s] = np.sort(self._smooth(smoothing_s))
        return float(np.quantile(self._smoothed[smoothing_s], quantile, method="higher"))

    def _smooth(self, smoothing_s: float) -> npt.NDArray[np.float64]:
        smoothed: list[float] = []
        for session, clip in enumerate(self._clips):
            smoother = CausalSmoother(smoothing_s)
            smoothed += [smoother.update(float(s), session, i / self._fps) for i, s in enumerate(clip)]
        return np.array(smoothed)


def _pooled(clips_of: Mapping[str, Sequence[Sequence[float]]]) -> list[Sequence[float]]:
    """The clips of all scenes."""
    return [clip for clips in clips_of.values() for clip in clips]
