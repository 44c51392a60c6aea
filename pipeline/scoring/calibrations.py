"""The calibrations of many cameras: each made once for all that share a scene and settings, and what they promise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.budget import hours_in_words, rate_in_words
from pipeline.camera_settings import CameraSettings
from pipeline.models.card import ModelCard
from pipeline.models.normal_stretches import stretches_of_camera
from pipeline.normal_footage import AddedStretch
from pipeline.scoring.calibration import Calibration
from pipeline.scoring.thresholds import Thresholds
from pipeline.zoning import EVERYTHING

_NAMED = 6


class Calibrations:
    """Makes calibrations and keeps them: a thousand cameras of one scene with the same zones cost as much as one.

    Args:
        normal: normal footage of the models beside what their cards hold, by fingerprint.
    """

    def __init__(self, normal: Mapping[str, Sequence[AddedStretch]] | None = None) -> None:
        self._normal = normal or {}
        self._made: dict[tuple[object, ...], Calibration] = {}
        self._asked: set[tuple[object, ...]] = set()  # for which of them, since other footage was taken

    def of(self, card: ModelCard, camera: CameraSettings, zones: str = "") -> Calibration:
        """The calibration of a camera.

        Args:
            card: of the model that scores it.
            camera: its scene, its rate and its alerts are read.
            zones: the zones that hold, by their regime's key; empty for all of the image.

        Raises:
            CheckpointError: the card holds no normal scores, or they do not fit together.
        """
        scene, added = camera.scene_name, self._normal.get(card.fingerprint, ())
        own = any(one.camera_id == camera.id for one in added)  # good for no other camera
        key = (card.fingerprint, scene, camera.id if own else None, zones, camera.sample_fps, camera.alerts)
        self._asked.add(key)
        if key not in self._made:
            stretches = stretches_of_camera(card, scene, camera.id, added, zones)
            self._made[key] = Calibration.of(stretches, camera.alerts, camera.sample_fps)
        return self._made[key]

    def by_zones(self, card: ModelCard, camera: CameraSettings) -> dict[str, Calibration]:
        """The calibrations of a camera under all zones that ever hold together, by the regime's key.

        Args:
            card: as of ``of``.
            camera: its zones are read, too.

        Raises:
            CheckpointError: as of ``of``.
        """
        regimes = (EVERYTHING,) if camera.zoning is None else camera.zoning.distinct
        return {regime.key: self.of(card, camera, regime.key) for regime in regimes}

    def knows_zones(self, card: ModelCard, camera: CameraSettings) -> bool:
        """Whether normal footage tells of a camera under all of its zones; else all of the image is the stopgap.

        Args:
            card: of the model that scores it.
            camera: the camera.
        """
        added = self._normal.get(card.fingerprint, ())
        known = {one.zones for one in added if one.is_of(camera.scene_name, camera.id)}
        return camera.zoning is None or all(regime.key in known | {""} for regime in camera.zoning.distinct)

    def use(self, normal: Mapping[str, Sequence[AddedStretch]]) -> None:
        """Take other normal footage from now on; what nobody has asked for since the last time is forgotten.

        Args:
            normal: as of the class. It may be a copy: what says the same leaves calibrations as they are.
        """
        before, now = _by_scene(self._normal), _by_scene(normal)
        changed = {scene for scene in {*before, *now} if not _are_same(before.get(scene, []), now.get(scene, []))}
        self._normal = normal
        self._made = {key: made for key, made in self._made.items() if key in self._asked and key[:2] not in changed}
        self._asked = set()

    def keep(self, fingerprints: Collection[str]) -> None:
        """Forget all of other models than these."""
        self._made = {key: made for key, made in self._made.items() if key[0] in fingerprints}


def _by_scene(normal: Mapping[str, Sequence[AddedStretch]]) -> dict[tuple[object, ...], list[AddedStretch]]:
    """Footage by the model's fingerprint and the scene."""
    found: dict[tuple[object, ...], list[AddedStretch]] = {}
    for model, stretches in normal.items():
        for one in stretches:
            found.setdefault((model, one.scene), []).append(one)
    return found


def _are_same(some: Sequence[AddedStretch], others: Sequence[AddedStretch]) -> bool:
    return len(some) == len(others) and all(one.is_same(other) for one, other in zip(some, others, strict=True))


def provisional_lines(
    cameras: Iterable[CameraSettings], card: ModelCard, normal: Mapping[str, Sequence[AddedStretch]] | None = None
) -> list[str]:
    """One line per budget that there is too little normal footage for: which cameras, and what that means.

    Args:
        cameras: the cameras.
        card: of the model that scores them.
        normal: as of ``Calibrations``.

    Raises:
        CheckpointError: as ``Calibrations.of``.
    """
    calibrations = Calibrations(normal)
    found: dict[str, dict[str, Thresholds]] = {}
    unknown: list[str] = []
    for camera in cameras:
        made = [one.thresholds for one in calibrations.by_zones(card, camera).values()]
        least = min(made, key=lambda thresholds: thresholds.hours)
        if not calibrations.knows_zones(card, camera):
            unknown.append(camera.id)
        elif least.provisional and camera.alerts.budget is not None:
            found.setdefault(camera.alerts.budget, {})[camera.id] = least
    lines = [_provisional_line(budget, of_budget) for budget, of_budget in found.items()]
    return [*lines, _unknown_line(unknown)] if unknown else lines


def _unknown_line(cameras: Sequence[str]) -> str:
    return (
        f"{_who(cameras)}: beside the model lie no maps of normal footage to tell what it scores within their zones: "
        "thresholds are those of the whole image, and provisional (training again keeps maps, and "
        "cflow-stream calibrate adds them)"
    )


def _who(cameras: Sequence[str]) -> str:
    names = ", ".join(cameras[:_NAMED]) + (", ..." if len(cameras) > _NAMED else "")
    return f"{len(cameras)} cameras ({names})" if len(cameras) > 1 else f"camera {names}"


def _provisional_line(budget: str, found: dict[str, Thresholds]) -> str:
    hours = [thresholds.hours for thresholds in found.values()]
    missing = hours_in_words(max(thresholds.hours_missing for thresholds in found.values()))
    supported = [rate for thresholds in found.values() if (rate := thresholds.supported_per_hour) is not None]
    if not supported:
        have = "no normal footage of its own supports any promise"
    else:
        least = "" if min(hours) == max(hours) else f"{hours_in_words(min(hours))} to "
        best = rate_in_words(min(supported))
        have = f"{least}{hours_in_words(max(hours))} of normal footage support a budget of {best} at best"
    return (
        f"{_who(list(found))}: {have}, not {budget}: thresholds are provisional, {missing} more would do "
        "(cflow-stream calibrate adds what was recorded, or what a run has stored)"
    )
