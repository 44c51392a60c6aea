"""Ways to tell how fast things move in a pair of frames: those that ``benchmarks.motion`` compares.

All give one speed per cell of 8 x 8 pixels, in heights of the image per gap between the frames.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline.models.motion import _LEAST_CONTRAST, _LEAST_STRUCTURE, _smoothed, speed_maps
from pipeline.models.pairs import Pairs

CELL_PX = 8

Estimator = Callable[[Tensor, Tensor], Tensor]
"""From luma of B frames and of the ones before, uint8 (B, H, W), sides multiples of 8, to float32 (B, H / 8, W / 8)."""


def estimators() -> dict[str, Estimator]:
    """All that can run here, by name; the first is what detectors use. OpenCV's are there where it is installed."""
    found: dict[str, Estimator] = {"structure tensor": built_in}
    found["without the gain term"] = tensor_estimator(gain=False)
    found["windows of 32 px"] = tensor_estimator(window_px=32)
    found["full resolution"] = tensor_estimator(halved=False)
    if find_spec("cv2"):
        found["OpenCV DIS"] = _of_flow(_dis())
        found["OpenCV Farneback"] = _of_flow(_farneback())
    return found


def built_in(now: Tensor, before: Tensor) -> Tensor:
    """What detectors use, of grey pictures."""
    return speed_maps(now.unsqueeze(-1).expand(*now.shape, 3), Pairs(before, torch.ones(len(now))))


def tensor_estimator(*, halved: bool = True, window_px: int = 16, gain: bool = True) -> Estimator:
    """The structure tensor with another resolution, other windows, or brightness taken for constant.

    As it is built, of sums of slices, so that times compare; with no argument the speeds are ``built_in``'s.
    """
    scale = 2 if halved else 1
    stride, size = CELL_PX // scale, window_px // scale
    # Where a picture has twice the pixels, its derivatives are half.
    structure = _LEAST_STRUCTURE * (scale / 2) ** 2

    def estimate(now: Tensor, before: Tensor) -> Tensor:
        lumas = torch.cat([now, before])
        if halved:
            rows = lumas[:, 0::2].short() + lumas[:, 1::2]
            lumas = (rows[..., 0::2] + rows[..., 1::2]) * 0.25
        first, second = _smoothed(lumas.float() * (1.0 / 255.0)).chunk(2)
        xx, xy, yy, xt, yt = _moments((first + second) * 0.5, first - second, stride, size, gain)
        xx, yy = xx + structure, yy + structure
        determinant = xx * yy - xy * xy
        u, v = (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant
        return torch.sqrt(u * u + v * v) * (scale / now.shape[1])

    return estimate


def _moments(luma: Tensor, change: Tensor, stride: int, size: int, gain: bool) -> tuple[Tensor, ...]:
    """Means of the products of derivatives over windows; with ``gain``, of what luma does not explain of them."""
    around = pad(luma, (1, 1, 1, 1), mode="replicate")
    right = 0.5 * (around[:, 1:-1, 2:] - around[:, 1:-1, :-2])
    down = 0.5 * (around[:, 2:, 1:-1] - around[:, :-2, 1:-1])
    margin = ((size - stride) // 2,) * 4
    inside = pad(torch.ones_like(luma[:1]), margin)
    right, down, luma, change = (pad(values, margin) for values in (right, down, luma, change))
    products = [right * right, right * down, down * down, right * change, down * change]
    if gain:
        products += [right * luma, down * luma, change * luma, luma * luma, right, down, change, luma]
    means = _window_sums(products, stride, size) / _window_sums([inside], stride, size)
    if not gain:
        return means.unbind()
    xx, xy, yy, xt, yt, xl, yl, tl, ll, x, y, t, mean = means.unbind()
    xl, yl, tl, ll = xl - x * mean, yl - y * mean, tl - t * mean, ll - mean * mean + _LEAST_CONTRAST
    xx, xy, yy = xx - x * x - xl * xl / ll, xy - x * y - xl * yl / ll, yy - y * y - yl * yl / ll
    return xx, xy, yy, xt - x * t - xl * tl / ll, yt - y * t - yl * tl / ll


def _window_sums(planes: Sequence[Tensor], stride: int, size: int) -> Tensor:
    """Sums over windows of size x size values every ``stride``."""
    count = size // stride
    tall = [_joined(sum(plane[:, k::stride] for k in range(stride)), count, 1) for plane in planes]  # type: ignore[arg-type]
    rows = torch.stack(tall)
    return _joined(sum(rows[..., k::stride] for k in range(stride)), count, 3)  # type: ignore[arg-type]


def _joined(blocks: Tensor, count: int, dim: int) -> Tensor:
    """Sums of as many blocks that follow each other."""
    length = blocks.shape[dim] - count + 1
    return sum(blocks.narrow(dim, k, length) for k in range(count))  # type: ignore[return-value]


Flow = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""From luma of a frame and of the one before it, (H, W), to displacements in pixels, (H, W, 2)."""


def _dis() -> Flow:
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return lambda now, before: flow.calc(before, now, None)


def _farneback() -> Flow:
    cv2: Any = import_module("cv2")
    cv2.setNumThreads(1)
    return lambda now, before: cv2.calcOpticalFlowFarneback(before, now, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def _of_flow(flow: Flow) -> Estimator:
    """Length of a dense flow's mean over each cell."""

    def estimate(now: Tensor, before: Tensor) -> Tensor:
        pairs = zip(now.numpy(), before.numpy(), strict=True)
        return torch.from_numpy(np.stack([cell_speeds(flow(*pair)) for pair in pairs]))

    return estimate


def cell_speeds(flow: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """From displacements in pixels, (H, W, 2), to speeds (H / 8, W / 8)."""
    height, width = flow.shape[:2]
    means = flow.reshape(height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX, 2).mean(axis=(1, 3))
    return np.hypot(means[..., 0], means[..., 1]) / height


def codec_speeds(frame: av.VideoFrame, size_px: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """Speeds by the vectors that a video's encoder chose, in heights per frame; None for a frame without any.

    Args:
        frame: of a stream decoded with ``export_vectors``; where a block was coded anew it has no vector, which is 0.
        size_px: of the grid's picture.
    """
    vectors: Any = frame.side_data.get("MOTION_VECTORS")
    if vectors is None:
        return None
    painted = np.zeros((frame.height, frame.width), np.float32)
    of_past = vectors.to_ndarray()
    of_past = of_past[of_past["source"] < 0]
    lengths = np.hypot(of_past["motion_x"], of_past["motion_y"]) / of_past["motion_scale"] / frame.height
    for height, width in {(int(one["h"]), int(one["w"])) for one in of_past[["h", "w"]]}:
        which = (of_past["h"] == height) & (of_past["w"] == width)
        blocks = of_past[which]
        y = blocks["dst_y"][:, None, None] - height // 2 + np.arange(height)[:, None]
        x = blocks["dst_x"][:, None, None] - width // 2 + np.arange(width)
        at = np.clip(y, 0, frame.height - 1), np.clip(x, 0, frame.width - 1)
        painted[at] = np.broadcast_to(lengths[which][:, None, None], np.broadcast_shapes(y.shape, x.shape))
    rows, columns = size_px[0] // CELL_PX, size_px[1] // CELL_PX
    at_y = (np.arange(rows) * 2 + 1) * frame.height // (2 * rows)
    at_x = (np.arange(columns) * 2 + 1) * frame.width // (2 * columns)
    return painted[np.ix_(at_y, at_x)]


def export_vectors(stream: av.VideoStream) -> None:
    """Have a stream's decoder hand out motion vectors with every frame; before it decodes the first."""
    stream.codec_context.options = {"flags2": "+export_mvs"}


def codec_estimator(now: Tensor, before: Tensor) -> Tensor:
    """Vectors that x264 chooses for pairs, each encoded as a video of two frames."""
    pairs = zip(now.numpy(), before.numpy(), strict=True)
    return torch.from_numpy(np.stack([_encoded_speeds(*pair) for pair in pairs]))


def _encoded_speeds(now: npt.NDArray[np.uint8], before: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    *_, last = _through_x264([before, now])
    speeds = codec_speeds(last, now.shape)  # type: ignore[arg-type]
    return np.zeros((now.shape[0] // CELL_PX, now.shape[1] // CELL_PX), np.float32) if speeds is None else speeds


def _through_x264(lumas: Sequence[npt.NDArray[np.uint8]]) -> Iterator[av.VideoFrame]:
    height, width = lumas[0].shape
    file = io.BytesIO()
    options = {"preset": "veryfast", "crf": "23", "bf": "0", "threads": "1"}
    with av.open(file, "w", format="matroska") as made:
        stream = made.add_stream("libx264", rate=Fraction(10), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for luma in lumas:
            made.mux(stream.encode(av.VideoFrame.from_ndarray(luma, format="gray").reformat(format="yuv420p")))
        made.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as given:
        export_vectors(given.streams.video[0])
        yield from given.decode(video=0)
