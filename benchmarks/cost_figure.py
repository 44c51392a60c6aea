"""Draw where each method's time and memory go, from a comparison's result and what the papers state.

Usage: python -m benchmarks.cost_figure [--result benchmarks/results/comparison-ped2-....json] [--out FILE.png]

Measures nothing: bars are the numbers of a ``comparison.json``, hollow ones the papers', on ShanghaiTech Campus.
Prints, beside, what knowing the position costs a flow.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS

ROOT = Path(__file__).resolve().parent.parent
ENCODERS = {
    "MobileNetV2": (32, 96, 320),
    "ResNet-18": (128, 256, 512),
    "WideResNet-50": (512, 1024, 2048),
}
"""Channels of the levels of stride 8, 16 and 32."""

# MB on ShanghaiTech Campus at 256 px with a WideResNet-50, as CFLOW-AD's authors tell them (Gudovskiy et al. 2022; what
# they say of its flows is one scene's model, encoder included).
_PUBLISHED_MB = {"cflow": 947, "padim": 5_200, "spade": 37_000}
_BLOCKS = 8
_HIDDEN_RATIO = 2.0
_CONDITION_DIMS = 128
_BYTES = 2  # checkpoints hold float16
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """What a frame and a model take.

    Attributes:
        method: its name.
        encoder_ms: of a frame, in the encoder; DifferNet's looks at three sizes of it.
        post_ms: of a frame, in everything after it.
        model_mb: of the checkpoint, without the encoder.
    """

    method: str
    encoder_ms: float
    post_ms: float
    model_mb: float


def costs(comparison: Mapping[str, Any]) -> list[Cost]:
    """What a comparison found, method by method."""
    return [
        Cost(
            method=result["method"],
            encoder_ms=1e3 / result["frames_per_s"] - 1e3 / result["post_frames_per_s"],
            post_ms=1e3 / result["post_frames_per_s"],
            model_mb=result["model_mb"] - result["encoder_mb"],
        )
        for result in comparison["results"]
    ]


def flow_weights(channels: int, condition_dims: int) -> int:
    """Weights of one flow's matrices: per block two of its small network and one permutation, and the whitening."""
    changed = channels // 2
    inputs = channels - changed + condition_dims
    hidden = round(_HIDDEN_RATIO * inputs)
    return _BLOCKS * (hidden * (inputs + 2 * changed) + channels**2) + channels**2  # a scale and an offset for each


def flows_mb(channels: Sequence[int], condition_dims: int) -> float:
    """Megabytes that the flows of all levels take in a checkpoint."""
    return sum(flow_weights(each, condition_dims) for each in channels) * _BYTES / _MB


def draw(found: Sequence[Cost], path: Path) -> None:
    """Time of a frame, stacked, and size, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [cost.method for cost in found]
    rows = range(len(found))
    figure, (time, size) = plt.subplots(1, 2, figsize=(11.0, 3.1), sharey=True)
    encoder = [cost.encoder_ms for cost in found]
    time.barh(rows, encoder, color="#b9c6d3", label="encoder")
    time.barh(rows, [cost.post_ms for cost in found], left=encoder, color="#2d5a94", label="everything after it")
    for row, cost in zip(rows, found, strict=True):
        time.text(cost.encoder_ms + cost.post_ms + 0.5, row, f"{cost.post_ms:.0f} ms after it", va="center", fontsize=9)
    time.set(yticks=list(rows), yticklabels=names, xlabel="ms of a frame, two CPU cores", title="Time")
    time.set_xlim(0.0, 1.6 * max(cost.encoder_ms + cost.post_ms for cost in found))
    time.invert_yaxis()
    time.legend(fontsize=8.5, frameon=False, loc="upper right")

    size.barh(rows, [cost.model_mb for cost in found], height=0.4, color="#2d5a94", label="here, Ped2, without encoder")
    for row, cost in zip(rows, found, strict=True):
        size.text(1.15 * cost.model_mb, row, f"{cost.model_mb:,.0f}", va="center", fontsize=9)
        if published := _PUBLISHED_MB.get(cost.method):
            label = "published, STC, WideResNet-50" if cost.method == "cflow" else None
            size.barh(row + 0.34, published, height=0.2, fill=False, edgecolor="#777777", label=label)
            size.text(1.15 * published, row + 0.34, f"{published:,}", va="center", fontsize=8, color="#555555")
    size.set(xscale="log", xlim=(1.0, 3e5), xlabel="MB, logarithmic", title="Size of the model")
    size.legend(fontsize=8.5, frameon=False, loc="lower right")
    for panel in (time, size):
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw, and say what a condition costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--result", type=Path, default=max(RESULTS.glob("comparison-*.json")))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "costs.png")
    arguments = parser.parse_args()
    found = costs(json.loads(arguments.result.read_text(encoding="utf-8")))
    for cost in found:
        print(
            f"{cost.method:<10} encoder {cost.encoder_ms:5.1f} ms  after it {cost.post_ms:5.1f} ms"
            f"  model {cost.model_mb:6.1f} MB"
        )
    for name, channels in ENCODERS.items():
        bare, conditioned = flows_mb(channels, 0), flows_mb(channels, _CONDITION_DIMS)
        print(f"{name:<14} flows without condition {bare:6.1f} MB, with {_CONDITION_DIMS} values {conditioned:6.1f} MB")
    draw(found, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
