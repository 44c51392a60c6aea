"""Draw why a flow: CFLOW-AD's opening argument on two-dimensional data, with the methods of this project.

Usage: python -m benchmarks.opening_figure [--out docs/figures/opening.png]

Normal points lie along a horseshoe whose ends differ in width: nothing like a Gaussian, and not equally dense.
Anomalies are of the three kinds that the literature tells apart (Goldstein and Uchida, PLOS ONE 2016): global ones far
from everything, a local one beside the dense end, and a micro-cluster of points that are near each other and far from
what is normal. Every method learns from normal points alone.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.baselines.padim import Moments
from pipeline.baselines.spade import nearest_squared
from pipeline.model_settings import FlowSettings
from pipeline.models.flow import Flow

ROOT = Path(__file__).resolve().parent.parent
Points = npt.NDArray[np.float32]
AnomalyMeasure = Callable[[Points], npt.NDArray[np.float64]]

KINDS = ("global", "local", "micro-cluster")
_STEPS = 500
_RATE = 1e-2
_NEIGHBOURS = 5
_RIDGE = 1e-6


@dataclass(frozen=True)
class Toy:
    """Points in the plane.

    Attributes:
        train: normal points to learn from, shape (N, 2).
        normal: further normal points, shape (M, 2).
        anomalies: by kind, shape (n, 2) each.
    """

    train: Points
    normal: Points
    anomalies: dict[str, Points]


def make_toy(seed: int = 0) -> Toy:
    """Draw the points; the same for the same seed."""
    random = np.random.default_rng(seed)
    kinds = {
        "global": np.array([[-2.1, 1.7], [2.2, 1.9], [2.3, -1.5]]),
        "local": np.array([[0.62, -0.38]]),
        "micro-cluster": random.uniform((-0.09, -0.14), (0.09, 0.04), (8, 2)),
    }
    return Toy(
        train=_horseshoe(random, 1500),
        normal=_horseshoe(random, 500),
        anomalies={kind: points.astype(np.float32) for kind, points in kinds.items()},
    )


def _horseshoe(random: np.random.Generator, count: int) -> Points:
    """Points along three quarters of a circle; the band widens from one end to the other, and is sharply bounded."""
    along = random.uniform(0.0, 1.0, count)
    angle = math.pi * (-0.25 + 1.5 * along)
    radius = 1.0 + (0.05 + 0.25 * along) * random.uniform(-1.0, 1.0, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


def fit_gaussian(train: Points) -> AnomalyMeasure:
    """One Gaussian, as PaDiM has at every position: the score is Mahalanobis' distance."""
    moments = Moments(1, 2)
    moments.add(torch.from_numpy(train).unsqueeze(1))
    mean, whitening = moments.gaussians(_RIDGE)
    return lambda points: np.linalg.norm((points - mean[0].numpy()) @ whitening[0].numpy().T, axis=1).astype(np.float64)


def fit_neighbours(train: Points) -> AnomalyMeasure:
    """Nearest neighbours, as SPADE has them: the score is the mean distance to the nearest training points."""
    gallery = torch.from_numpy(train)

    def score(points: Points) -> npt.NDArray[np.float64]:
        nearest = nearest_squared(torch.from_numpy(points), gallery, _NEIGHBOURS)
        return nearest.sqrt().mean(dim=1).double().numpy()

    return score


def fit_flow(train: Points, steps: int = _STEPS) -> AnomalyMeasure:
    """Our flow without a condition: the score is the negative log-likelihood, in nats."""
    vectors, none = torch.from_numpy(train), torch.empty(len(train), 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = Flow(2, 0, FlowSettings(blocks=8, hidden_ratio=64.0, condition="none"))
    flow.whiten(vectors.mean(dim=0), torch.cov(vectors.T))
    optimiser = torch.optim.Adam((p for p in flow.parameters() if p.requires_grad), lr=_RATE)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = _RATE * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        optimiser.zero_grad()
        (-flow.log_likelihood(vectors, none).mean()).backward()
        optimiser.step()

    @torch.inference_mode()
    def score(points: Points) -> npt.NDArray[np.float64]:
        found = flow.log_likelihood(torch.from_numpy(points), torch.empty(len(points), 0))
        return -2.0 * found.double().numpy()

    return score


def missed(method: AnomalyMeasure, toy: Toy) -> dict[str, int]:
    """By kind, how many anomalies do not score above every normal point that was not learned from."""
    highest = method(toy.normal).max()
    return {kind: int((method(points) <= highest).sum()) for kind, points in toy.anomalies.items()}


def draw(toy: Toy, methods: dict[str, AnomalyMeasure], path: Path) -> None:
    """One panel per method: what it takes for normal, and which anomalies it misses."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    side = np.linspace(-2.6, 2.6, 261)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype(np.float32)
    figure, panels = plt.subplots(1, len(methods), figsize=(4.1 * len(methods), 4.75), sharey=True)
    markers: dict[str, str] = dict(zip(KINDS, "^Do", strict=True))
    for panel, (name, method) in zip(np.atleast_1d(panels), methods.items(), strict=True):
        highest = method(toy.normal).max()
        # Rank, not score: units of the methods differ, and what matters is who lies above whom.
        ranks = np.searchsorted(np.sort(method(toy.normal)), method(grid)) / len(toy.normal)
        surface = ranks.reshape(len(side), -1)
        panel.contourf(side, side, surface, levels=np.linspace(0.0, 1.0, 11), cmap="Blues_r", alpha=0.85)
        panel.contour(side, side, method(grid).reshape(len(side), -1), levels=[highest], colors="black", linewidths=1.2)
        panel.scatter(*toy.normal[::2].T, s=3, color="#31475e", linewidths=0, alpha=0.8)
        for kind, points in toy.anomalies.items():
            found = method(points) > highest
            for hit, colour in ((True, "#2ca02c"), (False, "#d62728")):
                chosen = points[found == hit]
                panel.scatter(*chosen.T, s=34, marker=markers[kind], color=colour, edgecolors="white", linewidths=0.7)
        count = sum(missed(method, toy).values())
        total = sum(map(len, toy.anomalies.values()))
        panel.set_title(f"{name}\n{total - count} of {total} anomalies found", fontsize=11)
        panel.set(aspect="equal", xticks=[], yticks=[], xlim=(-2.6, 2.6), ylim=(-2.2, 2.4))
    handles = [
        Line2D([], [], linestyle="", marker=markers[kind], color="#777777", label=f"{kind} anomaly")
        for kind in KINDS[:2]
    ]
    handles += [
        Line2D([], [], linestyle="", marker="o", color="#777777", label="micro-cluster of anomalies"),
        Line2D([], [], linestyle="", marker="s", color="#2ca02c", label="above every normal point"),
        Line2D([], [], linestyle="", marker="s", color="#d62728", label="missed"),
        Line2D([], [], color="black", linewidth=1.2, label="highest score of a normal point"),
        Line2D([], [], linestyle="", marker="s", color="#2d5a94", label="dark: most normal"),
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=7, fontsize=8.5, columnspacing=1.2, handletextpad=0.3, frameon=False
    )
    figure.tight_layout(rect=(0.0, 0.06, 1.0, 1.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Fit, draw and say who misses what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "opening.png")
    arguments = parser.parse_args()
    toy = make_toy()
    methods = {
        "one Gaussian (PaDiM's model)": fit_gaussian(toy.train),
        f"{_NEIGHBOURS} nearest neighbours (SPADE's)": fit_neighbours(toy.train),
        "normalizing flow (ours)": fit_flow(toy.train),
    }
    for name, method in methods.items():
        print(f"{name:<36} missed {missed(method, toy)}")
    draw(toy, methods, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
