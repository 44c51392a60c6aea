"""A camera's picture with a grid to read coordinates off, and its zones as they hold at one time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.polygons import Point
from pipeline.zone_settings import ZoneSettings
from pipeline.zone_words import zone_kind
from pipeline.zoning import Regime

# Of Okabe and Ito: whoever is colour-blind tells them apart, too.
_WATCHED, _IGNORED = (0, 158, 115), (213, 94, 0)
_SIDES_PX = (800, 1600)  # of the longer side: texts must be legible, and files small
_GRID_STEPS = 10
_DARKENED = 0.45  # what nothing counts in


class _Canvas:
    """A picture that is drawn on in fractions of it."""

    def __init__(self, image: npt.NDArray[np.uint8], regime: Regime) -> None:
        longest = max(image.shape[:2])
        scale = min(max(longest, _SIDES_PX[0]), _SIDES_PX[1]) / longest
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        seen = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS), np.float32)
        counts = regime.weights(height, width)[..., None] > 0.0
        self.picture = Image.fromarray((seen * np.where(counts, 1.0, _DARKENED)).astype(np.uint8))
        self._draw = ImageDraw.Draw(self.picture, "RGBA")
        font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
        self._font = ImageFont.truetype(font, max(12, min(height, width) // 40))

    def line(self, start: Point, end: Point, colour: tuple[int, ...], width: int = 1) -> None:
        self._draw.line((self._at(start), self._at(end)), fill=colour, width=width)

    def polygon(self, points: Sequence[Point], colour: tuple[int, int, int], width: int) -> None:
        corners = [self._at(point) for point in points]
        self._draw.polygon(corners, fill=(*colour, 45))
        self._draw.line([*corners, corners[0], corners[1]], fill=colour, width=width, joint="curve")
        for x, y in corners:
            self._draw.ellipse((x - width, y - width, x + width, y + width), fill=(255, 255, 255), outline=colour)

    def text(self, at: Point, text: str, colour: tuple[int, int, int], anchor: Literal["la", "mm", "ld"]) -> None:
        """With what it stands on; moved as far as needed to be inside."""
        left, top, right, bottom = self._draw.textbbox(self._at(at), text, font=self._font, anchor=anchor)
        pad, (width, height) = 3, self.picture.size
        moved_x = max(pad - left, 0) or min(width - pad - right, 0)
        moved_y = max(pad - top, 0) or min(height - pad - bottom, 0)
        box = (left + moved_x - pad, top + moved_y - pad, right + moved_x + pad, bottom + moved_y + pad)
        self._draw.rectangle(box, fill=(0, 0, 0, 170))
        x, y = self._at(at)
        self._draw.text((x + moved_x, y + moved_y), text, fill=colour, font=self._font, anchor=anchor)

    def _at(self, point: Point) -> tuple[float, float]:
        width, height = self.picture.size
        return point[0] * (width - 1), point[1] * (height - 1)


def draw_zones(
    image: npt.NDArray[np.uint8], zones: Sequence[ZoneSettings], regime: Regime, caption: str
) -> Image.Image:
    """Draw zones on a picture; what counts for nothing at present is darkened.

    Args:
        image: uint8, shape (H, W, 3), RGB.
        zones: all of the camera's.
        regime: those that hold at present.
        caption: one line for the foot of the picture.
    """
    canvas = _Canvas(image, regime)
    for step in range(1, _GRID_STEPS):
        at = step / _GRID_STEPS
        colour = (255, 255, 255, 130 if step == _GRID_STEPS // 2 else 60)
        canvas.line((at, 0.0), (at, 1.0), colour)
        canvas.line((0.0, at), (1.0, at), colour)
    for zone in zones:
        canvas.polygon(zone.polygon, _colour(zone), 4 if zone in regime.zones else 1)
    for step in range(1, _GRID_STEPS):
        at = step / _GRID_STEPS
        canvas.text((at, 0.0), f"{at:g}", (255, 255, 255), "mm")
        canvas.text((0.0, at), f"{at:g}", (255, 255, 255), "mm")
    for zone in zones:
        said = f"{zone.name}: {zone_kind(zone)}" + ("" if zone in regime.zones else ", not now")
        canvas.text(_middle(zone.polygon), said, _light(_colour(zone)), "mm")
    canvas.text((0.0, 1.0), caption, (255, 255, 255), "ld")
    return canvas.picture


def _colour(zone: ZoneSettings) -> tuple[int, int, int]:
    return _WATCHED if zone.watch is not None else _IGNORED


def _light(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (round(150 + value * 105 / 255) for value in colour)
    return red, green, blue


def _middle(points: Sequence[Point]) -> Point:
    """Middle of a polygon's corners."""
    x, y = np.mean(points, axis=0).tolist()
    return x, y
