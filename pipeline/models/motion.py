"""Speed of what moves, per cell, from a frame and the luma of the one before it: a structure tensor.

In a small window everything is taken to move with one velocity (u, v), while its brightness may be scaled and shifted
(by a cloud, by the camera's exposure), as in Negahdaripour's generalised dynamic image model (IEEE PAMI 20(9), 1998)::

    L_t + u L_x + v L_y = g L + c

L is the luma at half of the model's size, smoothed; products of its derivatives are averaged over the window; g and c
leave by taking from L_t what luma and a constant explain of it, together with the part of L_x and L_y that goes with
luma; (u, v) is the least-squares solution, drawn towards 0 where there is little structure (Lucas and Kanade, IJCAI
1981). A still camera's pair gives exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline.models.pairs import Pairs, luma_of

CELL_PX = 8
"""Side of a cell, in pixels of the model's input; velocities are measured in windows twice as wide and high."""

# Of luma from 0 to 1, squared: with much less structure, or contrast, a window says nothing of motion, or of gain.
_LEAST_STRUCTURE = 3e-5
_LEAST_CONTRAST = 3e-4


def speed_maps(images: Tensor, pairs: Pairs) -> Tensor:
    """Speed at every cell, in heights of the image per second.

    Args:
        images: uint8, shape (B, H, W, 3), H and W 8 or more.
        pairs: of the same frames, on the same device.

    Returns:
        float32, shape (B, H / 8, W / 8), rounded down; 0 throughout for a frame without a pair.
    """
    now, before = _smoothed(_halved(torch.cat([luma_of(images), pairs.previous_luma]))).chunk(2)
    mean, change = (now + before) * 0.5, now - before
    u, v = _velocities(mean, change)
    heights = torch.sqrt(u * u + v * v) * (2.0 / images.shape[1])
    paired = pairs.gaps_s > 0.0
    per_second = torch.where(paired, pairs.gaps_s, 1.0).reciprocal() * paired
    return heights * per_second.view(-1, 1, 1)


def _halved(lumas: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, 0 to 1; uint8 (B, H, W) becomes float32 (B, H / 2, W / 2), rounded down.

    Here and below sums are sums of slices, first of whole rows: pooling takes several times as long on a CPU, and how
    a convolution or a matrix product adds up may depend on what else is in the batch.
    """
    height, width = (side // 2 * 2 for side in lumas.shape[1:])
    rows = lumas[:, 0:height:2].short() + lumas[:, 1:height:2]
    return (rows[..., 0:width:2] + rows[..., 1:width:2]).float() * (0.25 / 255.0)


def _smoothed(lumas: Tensor) -> Tensor:
    """Binomial smoothing over 3 x 3 pixels; shape (B, h, w) stays."""
    tall = pad(lumas, (0, 0, 1, 1), mode="replicate")
    rows = 0.25 * (tall[:, :-2] + tall[:, 2:]) + 0.5 * tall[:, 1:-1]
    wide = pad(rows, (1, 1, 0, 0), mode="replicate")
    return 0.25 * (wide[..., :-2] + wide[..., 2:]) + 0.5 * wide[..., 1:-1]


def _velocities(luma: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Velocities that explain a change of luma best, window by window; in pixels to the right and down.

    Args:
        luma: mean of both frames' luma, 0 to 1, shape (B, h, w).
        change: from one frame to the other, same shape.

    Returns:
        Two of shape (B, h / 4, w / 4), rounded down.
    """
    around = pad(luma, (1, 1, 1, 1), mode="replicate")
    right = 0.5 * (around[:, 1:-1, 2:] - around[:, 1:-1, :-2])
    down = 0.5 * (around[:, 2:, 1:-1] - around[:, :-2, 1:-1])
    inside = torch.ones_like(luma[:1])
    right, down, luma, change, inside = (_for_windows(values) for values in (right, down, luma, change, inside))
    products = [right * right, right * down, down * down, right * change, down * change]
    products += [right * luma, down * luma, change * luma, luma * luma, right, down, change, luma]
    sums, counts = _window_sums(products), _window_sums([inside])
    xx, xy, yy, xt, yt, xl, yl, tl, ll, x, y, t, mean = (sums / counts).unbind()
    # What luma explains of each derivative, both taken about their means: the change of gain and of offset.
    xl, yl, tl, ll = xl - x * mean, yl - y * mean, tl - t * mean, ll - mean * mean + _LEAST_CONTRAST
    xx, xy, yy = xx - x * x - xl * xl / ll, xy - x * y - xl * yl / ll, yy - y * y - yl * yl / ll
    xt, yt = xt - x * t - xl * tl / ll, yt - y * t - yl * tl / ll
    xx, yy = xx + _LEAST_STRUCTURE, yy + _LEAST_STRUCTURE
    determinant = xx * yy - xy * xy
    return (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant


def _for_windows(values: Tensor) -> Tensor:
    """With zeros around, 2 and what whole windows take: (B, h, w) becomes (B, 4 (h // 4 + 1), 4 (w // 4 + 1))."""
    height, width = values.shape[1:]
    return pad(values, (2, 2 - width % 4, 2, 2 - height % 4))


def _window_sums(planes: Sequence[Tensor]) -> Tensor:
    """Sums over windows of 8 x 8 values every 4; P of shape (B, 4 (m + 1), 4 (n + 1)) become one of (P, B, m, n)."""
    tall = []
    for plane in planes:  # one after the other: each is in the cache still
        of_four = plane[:, 0::4] + plane[:, 1::4] + plane[:, 2::4] + plane[:, 3::4]
        tall.append(of_four[:, :-1] + of_four[:, 1:])
    rows = torch.stack(tall)
    of_four = rows[..., 0::4] + rows[..., 1::4] + rows[..., 2::4] + rows[..., 3::4]
    return of_four[..., :-1] + of_four[..., 1:]
