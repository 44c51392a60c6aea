"""The cameras of a run as its supervisor saves them, for the process that comes after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.camera_settings import CameraSettings
from pipeline.runtime.accounting import SavedAccounting
from pipeline.runtime.health import SavedHealth
from pipeline.runtime.status import ReaderStatus


@dataclass(frozen=True, slots=True)
class SavedCamera:
    """One camera.

    Attributes:
        camera_id: the camera.
        settings: as ``CameraSettings.model_validate`` takes them, with passwords; None where they are those at first.
        removed: whether it was removed.
        session: number of its newest session; None where there was none.
        reader: what its reader said last.
        accounting: its frame counts.
        health: its health.
    """

    camera_id: str
    settings: Mapping[str, Any] | None
    removed: bool
    session: int | None
    reader: ReaderStatus | None
    accounting: SavedAccounting
    health: SavedHealth


@dataclass(frozen=True, slots=True)
class SavedRegistry:
    """All cameras.

    Attributes:
        cameras: those that are reported one by one, in their order.
        paused: ids of those not to be read.
        archive: of those that were removed long ago, frame counts and newest session, by id.
    """

    cameras: tuple[SavedCamera, ...] = ()
    paused: frozenset[str] = frozenset()
    archive: Mapping[str, tuple[SavedAccounting, int | None]] = field(
        default_factory=dict[str, tuple[SavedAccounting, int | None]]
    )


def revealed(settings: CameraSettings) -> dict[str, Any]:
    """A camera's settings as ``CameraSettings.model_validate`` takes them, its address with its password included."""
    return {**settings.model_dump(mode="json"), "url": settings.url.get_secret_value()}
