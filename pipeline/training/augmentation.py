"""Variants of a frame: what the same moment would have looked like in other light, or to another camera.

A variant is drawn, not searched for: exposure, white balance and shadows, a lamp for infrared, a lens out of focus, the
sensor's noise, a tone curve and compression, in the order in which light meets them. Both frames of a pair get the same
change, but for the noise, so that what stood still stands still in every variant.

Values of a picture are taken for a power (1 / 2.2) of the light. More light is then a factor on them, as well.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from pipeline.video.pairs import luma_of

Rgb = npt.NDArray[np.uint8]
Luma = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]

_DISPLAY_GAMMA = 2.2
_STOPS = 1.0  # of exposure, at most, up or down; this and the next four are for a strength of 1
_TONE = (0.6, 1.6)  # range of the tone curve's exponent
_BALANCE = 0.2  # of the light of red and blue relative to green, at most, up or down
_SHADE = 0.5  # part of a picture's values that the deepest shadow takes: .8 of the light
_LARGEST_NOISE = 6.0  # standard deviation in grey levels
_LARGEST_BLUR_PX = 1.2
_QUALITIES = (30, 95)  # of JPEG
_INFRARED_SHARE, _SHADE_SHARE, _BLUR_SHARE, _NOISE_SHARE, _JPEG_SHARE = 0.15, 0.5, 0.3, 0.5, 0.5  # of the variants
_READ_NOISE_LEVEL = 16.0  # grey levels below which a sensor's own noise is more than that of the light
_SHADE_CELL_PX = 4  # shadows are computed for cells of this size: their edges are soft


@dataclass(frozen=True)
class PhotometricChange:
    """One change of light and camera.

    Attributes:
        gain: factor on all values, from the exposure.
        balance: further factor on red, green and blue; a picture without colour stays without.
        infrared: weights of red, green and blue in what is seen, or None by day.
        shade: factor on the values of every pixel, float32 (H, W), or None.
        blur_px: standard deviation of the lens's blur; 0 is sharp.
        noise: standard deviation of the noise in grey levels, of mid brightness; 0 is none.
        tone: exponent of the tone curve; below 1 brightens.
        quality: of JPEG, or None for none.
    """

    gain: float
    balance: tuple[float, float, float]
    infrared: tuple[float, float, float] | None
    shade: _Floats | None
    blur_px: float
    noise: float
    tone: float
    quality: int | None


def draw_change(size_px: tuple[int, int], strength: float, random: np.random.Generator) -> PhotometricChange:
    """Draw a change.

    Args:
        size_px: (height, width) of the frames.
        strength: in (0, 1]; how far it may go.
        random: decides.
    """

    def happens(share: float) -> bool:
        return bool(random.random() < share)

    stops = strength * random.uniform(-_STOPS, _STOPS)
    red, blue = ((1.0 + strength * random.uniform(-_BALANCE, _BALANCE)) ** (1 / _DISPLAY_GAMMA) for _ in range(2))
    infrared = happens(_INFRARED_SHARE * strength)
    weights = random.dirichlet((4.0, 3.0, 2.0))
    shades = [_lamp(size_px, random)] if infrared else []
    if happens(_SHADE_SHARE):
        shades += [_shadow(size_px, strength, random) for _ in range(random.integers(1, 4))]
    return PhotometricChange(
        gain=2.0 ** (stops / _DISPLAY_GAMMA),
        balance=(red, 1.0, blue),
        infrared=(float(weights[0]), float(weights[1]), float(weights[2])) if infrared else None,
        shade=_enlarged(np.prod(shades, axis=0), size_px) if shades else None,
        blur_px=strength * random.uniform(0.0, _LARGEST_BLUR_PX) if happens(_BLUR_SHARE) else 0.0,
        noise=strength * random.uniform(0.0, _LARGEST_NOISE) if happens(_NOISE_SHARE) else 0.0,
        tone=float(np.exp(strength * random.uniform(*np.log(_TONE)))),
        quality=round(_QUALITIES[1] - strength * random.uniform(0.0, _QUALITIES[1] - _QUALITIES[0]))
        if happens(_JPEG_SHARE)
        else None,
    )


def apply_change(change: PhotometricChange, image: Rgb, random: np.random.Generator) -> Rgb:
    """A frame as it would have looked.

    Args:
        change: of its light and camera.
        image: uint8 (H, W, 3).
        random: of the noise.

    Returns:
        uint8 (H, W, 3).
    """
    if np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 0], image[..., 2]):
        values = np.multiply(image[..., :1], change.gain, dtype=np.float32)  # of a camera without colour
    elif change.infrared is not None:
        values = (image @ np.asarray(change.infrared, np.float32))[..., np.newaxis] * np.float32(change.gain)
    else:
        values = np.multiply(image, np.asarray(change.balance, np.float32) * change.gain, dtype=np.float32)
    if change.shade is not None:
        values *= change.shade[..., np.newaxis]
    np.clip(values, 0.0, 255.0, out=values)  # more than white is white, also behind a blur
    if change.blur_px > 0.0:
        values = ndimage.gaussian_filter(values, (change.blur_px, change.blur_px, 0.0), mode="nearest", truncate=3.0)
    if change.noise > 0.0:
        # The light's own noise grows with its square root: of its power it is about the same at all values.
        values += change.noise * _noise(values.shape, random) * (0.7 + _READ_NOISE_LEVEL / (values + _READ_NOISE_LEVEL))
        np.clip(values, 0.0, 255.0, out=values)
    curve = (255.0 * (np.arange(256) / 255.0) ** change.tone).round().astype(np.uint8)
    changed = curve[values.round().astype(np.uint8)]
    if change.quality is not None:
        changed = _compressed(changed, change.quality)
    return np.array(np.broadcast_to(changed, image.shape))


def vary_pair(
    image: Rgb, previous_luma: Luma | None, strength: float, random: np.random.Generator
) -> tuple[Rgb, Luma | None]:
    """A variant of a frame and of the luma before it.

    Of the frame before only the luma is known. It is given the frame's colours: where nothing moved they are its own,
    and elsewhere a luma depends little on them.

    Args:
        image: uint8 (H, W, 3).
        previous_luma: uint8 (H, W), or None without a pair.
        strength: in (0, 1].
        random: decides.
    """
    return change_pair(draw_change((image.shape[0], image.shape[1]), strength, random), image, previous_luma, random)


def change_pair(
    change: PhotometricChange, image: Rgb, previous_luma: Luma | None, random: np.random.Generator
) -> tuple[Rgb, Luma | None]:
    """A frame and the luma before it in another light; see ``vary_pair``.

    Args:
        change: of both.
        image: uint8 (H, W, 3).
        previous_luma: uint8 (H, W), or None without a pair.
        random: of the noise.
    """
    changed = apply_change(change, image, random)
    if previous_luma is None:
        return changed, None
    # The three weights of a luma sum up to 1: what is added to all channels is added to it.
    later = previous_luma.astype(np.int16) - luma_of(image)
    before = np.clip(image + later[..., np.newaxis], 0, 255).astype(np.uint8)
    return changed, luma_of(apply_change(change, before, random))


def vary_batch(
    images: Rgb,
    previous_luma: Luma,
    gaps_s: npt.NDArray[np.float32],
    strength: float,
    seeds: Sequence[tuple[int, ...]],
) -> tuple[Rgb, Luma]:
    """A variant of every frame of a batch.

    Args:
        images: uint8 (B, H, W, 3).
        previous_luma: uint8 (B, H, W); zeros, which stay, for a frame without a pair.
        gaps_s: float32 (B,); 0 without a pair.
        strength: in (0, 1].
        seeds: of each frame's variant.
    """
    varied, varied_luma = np.empty_like(images), np.zeros_like(previous_luma)
    for at, seed in enumerate(seeds):
        before = previous_luma[at] if gaps_s[at] > 0.0 else None
        varied[at], found = vary_pair(images[at], before, strength, np.random.default_rng(seed))
        if found is not None:
            varied_luma[at] = found
    return varied, varied_luma


def _grid(size_px: tuple[int, int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Places of the cells that shadows are computed for, in heights of the image: (rows, 1) and (1, columns)."""
    height, width = size_px
    down = (np.arange(-(-height // _SHADE_CELL_PX)) + 0.5) * _SHADE_CELL_PX / height
    right = (np.arange(-(-width // _SHADE_CELL_PX)) + 0.5) * _SHADE_CELL_PX / height
    return down[:, np.newaxis], right[np.newaxis]


def _shadow(size_px: tuple[int, int], strength: float, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Factors of one shadow: half of the plane, or an ellipse, with an edge as wide as is drawn."""
    down, right = _grid(size_px)
    centre = random.uniform(0.0, 1.0) * down.max(), random.uniform(0.0, 1.0) * right.max()
    angle = random.uniform(0.0, 2.0 * np.pi)
    along = (down - centre[0]) * np.sin(angle) + (right - centre[1]) * np.cos(angle)
    across = (right - centre[1]) * np.sin(angle) - (down - centre[0]) * np.cos(angle)
    if random.random() < 0.5:
        outside = along
    else:
        radii = random.uniform(0.1, 0.6, 2)
        outside = (np.hypot(along / radii[0], across / radii[1]) - 1.0) * radii.min()
    softness = np.exp(random.uniform(np.log(0.01), np.log(0.3)))  # in heights of the image
    depth = strength * random.uniform(0.0, _SHADE)
    return 1.0 - depth / (1.0 + np.exp(np.clip(outside / softness, -30.0, 30.0)))


def _lamp(size_px: tuple[int, int], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Factors of a camera's own lamp: bright in the middle, darker towards the corners."""
    down, right = _grid(size_px)
    far = np.hypot(down - down.mean(), right - right.mean()) / np.hypot(down.mean(), right.mean())
    return 1.0 - random.uniform(0.1, 0.6) * np.square(far)


def _enlarged(factors: npt.NDArray[np.float64], size_px: tuple[int, int]) -> _Floats:
    height, width = size_px
    small = Image.fromarray(factors.astype(np.float32))
    cells = (0, 0, width / _SHADE_CELL_PX, height / _SHADE_CELL_PX)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR, box=cells))


def _noise(shape: tuple[int, ...], random: np.random.Generator) -> _Floats:
    """Noise of mean 0 and variance 1: the sum of three uniform values is near a normal one, and drawn much sooner."""
    count = int(np.prod(shape))
    total = np.frombuffer(random.bytes(3 * count), np.uint8).reshape(3, *shape).sum(axis=0, dtype=np.float32)
    return (total - 3 * 127.5) / np.float32(np.sqrt(3 * (256**2 - 1) / 12))


def _compressed(image: Rgb, quality: int) -> Rgb:
    """A picture, (H, W, 3) or (H, W, 1), after JPEG and back."""
    stored = io.BytesIO()
    Image.fromarray(image if image.shape[-1] == 3 else image[..., 0]).save(stored, "JPEG", quality=quality)
    with Image.open(stored) as decoded:
        return np.asarray(decoded).reshape(image.shape)
