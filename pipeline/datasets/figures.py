"""Who and what moves through synthetic footage: where it is at any moment, and what it then looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.datasets import sprites
from pipeline.datasets.scenery import Lane, Place
from pipeline.datasets.sprites import Dress, Sprite

AnomalyKind = Literal["van", "cyclist", "runner", "suitcase"]
KINDS: tuple[AnomalyKind, ...] = ("van", "cyclist", "runner", "suitcase")

_WALKING = 0.82  # heights per second: 1.4 m/s for a person of 1.7 m
_GAIT_CYCLE = 0.88  # heights per cycle of two steps
_STEPS = 8  # drawn phases of a gait


@dataclass(frozen=True)
class Look:
    """What a figure looks like; hashable, so that its pictures are drawn once."""

    kind: Literal["walker"] | AnomalyKind
    dress: Dress


@dataclass(frozen=True)
class Figure:
    """Somebody or something at one moment; feet at (x, y), relative."""

    look: Look
    x: float
    y: float
    step: int
    facing_left: bool

    @property
    def belongs(self) -> bool:
        """Whether it is part of what is normal here."""
        return self.look.kind == "walker"

    def draw(self, unit_px: int) -> Sprite:
        """Its picture, where a person is ``unit_px`` pixels tall."""
        phase, left, dress = 2 * math.pi * self.step / _STEPS, self.facing_left, self.look.dress
        match self.look.kind:
            case "walker":
                return sprites.walker(unit_px, dress, phase, facing_left=left)
            case "runner":
                return sprites.runner(unit_px, dress, phase, facing_left=left)
            case "cyclist":
                return sprites.cyclist(unit_px, dress, phase, facing_left=left)
            case "van":
                return sprites.van(unit_px, dress.top, facing_left=left)
            case "suitcase":
                return sprites.suitcase(unit_px, dress.top)


@dataclass(frozen=True, eq=False)
class Walker:
    """Somebody who walks a lane over and over, each time as somebody else.

    Attributes:
        lane: from where to where.
        looks: one for each time, then from the start again.
        times_s: time at which each point of ``shares`` is reached, at a pace that looks constant in perspective.
        shares: positions along the lane, 0 to 1.
        offset_s: how long before the clip the first walk began.
        pause_s: time between two walks.
    """

    lane: Lane
    looks: tuple[Look, ...]
    times_s: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    offset_s: float
    pause_s: float

    @classmethod
    def drawn_by(cls, rng: np.random.Generator, place: Place, lane: Lane, size_px: tuple[int, int]) -> Walker:
        """Somebody on the lane, in a direction, at a pace and a moment that are drawn by lot."""
        shift = rng.uniform(-0.025, 0.025)
        (x0, y0), (x1, y1) = lane if rng.random() < 0.5 else lane[::-1]
        lane = ((x0, y0 + shift), (x1, y1 + shift))
        height, width = size_px
        shares = np.linspace(0, 1, 100)
        length_px = math.hypot((x1 - x0) * width, (y1 - y0) * height)
        person_px = np.array([place.person_px(y0 + shift + share * (y1 - y0), height) for share in shares])
        pace_px = _WALKING * rng.uniform(0.85, 1.15) * person_px
        times_s = np.concatenate([[0.0], np.cumsum(np.diff(shares) * length_px / pace_px[1:])])
        looks = tuple(Look("walker", _dress(rng)) for _ in range(6))
        pause_s = rng.uniform(0.5, 4.0)
        return cls(lane, looks, times_s, shares, rng.uniform(0, times_s[-1] + pause_s), pause_s)

    def at(self, time_s: float) -> Figure:
        """Where the walker is; between two walks, outside the picture at the end of the lane."""
        walk, walked_s = divmod(time_s + self.offset_s, self.times_s[-1] + self.pause_s)
        share = float(np.interp(walked_s, self.times_s, self.shares))
        (x0, y0), (x1, y1) = self.lane
        x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        if walked_s > self.times_s[-1]:
            x = -9.0  # gone through the door at the end of the lane
        step = int(walked_s * _WALKING / _GAIT_CYCLE * _STEPS) % _STEPS
        return Figure(self.looks[int(walk) % len(self.looks)], x, y, step, x1 < x0)


@dataclass(frozen=True)
class Anomaly:
    """Something that does not belong, in frames ``first`` to ``last - 1``."""

    look: Look
    lane: Lane
    first: int
    last: int

    @classmethod
    def drawn_by(cls, rng: np.random.Generator, place: Place, kind: AnomalyKind, first: int, last: int) -> Anomaly:
        """Something of a kind, in a direction or at a spot, and in colours that are drawn by lot."""
        spot = place.spots[rng.integers(len(place.spots))]
        lanes: dict[AnomalyKind, Lane] = {
            "van": place.drive,
            "cyclist": place.ride,
            "runner": place.trespass,
            "suitcase": (spot, spot),
        }
        start, end = lanes[kind] if rng.random() < 0.5 else lanes[kind][::-1]
        colours = sprites.PAINT if kind == "van" else sprites.HIGH_VISIBILITY
        dress = Dress(_pick(rng, colours), sprites.SPORTS_TROUSERS, _pick(rng, sprites.SKIN))
        return cls(Look(kind, dress), (start, end), first, last)

    def at(self, index: int) -> Figure:
        """Where it is in a frame."""
        share = (index - self.first + 0.5) / (self.last - self.first)
        (x0, y0), (x1, y1) = self.lane
        moving = self.look.kind in ("runner", "cyclist")
        return Figure(
            self.look, x0 + share * (x1 - x0), y0 + share * (y1 - y0), 3 * index % _STEPS if moving else 0, x1 < x0
        )


def _dress(rng: np.random.Generator) -> Dress:
    return Dress(_pick(rng, sprites.CLOTHES), _pick(rng, sprites.TROUSERS), _pick(rng, sprites.SKIN))


def _pick(rng: np.random.Generator, colours: tuple[sprites.Colour, ...]) -> sprites.Colour:
    return colours[rng.integers(len(colours))]
