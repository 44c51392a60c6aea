"""What the training scenes look like, measured for ``pipeline.video.scene`` to notice that a camera was moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from pipeline.types import SceneView
from pipeline.video.scene import (
    FOREIGN_AGREEMENT,
    LIT_SHARE,
    MEMORY_S,
    Background,
    Picture,
    agreement,
    decode_edges,
    encode_edges,
    outline,
    shrink,
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


class SceneRecorder:
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
        self._pictures: list[Picture] = []

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        """Take in the next frame, uint8 (H, W, 3)."""
        now = self._count / self._fps
        self._count += 1
        self._background.add(shrink(image), now)
        if now - self._kept_at_s >= self._keep_every_s:
            self._keep(now)
        if len(self._pictures) > _MOST_PICTURES:
            self._pictures = self._pictures[::2]
            self._keep_every_s *= 2

    def pictures(self) -> npt.NDArray[np.float32]:
        """Everything kept so far, with what came last: float32, shape (n, h, w), n at least 1 after the first frame."""
        left_s = (self._count - 1) / self._fps - self._kept_at_s
        if self._background.picture is not None and (not self._pictures or left_s >= MEMORY_S / 2):
            self._keep((self._count - 1) / self._fps)
        return np.stack(self._pictures) if self._pictures else np.empty((0, 0, 0), np.float32)

    def _keep(self, now: float) -> None:
        if self._background.picture is not None:
            self._pictures.append(self._background.picture.copy())
            self._kept_at_s = now


def measure_views(scenes: Sequence[str], clips: Sequence[npt.NDArray[np.float32]]) -> dict[str, SceneView]:
    """Measure every scene.

    Args:
        scenes: scene of each clip.
        clips: its pictures as a ``SceneRecorder`` kept them: float32, shape (n, h, w).

    Returns:
        Views by scene.
    """
    return {
        scene: measure_view([clip for name, clip in zip(scenes, clips, strict=True) if name == scene])
        for scene in sorted(set(scenes))
    }


def measure_view(clips: Sequence[npt.NDArray[np.float32]]) -> SceneView:
    """Measure one scene from its clips' pictures, float32 (n, h, w) each; at least one picture in all.

    The view's own agreement is measured on pictures that its edges were not taken from, as a camera's are.
    """
    pieces = thinned_pieces(clips)
    outlines = [[outline(picture) for picture in piece] for piece in pieces]
    edges = [[seen.edges for seen in piece] for piece in outlines]
    lights = [_rounded(light) for light in _lights(edges)]
    own = _own_agreement(edges)
    turned = max(agreement(light, other) for light in lights for each in lights for other in _turned(each))
    strength = float(np.sqrt(np.mean([np.mean(np.square(one)) for piece in edges for one in piece])))
    enough = sum(map(len, edges)) >= _LEAST_PICTURES
    brightness = [np.quantile(picture, 1.0 - LIT_SHARE) for piece in pieces for picture in piece]
    return SceneView(
        grid=cast(tuple[int, int], lights[0].shape),
        edges=tuple(map(encode_edges, lights)),
        own_agreement=round(own, 4),
        turned_agreement=round(turned, 4),
        sharpness=round(_low([seen.sharpness for piece in outlines for seen in piece]), 4),
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


def _lights(pieces: Sequence[Sequence[Picture]]) -> list[Picture]:
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


def _own_agreement(pieces: Sequence[Sequence[Picture]]) -> float:
    """Low agreement of one half of the footage with the other; each half has a part of every piece."""
    halves: tuple[list[Sequence[Picture]], list[Sequence[Picture]]] = ([], [])
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


def _turned(edges: Picture) -> list[Picture]:
    """The scene as a camera would see it that was turned a little.

    Not mirrored: a corridor that looks alike in a mirror can still be told from one that was turned.
    """
    down, right = (max(1, round(_TURN * side)) for side in edges.shape)
    shifts = [(0, right), (0, -right), (down, 0), (-down, 0)]
    return [np.roll(edges, shift, axis=(0, 1)) for shift in shifts]


def _mean(many: Sequence[Picture]) -> Picture:
    """Mean of edges, each with the same weight whatever its contrast."""
    scales = [float(np.sqrt(np.mean(one * one))) for one in many]
    return np.mean([one / scale if scale > 0.0 else one for one, scale in zip(many, scales, strict=True)], axis=0)


def _rounded(edges: Picture) -> Picture:
    """Edges as they come back from the checkpoint."""
    return decode_edges(encode_edges(edges), cast(tuple[int, int], edges.shape))


def _low(values: Sequence[float]) -> float:
    return float(np.quantile(values, _LOW, method="lower"))
