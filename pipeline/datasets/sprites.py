"""Small figures for synthetic footage: walkers, and what does not belong among them.

Everything is drawn four times too large with Pillow and averaged down, so that edges are soft like a camera's. A
sprite stands on the middle of its lower edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

_OVERSAMPLING = 4
_SHADOW_ALPHA = 90  # of 255
_SOLID = 0.5  # a pixel belongs to the object, not to its shadow or soft edge, from this opacity on
_DARK: Colour = (38, 38, 42)
_GLASS: Colour = (88, 108, 122)

# Muted and of middle brightness: what people wear must not stand out more than what does not belong.
CLOTHES: tuple[Colour, ...] = (
    (104, 108, 120), (124, 114, 106), (112, 100, 92), (92, 104, 128), (134, 124, 114), (118, 102, 112), (106, 122, 112),
)  # fmt: skip
TROUSERS: tuple[Colour, ...] = ((84, 86, 96), (96, 94, 98), (104, 98, 90), (80, 88, 106))
SKIN: tuple[Colour, ...] = ((190, 156, 132), (164, 126, 102), (132, 100, 80))
SPORTS_TROUSERS: Colour = (30, 30, 34)
PAINT: tuple[Colour, ...] = ((244, 84, 20), (250, 222, 30), (16, 150, 236), (232, 24, 104), (246, 246, 240))
# Small things have to be conspicuous: brighter than anything else, so that even an untrained encoder sees them.
HIGH_VISIBILITY: tuple[Colour, ...] = ((250, 222, 30), (255, 255, 60), (250, 250, 240), (255, 190, 30))


@dataclass(frozen=True, eq=False)
class Sprite:
    """A small picture to be laid over a frame.

    Attributes:
        colour: float32, shape (h, w, 3), in [0, 255], already multiplied by ``opacity``.
        opacity: float32, shape (h, w, 1), in [0, 1].
        solid: bool, shape (h, w): pixels that belong to the object itself.
    """

    colour: npt.NDArray[np.float32]
    opacity: npt.NDArray[np.float32]
    solid: npt.NDArray[np.bool_]


class _Canvas:
    """A transparent picture in units of a person's height, origin at the object's foot, y upwards."""

    def __init__(self, width: float, height: float, unit_px: int) -> None:
        self._unit = unit_px * _OVERSAMPLING
        self._size_px = (max(round(width * unit_px), 1), max(round(height * unit_px), 1))
        large = (self._size_px[0] * _OVERSAMPLING, self._size_px[1] * _OVERSAMPLING)
        self._image = Image.new("RGBA", large)
        self._draw = ImageDraw.Draw(self._image)

    def _at(self, x: float, y: float) -> Point:
        return self._image.width / 2 + x * self._unit, self._image.height - y * self._unit

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        (left, top), (right, bottom) = self._at(x - radius, y + radius), self._at(x + radius, y - radius)
        self._draw.ellipse((left, top, right, bottom), fill=colour)

    def ring(self, x: float, y: float, radius: float, width: float, colour: Colour) -> None:
        (left, top), (right, bottom) = self._at(x - radius, y + radius), self._at(x + radius, y - radius)
        self._draw.ellipse((left, top, right, bottom), outline=colour, width=max(round(width * self._unit), 1))

    def limb(self, points: tuple[Point, ...], width: float, colour: Colour) -> None:
        thick = max(round(width * self._unit), 1)
        self._draw.line([self._at(x, y) for x, y in points], fill=colour, width=thick, joint="curve")
        for x, y in points:
            self.disc(x, y, width / 2, colour)

    def box(self, corner: Point, opposite: Point, radius: float, colour: Colour) -> None:
        (left, bottom), (right, top) = corner, opposite
        corners = (*self._at(left, top), *self._at(right, bottom))
        self._draw.rounded_rectangle(corners, radius=radius * self._unit, fill=colour)

    def shadow(self, half_width: float) -> None:
        (left, top), (right, bottom) = self._at(-half_width, 0.05), self._at(half_width, 0.0)
        self._draw.ellipse((left, top, right, bottom), fill=(0, 0, 0, _SHADOW_ALPHA))

    def sprite(self, *, facing_left: bool) -> Sprite:
        image = self._image.convert("RGBa").resize(self._size_px, Image.Resampling.BOX)
        pixels = np.asarray(image, np.float32)
        if facing_left:
            pixels = pixels[:, ::-1]
        opacity = np.ascontiguousarray(pixels[..., 3:]) / 255.0
        return Sprite(np.ascontiguousarray(pixels[..., :3]), opacity, opacity[..., 0] >= _SOLID)


@dataclass(frozen=True)
class Dress:
    """Colours of one person."""

    top: Colour
    trousers: Colour
    skin: Colour


def walker(unit_px: int, dress: Dress, phase: float, *, facing_left: bool) -> Sprite:
    """A person walking.

    Args:
        unit_px: height of the person in pixels.
        dress: the person's colours.
        phase: of the gait, radians; one cycle is two steps.
        facing_left: the walking direction.
    """
    canvas = _Canvas(0.7, 1.05, unit_px)
    canvas.shadow(0.24)
    _legs(canvas, 0.34 * math.sin(phase), dress.trousers)
    canvas.limb(((0.0, 0.54), (0.01, 0.76)), 0.21, dress.top)
    _arm(canvas, -0.4 * math.sin(phase), _darker(dress.top))
    canvas.disc(0.02, 0.93, 0.075, dress.skin)
    return canvas.sprite(facing_left=facing_left)


def runner(unit_px: int, dress: Dress, phase: float, *, facing_left: bool) -> Sprite:
    """A person running: leaning forward, with a long stride."""
    canvas = _Canvas(0.95, 1.05, unit_px)
    canvas.shadow(0.3)
    _legs(canvas, 0.75 * math.sin(phase), dress.trousers)
    canvas.limb(((0.0, 0.54), (0.1, 0.76)), 0.21, dress.top)
    _arm(canvas, -0.9 * math.sin(phase), _darker(dress.top), x=0.08)
    canvas.disc(0.15, 0.92, 0.075, dress.skin)
    return canvas.sprite(facing_left=facing_left)


def cyclist(unit_px: int, dress: Dress, phase: float, *, facing_left: bool) -> Sprite:
    """A person on a bicycle."""
    canvas = _Canvas(1.3, 1.1, unit_px)
    canvas.shadow(0.55)
    for x in (-0.33, 0.33):
        canvas.ring(x, 0.2, 0.2, 0.055, _DARK)
    canvas.limb(((-0.33, 0.2), (0.0, 0.22), (0.22, 0.48), (0.33, 0.2)), 0.055, dress.top)
    canvas.limb(((0.0, 0.22), (-0.12, 0.5)), 0.055, dress.top)
    foot = (0.07 * math.cos(phase), 0.2 + 0.07 * math.sin(phase))
    canvas.limb(((-0.12, 0.52), (0.1, 0.4), foot), 0.1, dress.trousers)
    canvas.limb(((-0.1, 0.56), (0.1, 0.82)), 0.23, dress.top)
    canvas.limb(((0.1, 0.78), (0.26, 0.55)), 0.07, _darker(dress.top))
    canvas.disc(0.16, 0.96, 0.09, dress.top)  # a helmet
    return canvas.sprite(facing_left=facing_left)


def van(unit_px: int, colour: Colour, *, facing_left: bool) -> Sprite:
    """A delivery van."""
    canvas = _Canvas(2.5, 1.3, unit_px)
    canvas.shadow(1.15)
    canvas.box((-1.1, 0.16), (1.1, 0.7), 0.1, colour)
    canvas.box((-1.1, 0.3), (0.72, 1.2), 0.1, colour)
    canvas.box((0.36, 0.66), (0.86, 1.06), 0.08, _GLASS)
    canvas.box((-1.1, 0.38), (1.1, 0.44), 0.01, _darker(colour))
    for x in (-0.68, 0.66):
        canvas.disc(x, 0.2, 0.19, _DARK)
        canvas.disc(x, 0.2, 0.08, (150, 150, 150))
    return canvas.sprite(facing_left=facing_left)


def suitcase(unit_px: int, colour: Colour) -> Sprite:
    """A suitcase that somebody left behind."""
    canvas = _Canvas(0.7, 0.8, unit_px)
    canvas.shadow(0.32)
    canvas.box((-0.14, 0.5), (0.14, 0.68), 0.04, _DARK)
    canvas.box((-0.28, 0.04), (0.28, 0.58), 0.06, colour)
    canvas.box((-0.16, 0.04), (-0.11, 0.58), 0.0, _darker(colour))
    canvas.box((0.11, 0.04), (0.16, 0.58), 0.0, _darker(colour))
    return canvas.sprite(facing_left=False)


def _legs(canvas: _Canvas, swing: float, colour: Colour) -> None:
    for angle, tint in ((-swing, _darker(colour)), (swing, colour)):
        knee = (0.26 * math.sin(angle), 0.53 - 0.26 * math.cos(angle))
        shin = angle - 0.35 * abs(angle)
        foot = (knee[0] + 0.25 * math.sin(shin), max(knee[1] - 0.25 * math.cos(shin), 0.02))
        canvas.limb(((0.0, 0.53), knee, foot), 0.095, tint)


def _arm(canvas: _Canvas, swing: float, colour: Colour, x: float = 0.0) -> None:
    canvas.limb(((x, 0.76), (x + 0.3 * math.sin(swing), 0.76 - 0.3 * math.cos(swing))), 0.065, colour)


def _darker(colour: Colour) -> Colour:
    red, green, blue = (int(value * 0.75) for value in colour)
    return red, green, blue
