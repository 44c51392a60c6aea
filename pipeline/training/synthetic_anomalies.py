"""Anomalies made of normal footage: things cut out elsewhere that move through it, appear in it, or dash off.

They stand in for the anomalies that nobody has filmed when levels, channels and the read-out are chosen, so that no
label of a test decides anything. What is pasted is a piece of the same footage from another place and time, mostly with
somebody in it, perhaps mirrored, in somewhat other light, in an outline of its own: nothing new in itself, but not
where, or as fast as, it is normal.

Places and speeds are in heights of the image and seconds, as everything of motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.video.pairs import luma_of

Kind = Literal["moves", "appears", "dashes"]
KINDS: tuple[Kind, ...] = ("moves", "appears", "dashes")

_AREAS = (0.005, 0.06)  # of a thing, in squared heights of the image
_ASPECTS = (0.5, 2.0)
_SPEEDS_PER_S = (0.1, 1.0)  # of what moves, in heights
_DASHES_PER_S = (0.5, 1.5)  # of what stood and dashes off
_MOST_THINGS = 3
_EDGE = 0.006  # width of a soft edge, in heights
_GAINS = (0.75, 1.33)  # of the light on what is pasted
_TRIES = 30  # pieces looked at for each thing
_CONTRASTS = (
    12.0,
    60.0,
)  # mean difference from the ground, in grey levels: neither invisible nor a white spot at night
_LEAST_TEXTURE = 10.0  # standard deviation of a piece, in grey levels
_MOVING_SHARE = 0.7  # of the pieces, cut out where something moved
_FIRST_FRAMES = 0.5  # part of the frames in which what appears does
_BEFORE_S = 1.0  # longer than any gap of a pair


@dataclass(frozen=True)
class Thing:
    """Something that is pasted.

    Attributes:
        kind: what it does.
        patch: uint8 (h, w, 3).
        alpha: float32 (h, w), in [0, 1]: how much of the patch is seen.
        begins_s: when it is there first; before all frames for what moves, which is never seen to come out of nothing.
        turns_s: when what dashes begins to; of others ``begins_s``.
        start: (y, x) of its upper left corner when it begins, in pixels; may lie outside of the image.
        velocity: pixels per second, down and to the right, from ``turns_s`` on.
    """

    kind: Kind
    patch: npt.NDArray[np.uint8]
    alpha: npt.NDArray[np.float32]
    begins_s: float
    turns_s: float
    start: tuple[float, float]
    velocity: tuple[float, float]

    def corner(self, at_s: float) -> tuple[float, float] | None:
        """Where its upper left corner is at a time; None before it is there."""
        if at_s < self.begins_s:
            return None
        moving_s = max(0.0, at_s - self.turns_s)
        return self.start[0] + moving_s * self.velocity[0], self.start[1] + moving_s * self.velocity[1]


def paste(
    frames: npt.NDArray[np.uint8],
    previous_luma: npt.NDArray[np.uint8],
    gaps_s: npt.NDArray[np.float32],
    fps: float,
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Paste anomalies into a stretch of normal footage; what came stays as it was.

    Of each pair both frames show a thing: the one before where it was then.

    Args:
        frames: uint8 (T, H, W, 3), of one clip.
        previous_luma: uint8 (T, H, W); zeros, which stay, for a frame without a pair.
        gaps_s: float32 (T,); 0 without a pair.
        fps: frames per second.
        random: decides.

    Returns:
        The frames and the luma before them, and where something was pasted: bool (T, H, W). One frame or more has
        something.
    """
    things = [draw_thing(frames, fps, random) for _ in range(random.integers(1, _MOST_THINGS + 1))]
    return paste_things(frames, previous_luma, gaps_s, fps, things)


def paste_things(
    frames: npt.NDArray[np.uint8],
    previous_luma: npt.NDArray[np.uint8],
    gaps_s: npt.NDArray[np.float32],
    fps: float,
    things: Sequence[Thing],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Paste given things; the rest as for ``paste``."""
    pasted, luma_before = frames.copy(), previous_luma.copy()
    masks = np.zeros(frames.shape[:3], bool)
    for number in range(len(frames)):
        at_s, gap_s = number / fps, float(gaps_s[number])
        for thing in things:
            masks[number] |= _blend(pasted[number], thing.patch, thing.alpha, thing.corner(at_s))
            if gap_s > 0.0:
                luma = luma_of(thing.patch)[..., np.newaxis]
                _blend(luma_before[number][..., np.newaxis], luma, thing.alpha, thing.corner(at_s - gap_s))
    return pasted, luma_before, masks


def draw_thing(frames: npt.NDArray[np.uint8], fps: float, random: np.random.Generator) -> Thing:
    """Draw a thing that can be told from the ground on which it is seen whole first.

    Args:
        frames: uint8 (T, H, W, 3), where it is cut out, and pasted.
        fps: frames per second.
        random: decides.
    """
    count, height, width, _ = frames.shape
    kind = KINDS[random.integers(len(KINDS))]
    alpha = _outline(height, width, random)
    size = alpha.shape
    begins = int(random.integers(0, max(1, round(_FIRST_FRAMES * count))))
    seen = int(random.integers(count)) if kind == "moves" else begins  # when it is whole in the image
    place = int(random.integers(0, height - size[0] + 1)), int(random.integers(0, width - size[1] + 1))
    ground = frames[seen, place[0] : place[0] + size[0], place[1] : place[1] + size[1]]
    speed = height * np.exp(random.uniform(*np.log(_DASHES_PER_S if kind == "dashes" else _SPEEDS_PER_S)))
    angle = random.uniform(-np.pi / 6, np.pi / 6) + np.pi * random.integers(2)  # mostly sideways, as on a street
    velocity = (0.0, 0.0) if kind == "appears" else (float(speed * np.sin(angle)), float(speed * np.cos(angle)))
    begins_s = -_BEFORE_S if kind == "moves" else (begins - 0.5) / fps  # between two frames
    moved_s = seen / fps - begins_s
    return Thing(
        kind=kind,
        patch=_fitting_piece(frames, ground, alpha, random),
        alpha=alpha,
        begins_s=begins_s,
        turns_s=float(random.uniform(begins, count)) / fps if kind == "dashes" else begins_s,
        start=(place[0] - moved_s * velocity[0], place[1] - moved_s * velocity[1]) if kind == "moves" else place,
        velocity=velocity,
    )


def _outline(height: int, width: int, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """How much is seen of each pixel of a thing: an ellipse with dents, with a soft edge; float32 (h, w)."""
    area = np.exp(random.uniform(*np.log(_AREAS))) * height * height
    aspect = np.exp(random.uniform(*np.log(_ASPECTS)))
    rows = int(np.clip(round(np.sqrt(4.0 / np.pi * area * aspect)), 3, height))
    columns = int(np.clip(round(np.sqrt(4.0 / np.pi * area / aspect)), 3, width))
    down = np.linspace(-1.0, 1.0, rows)[:, np.newaxis]
    right = np.linspace(-1.0, 1.0, columns)[np.newaxis]
    angle = np.arctan2(down, right)
    radius = 0.9 + sum(
        random.uniform(-0.06, 0.06) * np.cos(n * angle + random.uniform(0, 2 * np.pi)) for n in (2, 3, 5)
    )
    inside = (radius - np.hypot(down, right)) * min(rows, columns) / 2.0  # in pixels, from the edge
    return np.clip(0.5 + inside / max(1.0, _EDGE * height), 0.0, 1.0).astype(np.float32)


def _fitting_piece(
    frames: npt.NDArray[np.uint8],
    ground: npt.NDArray[np.uint8],
    alpha: npt.NDArray[np.float32],
    random: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """A piece that can be told from the ground (h, w, 3); or the nearest to that of those that were tried."""
    best, missing = ground, np.inf
    for _ in range(_TRIES):
        piece = _piece(frames, ground.shape[:2], random)
        differences = np.abs(piece.astype(np.float32) - ground).mean(axis=2)
        contrast = float(np.average(differences, weights=alpha))
        short = max(_CONTRASTS[0] - contrast, contrast - _CONTRASTS[1], _LEAST_TEXTURE - float(luma_of(piece).std()))
        if short < missing:
            best, missing = piece, short
        if missing <= 0.0:
            break
    return best


def _piece(frames: npt.NDArray[np.uint8], size: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A piece of any place and time, perhaps mirrored, in somewhat other light; uint8 (h, w, 3)."""
    count, height, width, _ = frames.shape
    number, other = random.integers(count, size=2)
    centre = int(random.integers(height)), int(random.integers(width))
    if random.random() < _MOVING_SHARE:
        changed = np.cumsum((frames[number, ..., 1].astype(np.int64) - frames[other, ..., 1]) ** 2)
        if changed[-1] > 0:
            place = int(np.searchsorted(changed, random.integers(changed[-1]), side="right"))
            centre = divmod(place, width)
    top = int(np.clip(centre[0] - size[0] // 2, 0, height - size[0]))
    left = int(np.clip(centre[1] - size[1] // 2, 0, width - size[1]))
    piece = frames[number, top : top + size[0], left : left + size[1]]
    if random.random() < 0.5:
        piece = piece[:, ::-1]
    gain = np.exp(random.uniform(*np.log(_GAINS)))
    return np.clip(piece * gain, 0.0, 255.0).round().astype(np.uint8)


def _blend(
    image: npt.NDArray[np.uint8],
    patch: npt.NDArray[np.uint8],
    alpha: npt.NDArray[np.float32],
    corner: tuple[float, float] | None,
) -> npt.NDArray[np.bool_]:
    """Lay a patch (h, w, C) over an image (H, W, C), in place; returns where it is seen, bool (H, W)."""
    height, width, _ = image.shape
    mask = np.zeros((height, width), bool)
    if corner is None:
        return mask
    top, left = int(np.floor(corner[0])), int(np.floor(corner[1]))
    covered = np.concatenate([patch * alpha[..., np.newaxis], alpha[..., np.newaxis]], axis=2)
    # One pixel more, for what lies between two: a slow thing moves by parts of a pixel.
    covered = np.pad(covered, ((0, 1), (0, 1), (0, 0)))
    covered = ndimage.shift(covered, (corner[0] - top, corner[1] - left, 0.0), order=1, mode="grid-constant")
    rows = slice(max(0, top), min(height, top + alpha.shape[0] + 1))
    columns = slice(max(0, left), min(width, left + alpha.shape[1] + 1))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return mask
    seen = covered[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    ground = image[rows, columns]
    ground[...] = (seen[..., :-1] + (1.0 - seen[..., -1:]) * ground).round()
    mask[rows, columns] = seen[..., -1] > 0.5
    return mask
