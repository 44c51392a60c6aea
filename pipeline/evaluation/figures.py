"""Pictures of a report: score timelines as inline SVG, frames with their anomaly map as JPEG data addresses.

Timelines take their colours from the page's CSS variables, so they follow its light and dark themes. The same input
gives the same bytes.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory
from PIL import Image
from scipy import ndimage

from pipeline.evaluation.metrics import upsample

COLOUR_MAP = "inferno"
"""matplotlib's name of the colours of anomaly maps."""

CONTOUR = (0, 229, 255)
"""Ground truth's outline: a cyan that the colour map does not hold."""

_STRONGEST = 0.8
"""Opacity of the anomaly map where it is highest; where it is lowest the frame shows through."""

_COLOUR_STOPS = 9  # of the gradient that shows the colour map

_INKS = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--score)",
    "#040404": "var(--truth)",
    "#050505": "var(--threshold)",
    "#060606": "var(--event)",
}
"""Stand-ins that matplotlib draws with, and what the page turns them into."""
_INK, _MUTED, _SCORE, _TRUTH, _THRESHOLD, _EVENT = _INKS

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cflow-stream",
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "font.size": 9.0,
    "path.simplify_threshold": 0.3,
}


@dataclass(frozen=True, slots=True)
class ScoreTimeline:
    """One clip's scores over time.

    Attributes:
        seconds: media time of each frame since the clip's first, (T,).
        scores: anomaly score of each frame, (T,).
        thresholds: the camera's threshold at each frame, (T,).
        labels: bool (T,), ground truth.
        events: (first, last) second of each event.
        marked: frames that are shown as pictures.
    """

    seconds: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]
    labels: npt.NDArray[np.bool_]
    events: Sequence[tuple[float, float]]
    marked: Sequence[int]


def score_range(timelines: Sequence[ScoreTimeline]) -> tuple[float, float]:
    """Lowest and highest of all scores and thresholds with a margin: one vertical scale for all timelines."""
    values = [array for one in timelines for array in (one.scores, one.thresholds)]
    low = min(float(array.min()) for array in values)
    high = max(float(array.max()) for array in values)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + 2 * margin


def timeline_svg(timeline: ScoreTimeline, limits: tuple[float, float]) -> str:
    """Draw a timeline: truth shaded, threshold dashed, events as bars along the top.

    Args:
        timeline: the clip.
        limits: of the vertical axis.

    Returns:
        An ``<svg>`` element as wide as its container.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.0, 1.9), layout="constrained")
        axes = figure.add_subplot()
        seconds = timeline.seconds
        frame_s = float(np.median(np.diff(seconds))) if seconds.size > 1 else 1.0
        for first, end in _runs(timeline.labels):
            axes.axvspan(seconds[first], seconds[end - 1] + frame_s, color=_TRUTH, alpha=0.22, linewidth=0)
        axes.plot(seconds, timeline.scores, color=_SCORE, linewidth=1.1)
        axes.plot(seconds, timeline.thresholds, color=_THRESHOLD, linewidth=1.0, linestyle=(0, (4, 3)))
        marked = list(timeline.marked)
        axes.plot(seconds[marked], timeline.scores[marked], "o", color=_INK, markersize=3.5)
        on_top = blended_transform_factory(axes.transData, axes.transAxes)
        for start, end in timeline.events:
            axes.plot([start, max(end, start + frame_s)], [0.96, 0.96], color=_EVENT, linewidth=4.0,
                      solid_capstyle="butt", transform=on_top)  # fmt: skip
        axes.set_xlim(seconds[0], seconds[-1] + frame_s)
        axes.set_ylim(*limits)
        axes.set_xlabel("seconds")
        axes.set_ylabel("score")
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue())


def _inline(svg: str) -> str:
    """Fit matplotlib's SVG into a page: no prologue, no fixed size, no ids that would repeat, the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z][A-Za-z0-9.]*_\d+"', "", svg)  # clip paths, which are referred to, have no underscore
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for stand_in, colour in _INKS.items():
        svg = svg.replace(stand_in, colour)
    return svg


def _runs(labels: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, one past the last) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], labels, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def map_limits(samples: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Colour scale of all maps in a report: from the median to the 99.9th percentile of their values."""
    low, high = np.percentile(samples.astype(np.float32), [50.0, 99.9])
    return float(low), float(high if high > low else low + 1.0)


def with_truth(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.uint8]:
    """Draw the outline of the ground truth around its regions.

    Args:
        image: uint8 (H, W, 3).
        mask: bool (H, W), or None for no ground truth.
    """
    if mask is None or not mask.any():
        return image
    grown = np.asarray(ndimage.binary_dilation(mask, structure=np.ones((3, 3)), iterations=2), dtype=np.bool_)
    result = image.copy()
    result[grown & ~mask] = CONTOUR
    return result


def with_map(
    image: npt.NDArray[np.uint8], anomaly_map: npt.NDArray[np.float16], limits: tuple[float, float]
) -> npt.NDArray[np.uint8]:
    """Lay an anomaly map over the frame in gray; the higher, the more opaque.

    Args:
        image: uint8 (H, W, 3).
        anomaly_map: (h, w).
        limits: values that get the first and the last colour; values beyond get those too.
    """
    low, high = limits
    height, width = image.shape[:2]
    level = np.clip((upsample(anomaly_map[None], (height, width))[0] - low) / (high - low), 0.0, 1.0)
    colour = mpl.colormaps[COLOUR_MAP](level)[..., :3] * 255.0
    opacity = (_STRONGEST * level)[..., None]
    gray = image.mean(axis=2, keepdims=True)
    return (gray * (1.0 - opacity) + colour * opacity).round().astype(np.uint8)


def jpeg_address(image: npt.NDArray[np.uint8]) -> str:
    """Encode an image as a ``data:`` address."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=82, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def colour_stops() -> str:
    """The colour map as stops of a CSS gradient."""
    colours = mpl.colormaps[COLOUR_MAP](np.linspace(0.0, 1.0, _COLOUR_STOPS))
    return ", ".join(to_hex(colour) for colour in colours)
