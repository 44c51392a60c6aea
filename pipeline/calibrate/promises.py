"""What thresholds the normal footage of a model gives cameras, and what can be promised of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.budget import hours_in_words, rate_in_words
from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.models.card import ModelCard
from pipeline.scoring.calibrations import Calibrations
from pipeline.scoring.run_footage import normal_footage
from pipeline.scoring.thresholds import Thresholds


@dataclass(frozen=True)
class Promise:
    """What one camera, or any camera of a scene, can be promised.

    Attributes:
        camera_id: the camera; None for the scene.
        scene: of the model.
        zones: names of the zones that hold then; empty for all of the image.
        budget: events that were asked for, as the config says it; None where the threshold is a quantile.
        thresholds: by which it is scored.
    """

    camera_id: str | None
    scene: str
    zones: tuple[str, ...]
    budget: str | None
    thresholds: Thresholds

    @property
    def expectation(self) -> str:
        """How many events normal footage opens, in words."""
        expected, interval = self.thresholds.expected_per_hour, self.thresholds.interval_per_hour
        if expected is None:
            return "unknown"
        if interval is None:
            return f"{rate_in_words(expected)} (nothing proves it)"
        low, high = map(rate_in_words, interval)
        return f"{rate_in_words(expected)} ({low} to {high})"

    @property
    def verdict(self) -> str:
        """Whether the footage supports the budget, and what would, in words."""
        found = self.thresholds
        if self.budget is None:
            return "a quantile: nothing was promised"
        if not found.provisional:
            return f"{self.budget} is supported"
        missing = f"{hours_in_words(found.hours_missing)} more would do"
        if found.supported_per_hour is None:
            return f"provisional: nothing unseen supports any budget, {missing}"
        return f"provisional: supports {rate_in_words(found.supported_per_hour)} at best, {missing}"

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        found = self.thresholds
        return {
            "camera_id": self.camera_id,
            "scene": self.scene,
            "zones": list(self.zones),
            "budget": self.budget,
            "threshold": found.opening,
            "close_threshold": found.closing,
            "thresholds": found.version,
            "expected_per_hour": found.expected_per_hour,
            "interval_per_hour": None if found.interval_per_hour is None else list(found.interval_per_hour),
            "normal_hours": found.hours,
            "provisional": found.provisional,
            "hours_missing": found.hours_missing,
        }


def promises_to(cameras: Iterable[CameraSettings], card: ModelCard, folder: Path) -> list[Promise]:
    """What is promised of cameras, zone by zone where they have some.

    Args:
        cameras: the cameras.
        card: of their model.
        folder: of the model on this machine.

    Raises:
        CheckpointError: the card holds no normal scores.
    """
    cameras = tuple(cameras)
    calibrations = Calibrations(normal_footage(card, folder, cameras))
    found = []
    for camera in cameras:
        regimes = () if camera.zoning is None else camera.zoning.distinct
        zones_of = {regime.key: tuple(zone.name for zone in regime.zones) for regime in regimes if regime.armed}
        for key, one in calibrations.by_zones(card, camera).items():
            if camera.zoning is None or key in zones_of:  # else nothing is said then
                thresholds = one.thresholds
                zones = zones_of.get(key, ())
                found.append(Promise(camera.id, camera.scene_name, zones, camera.alerts.budget, thresholds))
    return found


def promises_of_scenes(config: Config, card: ModelCard, folder: Path) -> list[Promise]:
    """What is promised of any camera of each of a model's scenes, every frame of which is scored.

    Args:
        config: ``camera_defaults`` are read, but for zones.
        card: of the model.
        folder: of the model on this machine.

    Raises:
        CheckpointError: the card holds no normal scores.
    """
    cameras = _cameras_of(card.scenes, config)
    return [
        Promise(None, promise.scene, (), promise.budget, promise.thresholds)
        for promise in promises_to(cameras, card, folder)
    ]


def _cameras_of(scenes: Sequence[str], config: Config) -> list[CameraSettings]:
    """A camera of each scene that a config can name."""
    found = []
    for scene in scenes:
        try:
            camera = config.clip_settings("any", "footage", scene)
        except ValueError:
            continue
        found.append(camera.model_copy(update={"zones": ()}))
    return found
