"""What the zones of cameras mean."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.camera_settings import CameraSettings
from pipeline.checks.finding import Finding
from pipeline.zone_words import zones_words


def check_zones(cameras: Sequence[CameraSettings], now_s: float) -> list[Finding]:
    """Say what the zones of each camera come to; nothing of cameras without any.

    Args:
        cameras: the cameras.
        now_s: Unix time.
    """
    return [
        Finding(f"zones {camera.id}", "ok", zones_words(camera.zones, zoning, now_s))
        for camera in cameras
        if (zoning := camera.zoning) is not None
    ]
