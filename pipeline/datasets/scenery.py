"""The places that synthetic cameras look at: a background each, and where people walk in it.

Positions are relative to the image, (0, 0) its upper left and (1, 1) its lower right corner. The ground ends at the
horizon, so how tall a person is follows from where the feet are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

Point = tuple[float, float]
Lane = tuple[Point, Point]
Colour = tuple[int, int, int]

_NEAREST_PERSON = 0.3  # height of a person at the lower edge, relative to the image's height
_FINE, _COARSE = 3.0, 7.0  # standard deviations of the ground's two textures, of 255


@dataclass(frozen=True)
class Place:
    """What one camera sees when nothing moves.

    Attributes:
        name: what its scene is called.
        horizon: relative height at which the ground ends.
        walks: where people walk, both ways.
        drive: where a van crosses that has no business there.
        ride: where a cyclist does.
        trespass: where somebody runs and nobody walks.
        spots: where something is left behind.
        paint: draws the place onto a picture.
    """

    name: str
    horizon: float
    walks: tuple[Lane, ...]
    drive: Lane
    ride: Lane
    trespass: Lane
    spots: tuple[Point, ...]
    paint: Callable[[Brush], None]

    def person_px(self, y: float, height_px: int) -> float:
        """Height in pixels of a person whose feet are at the relative height ``y``."""
        return height_px * _NEAREST_PERSON * max(y - self.horizon, 0.02) / (1.0 - self.horizon)


class Brush:
    """Draws polygons in relative coordinates."""

    def __init__(self, size_px: tuple[int, int]) -> None:
        height, width = size_px
        self.image = Image.new("RGB", (width, height))
        self._draw = ImageDraw.Draw(self.image)

    def area(self, colour: Colour, *corners: Point) -> None:
        """Fill a polygon."""
        self._draw.polygon([self._at(corner) for corner in corners], fill=colour)

    def rectangle(self, colour: Colour, left: float, top: float, right: float, bottom: float) -> None:
        """Fill a rectangle."""
        self.area(colour, (left, top), (right, top), (right, bottom), (left, bottom))

    def line(self, colour: Colour, start: Point, end: Point, width: int = 1) -> None:
        """Draw a line, ``width`` in pixels."""
        self._draw.line([self._at(start), self._at(end)], fill=colour, width=width)

    def disc(self, colour: Colour, centre: Point, radius: float) -> None:
        """Fill a circle whose radius is relative to the image's height."""
        x, y = self._at(centre)
        r = radius * self.image.height
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def _at(self, point: Point) -> Point:
        return point[0] * self.image.width, point[1] * self.image.height


def _plaza(brush: Brush) -> None:
    brush.rectangle((172, 190, 206), 0, 0, 1, 0.12)
    brush.rectangle((150, 132, 114), 0, 0.05, 1, 0.3)
    for row in (0.08, 0.18):
        for column in range(11):
            left = 0.02 + column * 0.09
            brush.rectangle((84, 92, 104), left, row, left + 0.05, row + 0.07)
    brush.area((168, 160, 148), (0, 0.3), (1, 0.3), (1, 1), (0, 1))
    for step in range(-14, 28):
        brush.line((150, 142, 130), (0.5 + (step / 14 - 0.5) * 0.35, 0.3), (0.5 + (step / 14 - 0.5) * 2.2, 1))
    for row in range(1, 10):
        y = 0.3 + 0.7 * (row / 10) ** 1.8
        brush.line((150, 142, 130), (0, y), (1, y))
    brush.area((96, 122, 74), (0.66, 0.4), (0.9, 0.4), (1.02, 0.58), (0.7, 0.58))
    brush.disc((62, 94, 54), (0.8, 0.36), 0.09)
    brush.rectangle((86, 68, 52), 0.79, 0.42, 0.81, 0.5)


def _road(brush: Brush) -> None:
    brush.rectangle((186, 200, 214), 0, 0, 1, 0.2)
    brush.rectangle((118, 128, 112), 0, 0.12, 1, 0.32)
    for column in range(9):
        brush.disc((84, 108, 76), (0.06 + column * 0.12, 0.2), 0.085)
    brush.rectangle((178, 174, 170), 0, 0.32, 1, 0.5)
    brush.rectangle((80, 82, 86), 0, 0.5, 1, 0.84)
    brush.rectangle((206, 204, 198), 0, 0.495, 1, 0.51)
    for column in range(6):
        left = column * 0.2 - 0.04
        brush.area((196, 194, 184), (left, 0.645), (left + 0.1, 0.645), (left + 0.11, 0.665), (left + 0.01, 0.665))
    brush.rectangle((206, 204, 198), 0, 0.83, 1, 0.85)
    brush.rectangle((184, 178, 168), 0, 0.85, 1, 1)
    for column in range(12):
        brush.line((166, 160, 150), (column / 11, 0.85), (column / 11 + (column - 5.5) * 0.03, 1))
    brush.rectangle((70, 72, 76), 0.12, 0.06, 0.13, 0.46)
    brush.rectangle((70, 72, 76), 0.12, 0.06, 0.2, 0.075)


def _gate(brush: Brush) -> None:
    brush.rectangle((196, 202, 206), 0, 0, 1, 0.2)
    brush.rectangle((142, 138, 132), 0, 0.1, 1, 0.36)
    brush.rectangle((92, 108, 122), 0.06, 0.14, 0.3, 0.26)
    brush.rectangle((92, 108, 122), 0.7, 0.14, 0.94, 0.26)
    brush.area((104, 126, 82), (0, 0.36), (1, 0.36), (1, 1), (0, 1))
    brush.area((176, 166, 150), (0.44, 0.36), (0.56, 0.36), (0.82, 1), (0.18, 1))
    brush.line((206, 200, 190), (0.44, 0.36), (0.18, 1), 2)
    brush.line((206, 200, 190), (0.56, 0.36), (0.82, 1), 2)
    brush.rectangle((64, 60, 58), 0.44, 0.14, 0.56, 0.36)
    for column in range(20):
        x = column / 19
        if not 0.42 < x < 0.58:
            brush.rectangle((74, 80, 84), x - 0.004, 0.3, x + 0.004, 0.42)
    brush.rectangle((74, 80, 84), 0, 0.32, 0.42, 0.33)
    brush.rectangle((74, 80, 84), 0.58, 0.32, 1, 0.33)


PLACES: tuple[Place, ...] = (
    Place(
        "plaza",
        horizon=0.22,
        walks=(((-0.1, 0.6), (1.1, 0.6)), ((-0.12, 0.92), (1.12, 0.86)), ((-0.1, 0.68), (1.1, 0.98))),
        drive=((-0.3, 0.76), (1.3, 0.76)),
        ride=((1.15, 0.8), (-0.15, 0.7)),
        trespass=((0.3, 1.25), (0.85, 0.46)),
        spots=((0.22, 0.76), (0.78, 0.5), (0.55, 0.48)),
        paint=_plaza,
    ),
    Place(
        "road",
        horizon=0.18,
        walks=(((-0.08, 0.44), (1.08, 0.44)), ((-0.12, 0.96), (1.12, 0.96)), ((-0.08, 0.47), (1.08, 0.47))),
        drive=((1.3, 0.78), (-0.3, 0.78)),
        ride=((-0.15, 0.62), (1.15, 0.62)),
        trespass=((0.2, 0.94), (0.85, 0.5)),
        spots=((0.35, 0.7), (0.7, 0.6), (0.55, 0.8)),
        paint=_road,
    ),
    Place(
        "gate",
        horizon=0.2,
        walks=(((0.36, 1.3), (0.48, 0.42)), ((0.6, 1.3), (0.52, 0.42)), ((0.48, 1.3), (0.5, 0.42))),
        drive=((-0.35, 0.84), (1.35, 0.84)),
        ride=((1.15, 0.66), (-0.15, 0.66)),
        trespass=((-0.1, 0.92), (1.1, 0.56)),
        spots=((0.16, 0.74), (0.84, 0.82), (0.26, 0.56)),
        paint=_gate,
    ),
)


def background(place: Place, size_px: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Paint a place with ground texture, lens vignetting and a tint of its own.

    Args:
        place: what to paint.
        size_px: (height, width).
        rng: source of texture and tint.

    Returns:
        float32, shape (H, W, 3), in [0, 255].
    """
    brush = Brush(size_px)
    place.paint(brush)
    image = gaussian_filter(np.asarray(brush.image, np.float32), (0.6, 0.6, 0))
    for sigma_px, strength in ((0.8, _FINE), (8.0, _COARSE)):
        texture = gaussian_filter(rng.standard_normal(size_px), sigma_px)
        image += (strength / texture.std() * texture)[..., None].astype(np.float32)
    rows, columns = np.mgrid[-1 : 1 : size_px[0] * 1j, -1 : 1 : size_px[1] * 1j]
    vignette = 1.0 - 0.1 * (rows**2 + columns**2)
    tint = 1.0 + rng.uniform(-0.05, 0.05, 3)
    return np.clip(image * vignette[..., None] * tint, 0, 255).astype(np.float32)
