"""One picture of a camera, as large as it comes."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from pipeline.camera_settings import CameraSettings
from pipeline.errors import VideoError
from pipeline.redaction import redact
from pipeline.video.source import DecodedFrame, open_camera


def take_picture(camera: CameraSettings) -> npt.NDArray[np.uint8]:
    """Open a camera, with its own time limits, and take the first picture that can be decoded.

    Args:
        camera: the camera, or what stands in for one.

    Returns:
        uint8, shape (H, W, 3), RGB, upright.

    Raises:
        VideoError: it cannot be opened, or no such picture comes within ``stall_timeout_s``.
    """
    with open_camera(camera, None) as source:
        enough_at = time.monotonic() + camera.stall_timeout_s
        for arrival in source.arrivals():
            if isinstance(arrival, DecodedFrame):
                return arrival.image
            if source.live and time.monotonic() > enough_at:
                break
    raise VideoError(
        f"{camera.id} ({redact(camera.url.get_secret_value())}): expected a picture within "
        f"{camera.stall_timeout_s:g} s (stall_timeout_s), got none that can be decoded: no keyframe, or all damaged"
    )
