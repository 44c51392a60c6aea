"""What the training scenes look like, measured for ``pipeline.video.tamper`` to notice that a camera was moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from pipeline.types import SceneReference
from pipeline.video.tamper import (
    FOREIGN_AGREEMENT,
    LIT_SHARE,
    MEMORY_S,
    Background,
    GrayImage,
    agreement,
    decode_edges,
    describe_scene,
    encode_edges,
    gray_image,
)

_PIECE_PICTURES = 60  # five minutes: light changes within hours
_MOST_PICTURES = 512  # of a clip, and of a scene; 24 kB each for an image of 256 x 384
_MOST_LIGHTS = 4
_SAME_LIGHT = 0.8  # agreement of a piece with a light from which on it needs none of its own
_LOW = 0.05  # quantile: a lorry may stand before the lens for a while, also in normal footage
_TURN = 0.15  # of the width or height: the smallest turn that shall be told from none
_LEAST_GAP = 0.25  # between agreement of the own scene and of the turned one
_LEAST_STRENGTH = 0.3  # root mean square of edges; compression alone leaves less than half of that
_LEAST_PICTURES = 2


class SceneSampler:
    """Keeps what one clip's scene looked like: its running mean every few seconds, just as a live camera is judged.

    Args:
        fps: frames per second of what is added.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._count = 0
        self._keep_every_s = MEMORY_S
        self._kept_at_s = 0.0
        self._background = Background()
        self._gray_images: list[GrayImage] = []

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """Take in the next frame, uint8 (H, W, 3)."""
        now = self._count / self._fps
        self._count += 1
        self._background.add(gray_image(image), now)
        if now - self._kept_at_s >= self._keep_every_s:
            self._keep(now)
        if len(self._gray_images) > _MOST_PICTURES:
            self._gray_images = self._gray_images[::2]
            self._keep_every_s *= 2

    def gray_images(self) -> npt.NDArray[np.float32]:
        """Everything kept so far, with what came last: float32, shape (n, h, w), n at least 1 after the first frame."""
        left_s = (self._count - 1) / self._fps - self._kept_at_s
        if self._background.gray is not None and (not self._gray_images or left_s >= MEMORY_S / 2):
            self._keep((self._count - 1) / self._fps)
        return np.stack(self._gray_images) if self._gray_images else np.empty((0, 0, 0), np.float32)

    def _keep(self, now: float) -> None:
        if self._background.gray is not None:
            self._gray_images.append(self._background.gray.copy())
            self._kept_at_s = now


def measure_references(scenes: Sequence[str], clips: Sequence[npt.NDArray[np.float32]]) -> dict[str, SceneReference]:
    """Measure every scene.

    Args:
        scenes: scene of each clip.
        clips: its pictures as a ``SceneSampler`` kept them: float32, shape (n, h, w).

    Returns:
        References by scene.
    """
    return {
        scene: measure_reference([clip for name, clip in zip(scenes, clips, strict=True) if name == scene])
        for scene in sorted(set(scenes))
    }


def measure_reference(clips: Sequence[npt.NDArray[np.float32]]) -> SceneReference:
    """Measure one scene from its clips' pictures, float32 (n, h, w) each; at least one picture in all.

    The reference's own agreement is measured on pictures that its edges were not taken from, as a camera's are.
    """
    pieces = thinned_pieces(clips)
    descriptors = [[describe_scene(gray) for gray in piece] for piece in pieces]
    edges = [[seen.edges for seen in piece] for piece in descriptors]
    lights = [_rounded(light) for light in _lights(edges)]
    own = _own_agreement(edges)
    turned = max(agreement(light, other) for light in lights for each in lights for other in _turned(each))
    strength = float(np.sqrt(np.mean([np.mean(np.square(one)) for piece in edges for one in piece])))
    enough = sum(map(len, edges)) >= _LEAST_PICTURES
    brightness = [np.quantile(gray, 1.0 - LIT_SHARE) for piece in pieces for gray in piece]
    return SceneReference(
        grid=cast(tuple[int, int], lights[0].shape),
        edges=tuple(map(encode_edges, lights)),
        own_agreement=round(own, 4),
        turned_agreement=round(turned, 4),
        sharpness=round(_low([seen.sharpness for piece in descriptors for seen in piece]), 4),
        light=round(_low(brightness), 2),
        telling=bool(enough and own - max(turned, FOREIGN_AGREEMENT) >= _LEAST_GAP and strength >= _LEAST_STRENGTH),
    )


def thinned_pieces(clips: Sequence[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
    """Stretches of footage under one light, evenly thinned to a bounded number of pictures in all.

    Args:
        clips: pictures of each, shape (T, h, w).
    """
    step = -(-sum(map(len, clips)) // _MOST_PICTURES)
    thinned = [clip[:: max(step, 1)] for clip in clips if len(clip)]
    if len(thinned) > _MOST_PICTURES:  # thousands of clips of one picture each
        thinned = thinned[:: -(-len(thinned) // _MOST_PICTURES)]
    return [clip[at : at + _PIECE_PICTURES] for clip in thinned for at in range(0, len(clip), _PIECE_PICTURES)]


def _lights(pieces: Sequence[Sequence[GrayImage]]) -> list[GrayImage]:
    """Mean edges of all pieces, or of groups of them where light makes them differ."""
    means = [_mean(piece) for piece in pieces]
    lights = [_mean(means)]
    while len(lights) < min(_MOST_LIGHTS, len(means)):
        best = [max(agreement(light, mean) for light in lights) for mean in means]
        worst = int(np.argmin(best))
        if best[worst] >= _SAME_LIGHT:
            break
        seeds = [*lights, means[worst]]
        nearest = [int(np.argmax([agreement(light, mean) for light in seeds])) for mean in means]
        groups = [[mean for mean, at in zip(means, nearest, strict=True) if at == k] for k in range(len(seeds))]
        lights = [_mean(group) for group in groups if group]
        if len(lights) < len(seeds):
            break
    return lights


def _own_agreement(pieces: Sequence[Sequence[GrayImage]]) -> float:
    """Low agreement of one half of the footage with the other; each half has a part of every piece."""
    halves: tuple[list[Sequence[GrayImage]], list[Sequence[GrayImage]]] = ([], [])
    for number, piece in enumerate(pieces):
        # A piece of one picture goes to the halves in turn.
        cut = (len(piece) + number % 2) // 2
        halves[0].append(piece[:cut])
        halves[1].append(piece[cut:])
    found: list[float] = []
    for seen, others in (halves, halves[::-1]):
        known = [piece for piece in others if piece]
        lights = _lights(known) if known else []
        found += [max(agreement(light, one) for light in lights) for piece in seen for one in piece if lights]
    return _low(found) if found else 0.0


def _turned(edges: GrayImage) -> list[GrayImage]:
    """The scene as a camera would see it that was turned a little.

    Not mirrored: a corridor that looks alike in a mirror can still be told from one that was turned.
    """
    down, right = (max(1, round(_TURN * side)) for side in edges.shape)
    shifts = [(0, right), (0, -right), (down, 0), (-down, 0)]
    return [np.roll(edges, shift, axis=(0, 1)) for shift in shifts]


def _mean(many: Sequence[GrayImage]) -> GrayImage:
    """Mean of edges, each with the same weight whatever its contrast."""
    scales = [float(np.sqrt(np.mean(one * one))) for one in many]
    return np.mean([one / scale if scale > 0.0 else one for one, scale in zip(many, scales, strict=True)], axis=0)


def _rounded(edges: GrayImage) -> GrayImage:
    """Edges as they come back from the checkpoint."""
    return decode_edges(encode_edges(edges), cast(tuple[int, int], edges.shape))


def _low(values: Sequence[float]) -> float:
    return float(np.quantile(values, _LOW, method="lower"))
