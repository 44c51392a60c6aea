"""`zones preview` as a person sees it."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console

from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.errors import BadInputError
from pipeline.files import replace_whole, require_place
from pipeline.video.picture import take_picture
from pipeline.zone_words import zones_words
from pipeline.zoning import EVERYTHING


def preview_zones(settings: Config, config_file: Path, camera_id: str, file: Path, *, out: Console) -> None:
    """Take a picture of a camera and write it with a grid, and with the camera's zones as they hold now.

    Args:
        settings: those with the camera.
        config_file: where they come from, for messages.
        camera_id: the camera.
        file: where the PNG goes.
        out: for what was done.

    Raises:
        BadInputError: there is no such camera, or no place for the file.
        VideoError: no picture comes.
    """
    camera = _camera(settings, config_file, camera_id)
    require_place(file)
    image = take_picture(camera)
    from pipeline.console.zone_picture import draw_zones  # matplotlib's font

    now_s, zoning = time.time(), camera.zoning
    regime = EVERYTHING if zoning is None else zoning.at(now_s)
    said = "no zones: all of the image watched" if zoning is None else zones_words(camera.zones, zoning, now_s)
    local = datetime.fromtimestamp(now_s, ZoneInfo(camera.time_zone))
    drawn = draw_zones(image, camera.zones, regime, f"{camera.id}, {local:%A %H:%M} ({camera.time_zone})")
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(file) as staged:
        drawn.save(staged, "PNG")
    out.print(f"{file}: {camera.id}, {said}", markup=False, highlight=False)


def _camera(settings: Config, config_file: Path, camera_id: str) -> CameraSettings:
    known = {camera.id: camera for camera in settings.cameras}
    if camera_id not in known:
        names = ", ".join(list(known)[:12]) or "none"
        raise BadInputError(f"{config_file}: expected one of its cameras ({names}), got {camera_id!r}")
    return known[camera_id]
