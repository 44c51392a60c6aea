"""Whether a live camera still shows what it should: not frozen, not dark, not turned away, covered or out of focus.

Computed beside decoding, on every frame that is sampled, from a small gray picture of it. What the scene should look
like (a ``SceneReference``) is measured by ``pipeline.training.scene_references`` with the functions of this module, so
that training and live footage are judged alike.

Two measures tell a moved camera, both of a running mean of the picture over several seconds, in which people and
vehicles fade:

- Agreement: normalised cross-correlation of edge strength with the training scene's. Edges stay where they are when
  the light changes; weighting every cell by how much it stands out in the training scene leaves little say to a car
  that adds edges where there were none.
- Sharpness: fine detail relative to coarse, in which contrast and brightness cancel. A lens out of focus keeps its
  edges where they were, so agreement alone would not notice.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.camera_settings import HealthSettings
from pipeline.types import SceneReference

Condition = Literal["frozen", "dark", "moved"]
GrayImage = npt.NDArray[np.float32]

MEMORY_S = 5.0
"""Time constant of the running mean, and how much of a session it needs before it is judged."""

LIT_SHARE = 0.05
"""Part of a picture that must be bright for it not to be dark: a clock that the camera writes into it is less."""

FOREIGN_AGREEMENT = 0.35
"""Agreement that another scene can have by chance: another street, or this one upside down (0.37 was measured)."""

_GRAY_ROWS = 64  # at least about that many: fine enough for a lane marking, coarse enough to average out noise
_CELL = 2  # pixels of the small image along a cell's side: 1 % of a width, so that a shake does not matter
_NEIGHBOURS = 7  # cells around one that its edges are compared with
_FINE, _COARSE = 1, 5  # radii of the means between which detail is fine or coarse, in pixels of the small image
_MAX_GAIN = 0.5  # of the running mean, so that a camera of few frames per minute is not judged by a single one

_COMPARE_EVERY_S = 1.0
_DARK = 24.0  # of 255: above what a covered sensor's noise leaves once it is averaged, below any scene that shows much
_DARK_OF_REFERENCE = 0.5  # of the light it was trained in, where that is dark already
_LIT_AGAIN = 1.5  # times as bright as dark
# On the way from the agreement of a turned camera (0) to that of the scene's own footage (1). Nearer to the turned one,
# since footage of an hour does not show what a year of light and weather does to the own scene.
_MOVED_BELOW = 0.4
_BACK_ABOVE = 0.55
_UNCHANGED = 0.9  # agreement that can be expected under a light that training did not show is no higher
_BLURRED_BELOW = 0.5  # of the sharpness of its own footage
_FOCUSED_ABOVE = 0.6


@dataclass(frozen=True, slots=True)
class SceneDescriptor:
    """What can be compared of two pictures.

    Attributes:
        edges: strength of edges relative to the surroundings, float32, shape (rows, columns).
        sharpness: fine detail relative to coarse; 0 for a picture without any.
    """

    edges: GrayImage
    sharpness: float


class TamperMonitor:
    """Watches one camera; not thread-safe.

    Conditions: ``frozen``, the picture has not changed in a single value; ``dark``, next to no light; ``moved``, the
    camera was turned, its view is covered or out of focus.

    Frozen means identical to the last bit, since a sensor's noise changes some value of every frame, be the scene ever
    so still, while a decoder or recorder that has nothing new repeats exactly. In the dark even noise can be lost to
    compression, so a picture that repeats there is only called dark.

    Args:
        settings: how long each must last; None turns that check off.
        reference: what the scene looked like in training; None, or one that is not telling, turns ``moved`` off.
    """

    def __init__(self, settings: HealthSettings, reference: SceneReference | None) -> None:
        self._frozen = _Debounced(settings.frozen_s)
        self._dark = _Debounced(settings.dark_s)
        self._moved = _Debounced(settings.moved_s)
        self._dark_below = _DARK if reference is None else min(_DARK, _DARK_OF_REFERENCE * reference.light)
        self._scene = SceneMatcher(reference) if reference is not None and reference.telling else None
        self._background = Background()
        self._last_image: npt.NDArray[np.uint8] | None = None
        self._compared_at = -math.inf

    @property
    def watches_moved(self) -> bool:
        """Whether ``moved`` can be noticed: it is wanted, and the reference is telling."""
        return self._scene is not None and self._moved.is_wanted

    def update(self, image: npt.NDArray[np.uint8], now: float) -> frozenset[Condition]:
        """Look at the next frame.

        Args:
            image: uint8, shape (H, W, 3), RGB at model input size; kept until the next one, and never written to.
            now: monotonic time of the frame in seconds.

        Returns:
            The conditions that hold now.

        Raises:
            ValueError: the image has another size than the reference was measured at.
        """
        gray = gray_image(image)
        dark = self._look_for_light(gray, now)
        self._compare_with_last(image, dark, now)
        if dark:
            # Nothing can be seen, which neither proves nor disproves a move; what was seen before is out of date.
            self._forget_background()
        elif self.watches_moved:
            self._background.add(gray, now)
            self._compare_with_reference(now)
        checks: tuple[tuple[Condition, _Debounced], ...] = (
            ("frozen", self._frozen),
            ("dark", self._dark),
            ("moved", self._moved),
        )
        return frozenset(name for name, check in checks if check.holds)

    def reset(self) -> None:
        """Start a new session: what was seen is forgotten, conditions that hold stay until they are disproved."""
        self._last_image = None
        self._frozen.interrupt()
        self._dark.interrupt()
        self._forget_background()

    def _look_for_light(self, gray: GrayImage, now: float) -> bool:
        """Whether the picture is dark; a little more light is needed to end darkness than to prevent it."""
        below = self._dark_below * (_LIT_AGAIN if self._dark.holds else 1.0)
        dark = float(np.count_nonzero(gray >= below)) < LIT_SHARE * gray.size
        self._dark.observe(dark, now)
        return dark

    def _compare_with_last(self, image: npt.NDArray[np.uint8], dark: bool, now: float) -> None:
        last, self._last_image = self._last_image, image
        if last is None or not self._frozen.is_wanted:
            return
        same = np.array_equal(last, image)
        if not (same and dark):
            self._frozen.observe(same, now)

    def _compare_with_reference(self, now: float) -> None:
        """Compare the background with the scene, once a second."""
        gray = self._background.gray
        if self._scene is None or gray is None or self._background.age_s < MEMORY_S:
            return
        if now - self._compared_at < _COMPARE_EVERY_S:
            return
        self._compared_at = now
        self._moved.observe(self._scene.differs(describe_scene(gray), differed=self._moved.holds), now)

    def _forget_background(self) -> None:
        self._background = Background()
        self._compared_at = -math.inf
        self._moved.interrupt()


class _Debounced:
    """A condition that holds once its sign was there without a break for long enough, and ends with the sign."""

    def __init__(self, after_s: float | None) -> None:
        self.holds = False
        self._after_s = after_s
        self._since: float | None = None

    @property
    def is_wanted(self) -> bool:
        return self._after_s is not None

    def observe(self, sign: bool, now: float) -> None:
        """Note whether the sign is there at monotonic time ``now``."""
        if self._after_s is None:
            return
        if not sign:
            self.holds, self._since = False, None
            return
        if self._since is None:
            self._since = now
        self.holds = self.holds or now - self._since >= self._after_s

    def interrupt(self) -> None:
        """Nothing is known of the time until the next note."""
        self._since = None


class SceneMatcher:
    """A scene's reference, ready to be compared with.

    Args:
        reference: as measured in training.

    Raises:
        ValueError: its pictures are not of its grid.
    """

    def __init__(self, reference: SceneReference) -> None:
        self._reference = reference
        self._lights = tuple(decode_edges(text, reference.grid) for text in reference.edges)

    def agreement(self, edges: GrayImage) -> float:
        """Agreement with the light that fits best, in [-1, 1].

        Raises:
            ValueError: the edges are of another grid.
        """
        if edges.shape != self._reference.grid:
            raise ValueError(
                f"expected an image of the reference's {self._reference.grid} cells, got one of {edges.shape}"
            )
        return max((agreement(light, edges) for light in self._lights), default=0.0)

    def differs(self, seen: SceneDescriptor, *, differed: bool) -> bool:
        """Whether this is another scene, or the same one blurred; what differed must come closer to match again."""
        least, sharp = difference_limits(self._reference, differed=differed)
        return self.agreement(seen.edges) < least or seen.sharpness < sharp


def difference_limits(reference: SceneReference, *, differed: bool = False) -> tuple[float, float]:
    """Agreement and sharpness below which a picture is not of this scene, or, once unlike, still is not."""
    own, turned = min(reference.own_agreement, _UNCHANGED), max(reference.turned_agreement, FOREIGN_AGREEMENT)
    share = _BACK_ABOVE if differed else _MOVED_BELOW
    focused = _FOCUSED_ABOVE if differed else _BLURRED_BELOW
    return turned + share * (own - turned), focused * reference.sharpness


class Background:
    """Running mean of small pictures; exponential with ``MEMORY_S``, plain until there are enough of them.

    Attributes:
        gray: float32, shape (h, w); None before the first.
        age_s: time between the first picture and the last.
    """

    def __init__(self) -> None:
        self.gray: GrayImage | None = None
        self.age_s = 0.0
        self._count = 0
        self._at = 0.0

    def add(self, gray: GrayImage, now: float) -> None:
        """Take in the picture of time ``now`` in seconds."""
        if self.gray is None or self.gray.shape != gray.shape:
            self.gray, self.age_s, self._count, self._at = gray.copy(), 0.0, 1, now
            return
        passed_s = max(now - self._at, 0.0)
        self._at = now
        self._count += 1
        self.age_s += passed_s
        gain = min(_MAX_GAIN, max(1.0 - math.exp(-passed_s / MEMORY_S), 1.0 / self._count))
        self.gray += np.float32(gain) * (gray - self.gray)


def gray_image(image: npt.NDArray[np.uint8]) -> GrayImage:
    """Mean over colours and square blocks of pixels.

    Args:
        image: uint8, shape (H, W, 3), any size.

    Returns:
        float32, shape (h, w), 0 to 255; h is about 64, and H where that is less. What does not fill a block is cut off.
    """
    height, width = image.shape[:2]
    side = max(1, height // _GRAY_ROWS)
    rows, columns = height // side, width // side
    blocks = image[: rows * side, : columns * side].reshape(rows, side, -1)
    # First over rows in 16 bits (255 x 257 rows fit), then over the rest: twice as fast as a mean over both.
    lines = blocks.sum(axis=1, dtype=np.uint16).reshape(rows, columns, -1)
    return np.einsum("ijk->ij", lines, dtype=np.uint32, casting="safe").astype(np.float32) / np.float32(3 * side * side)


def describe_scene(gray: GrayImage) -> SceneDescriptor:
    """Measure a small image, better a mean of many.

    Args:
        gray: float32, shape (h, w), as ``gray_image`` gives it; at least 4 x 4.
    """
    across = gray[1:-1, 2:] - gray[1:-1, :-2]
    down = gray[2:, 1:-1] - gray[:-2, 1:-1]
    steep = np.sqrt(across * across + down * down)
    rows, columns = steep.shape[0] // _CELL, steep.shape[1] // _CELL
    cells = steep[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL).mean(axis=(1, 3))
    strength = np.sqrt(cells)  # or one lamp post would outweigh a lawn
    fine = _local_mean(gray, _FINE)
    coarse_detail = _energy(fine - _local_mean(gray, _COARSE))
    sharpness = math.sqrt(_energy(gray - fine) / coarse_detail) if coarse_detail > 0.0 else 0.0
    return SceneDescriptor(strength - _local_mean(strength, _NEIGHBOURS), sharpness)


def agreement(known: GrayImage, seen: GrayImage) -> float:
    """Normalised cross-correlation, every cell weighted by how much it stands out in the known edges.

    Args:
        known: edges of the training scene, float32.
        seen: edges of the same shape.

    Returns:
        In [-1, 1]; 0 where either shows nothing.
    """
    weight = np.abs(known)
    total = float(weight.sum())
    if total <= 0.0:
        return 0.0
    weight = weight / total
    first = known - float((weight * known).sum())
    second = seen - float((weight * seen).sum())
    spread = float((weight * first * first).sum()) * float((weight * second * second).sum())
    return float((weight * first * second).sum()) / math.sqrt(spread) if spread > 0.0 else 0.0


def encode_edges(edges: GrayImage) -> str:
    """Edges as text: int8 in units of their largest value, base64. Agreement does not depend on the unit."""
    largest = float(np.abs(edges).max(initial=0.0))
    scaled = edges * (127.0 / largest) if largest > 0.0 else edges
    return base64.b64encode(np.rint(scaled).astype(np.int8).tobytes()).decode("ascii")


def decode_edges(text: str, grid: tuple[int, int]) -> GrayImage:
    """Edges from text.

    Raises:
        ValueError: the text is not of that grid.
    """
    values = np.frombuffer(base64.b64decode(text, validate=True), np.int8)
    if values.size != grid[0] * grid[1]:
        raise ValueError(f"expected the edges of {grid} cells, got {values.size} values")
    return values.reshape(grid).astype(np.float32)


def _energy(values: GrayImage) -> float:
    return float((values * values).mean())


def _local_mean(values: GrayImage, radius: int) -> GrayImage:
    """Mean over the square around every value; the border repeats outwards."""
    means = np.pad(values, radius, mode="edge")
    for axis in (0, 1):
        means = sliding_window_view(means, 2 * radius + 1, axis=axis).mean(axis=-1)
    return means
