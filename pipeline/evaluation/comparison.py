"""Several methods side by side: what was measured of each, as a table, JSON, Markdown and a picture. Free of torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.files import replace_whole, write_whole
from pipeline.methods import chosen_method

COLUMNS = (
    "method",
    "frame AUROC",
    "causal AUROC",
    "pixel AUROC",
    "AUPRO @0.3",
    "normal above",
    "fps",
    "post fps",
    "model MB",
    "fps per MB",
    "peak MB",
    "train s",
)
"""Headings of ``comparison_rows``: of words so short that a terminal of 120 columns shows them whole."""

_SMALLEST_AREA = 30.0  # of a point in the plot, in square points
_AREA_PER_MB = 4.0


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method on one data set; ``docs/evaluation.md`` defines every number.

    Attributes:
        method: as ``compare --methods`` names it.
        fingerprint: of its model.
        frame_auroc: all frames pooled, or None where it does not exist; the next five alike.
        frame_auroc_causal: the same of the smoothed scores that alarms use.
        frame_auroc_macro: mean over clips.
        pixel_auroc: all pixels pooled.
        aupro: mean per-region overlap up to a pixel false-positive rate of 0.3.
        normal_above_threshold: share of the normal test frames whose smoothed score was at or above the threshold.
        frames_per_s: from uint8 frames to predictions; median over interleaved rounds.
        post_frames_per_s: the same without the encoder.
        model_mb: size of the checkpoint's weights on disk, encoder included, in 10^6 bytes.
        encoder_mb: the encoder's part of it.
        peak_memory_mb: most memory that a process which loads the model and scores a few batches ever held, in 10^6
            bytes; everything included, Python and torch, too.
        peak_gpu_mb: most that it had allocated on the GPU, or None without one.
        train_s: wall time of the training, its features included.
        train_peak_memory_mb: as ``peak_memory_mb``, of the training.
    """

    method: str
    fingerprint: str
    frame_auroc: float | None
    frame_auroc_causal: float | None
    frame_auroc_macro: float | None
    pixel_auroc: float | None
    aupro: float | None
    normal_above_threshold: float | None
    frames_per_s: float
    post_frames_per_s: float
    model_mb: float
    encoder_mb: float
    peak_memory_mb: float
    peak_gpu_mb: float | None
    train_s: float
    train_peak_memory_mb: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several methods on one data set.

    Attributes:
        dataset: name of its folder.
        layout: how it lies there: ``stc``, ``ucsd`` or ``avenue``.
        encoder: name of the encoder they share.
        image_size_px: (height, width) of its input.
        train_frames: normal frames they learned from.
        batch_frames: frames in a batch when speed was measured.
        threads: CPU threads when speed was measured.
        device: torch device.
        floors: metric -> floor -> number, of the data set's labels alone.
        results: of each method, in the order asked for.
    """

    dataset: str
    layout: str
    encoder: str
    image_size_px: tuple[int, int]
    train_frames: int
    batch_frames: int
    threads: int
    device: str
    floors: dict[str, dict[str, float | None]]
    results: tuple[MethodResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps(..., allow_nan=False)``."""
        return asdict(self)


def comparison_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The comparison as text cells under ``COLUMNS``: a row per method, then what the labels alone reach."""
    rows = [
        (
            result.method,
            *(_share(getattr(result, metric)) for metric in _METRICS),
            _percent(result.normal_above_threshold),
            _figures(result.frames_per_s),
            _figures(result.post_frames_per_s),
            f"{result.model_mb:,.1f}",
            _figures(result.frames_per_s / result.model_mb),
            f"{result.peak_memory_mb:,.0f}",
            f"{result.train_s:,.0f}",
        )
        for result in comparison.results
    ]
    floors = [_highest(comparison.floors.get(metric, {})) for metric in _METRICS]
    return [*rows, ("floor (labels)", *map(_share, floors), *[""] * (len(COLUMNS) - 1 - len(floors)))]


_METRICS = ("frame_auroc", "frame_auroc_causal", "pixel_auroc", "aupro")


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown table, with what it was measured on above and below."""
    height, width = comparison.image_size_px
    lines = [
        f"{comparison.dataset}, {comparison.encoder} at {height} x {width}, {comparison.train_frames:,} training "
        "frames.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|---|{'---:|' * (len(COLUMNS) - 1)}",
        *(f"| {' | '.join(row)} |" for row in comparison_rows(comparison)),
        "",
        f"Speed on {comparison.device}: batches of {comparison.batch_frames}, {comparison.threads} CPU threads, "
        "methods interleaved, medians.",
    ]
    lines += filter(None, (chosen_method(result.method)[0].note for result in comparison.results))
    return "\n".join(lines) + "\n"


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``comparison.json``, ``comparison.md`` and ``comparison.png``; each appears whole.

    Returns:
        The files.
    """
    texts = {
        "comparison.json": json.dumps(comparison.to_json(), indent=2, allow_nan=False) + "\n",
        "comparison.md": comparison_markdown(comparison),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(folder / name, text)
    draw_comparison(comparison.results, folder / "comparison.png")
    return [folder / name for name in (*texts, "comparison.png")]


def draw_comparison(results: Sequence[MethodResult], path: Path) -> None:
    """Accuracy against speed, a panel each for frames and pixels; a point's area is the model's size on disk."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.4))
    colours = {result.method: f"C{number}" for number, result in enumerate(results)}
    for panel, metric, name in zip(panels, ("frame_auroc", "pixel_auroc"), ("frame AUROC", "pixel AUROC"), strict=True):
        for result in results:
            value = getattr(result, metric)
            if value is None:
                continue
            area = _SMALLEST_AREA + _AREA_PER_MB * result.model_mb
            panel.scatter(result.frames_per_s, value, s=area, alpha=0.55, color=colours[result.method], linewidths=0)
            label = f"{result.method}\n{result.model_mb:,.0f} MB"
            # Beside the point, whose radius depends on its area.
            offset = (math.sqrt(area / math.pi) + 4.0, 0.0)
            panel.annotate(label, (result.frames_per_s, value), offset, textcoords="offset points", va="center", size=8)
        panel.set(xscale="log", xlabel="frames per second, whole detector", ylabel=name)
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.margins(x=0.35, y=0.25)
        panel.grid(alpha=0.3, which="both", linewidth=0.5)
    figure.suptitle("accuracy against speed; area: model size on disk", fontsize=11)
    figure.tight_layout()
    with replace_whole(path) as staged:
        figure.savefig(staged, dpi=110, format="png")
    plt.close(figure)


def _highest(floors: dict[str, float | None]) -> float | None:
    """The best that scores reach which see no pixel; ``random_padded`` belongs to other papers' macro average."""
    found = [value for name, value in floors.items() if value is not None and name != "random_padded"]
    return max(found, default=None)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _figures(value: float) -> str:
    """Three figures: what a measurement of speed is good for."""
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"
