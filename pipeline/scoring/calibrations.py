"""The calibrations of many cameras: each made once for all that share a scene and settings, and what they promise."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pipeline.budget import hours_in_words, rate_in_words
from pipeline.camera_settings import AlertSettings, CameraSettings
from pipeline.models.card import ModelCard
from pipeline.models.normal_stretches import stretches_of_scene
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.poisson import RULE_OF_THREE
from pipeline.scoring.thresholds import Thresholds

_NAMED = 6


class Calibrations:
    """Makes calibrations and keeps them: a thousand cameras of one scene cost as much as one."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, float | None, AlertSettings], Calibration] = {}

    def of(self, card: ModelCard, camera: CameraSettings) -> Calibration:
        """The calibration of a camera.

        Args:
            card: of the model that scores it.
            camera: its scene, its rate and its alerts are read.

        Raises:
            CheckpointError: the card holds no normal scores, or they do not fit together.
        """
        key = (card.fingerprint, camera.scene_name, camera.sample_fps, camera.alerts)
        if key not in self._made:
            stretches = stretches_of_scene(card, camera.scene_name)
            self._made[key] = Calibration.of(stretches, camera.alerts, camera.sample_fps)
        return self._made[key]

    def keep(self, fingerprints: Collection[str]) -> None:
        """Forget all of other models than these."""
        self._made = {key: made for key, made in self._made.items() if key[0] in fingerprints}


def provisional_lines(cameras: Iterable[CameraSettings], card: ModelCard) -> list[str]:
    """One line per budget that there is too little normal footage for: which cameras, and what that means.

    Args:
        cameras: the cameras.
        card: of the model that scores them.

    Raises:
        CheckpointError: as ``Calibrations.of``.
    """
    calibrations = Calibrations()
    found: dict[str, dict[str, Thresholds]] = {}
    for camera in cameras:
        thresholds = calibrations.of(card, camera).thresholds
        if thresholds.provisional and camera.alerts.budget is not None:
            found.setdefault(camera.alerts.budget, {})[camera.id] = thresholds
    return [_provisional_line(budget, of_budget) for budget, of_budget in found.items()]


def _provisional_line(budget: str, found: dict[str, Thresholds]) -> str:
    names = ", ".join(list(found)[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
    who = f"{len(found)} cameras ({names})" if len(found) > 1 else f"camera {names}"
    hours = [thresholds.hours for thresholds in found.values()]
    missing = hours_in_words(max(thresholds.hours_missing for thresholds in found.values()))
    if not max(hours):
        have = "no normal footage of its own supports any promise"
    else:
        least = "" if min(hours) == max(hours) else f"{hours_in_words(min(hours))} to "
        rate = rate_in_words(RULE_OF_THREE / max(hours))
        have = f"{least}{hours_in_words(max(hours))} of normal footage support a budget of {rate} at best"
    return (
        f"{who}: {have}, not {budget}: thresholds are provisional, {missing} more would do "
        "(cflow-stream calibrate adds what was recorded, or what a run has stored)"
    )
