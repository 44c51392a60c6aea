"""How cost grows: speed and memory against training frames, image size and number of cameras.

Usage: python -m benchmarks.growth [--neighbours K] [--out docs/figures/growth.png]

Features are random numbers in the shapes of the encoder's: cost does not depend on what they say. Systems take turns,
batch by batch, so that whatever else the machine does meets them all alike. Speed is that of the methods'
post-processing alone, run as a detector runs it, the encoder being the same for all; memory is what a checkpoint adds
to its encoder.
Prints tables, draws a picture and ends with one JSON line, kept in benchmarks/results/.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import describe, store
from pipeline.config import RuntimeSettings, TrainingSettings
from pipeline.evaluation.speed import encoder_mb
from pipeline.inference.loading import load_anomaly_model
from pipeline.inference.tuning import choose_tuning
from pipeline.model_settings import EncoderSettings, ModelSettings
from pipeline.models.card import WEIGHTS_FILE, LevelConstants, ModelCard, Provenance, read_card
from pipeline.models.cflow import CFlow
from pipeline.models.checkpoint import library_versions, save_checkpoint
from pipeline.models.encoder import Encoder, bare_encoder
from pipeline.models.score import frame_scores

ROOT = Path(__file__).resolve().parent.parent
SIZE_PX = (256, 384)
FRAMES = (125, 250, 500, 1000, 2000)
SIZES_PX = ((128, 192), (192, 288), (256, 384), (384, 576))
CAMERAS = (1, 2, 4, 8)
TRAIN_FRAMES = 200  # per camera, where their number is not what varies
_BATCH = 8
_LEAST_ROUNDS, _LEAST_S = 7, 8.0


@dataclass(frozen=True)
class Measurement:
    """One measurement.

    Attributes:
        against: what varies: ``frames``, ``pixels`` or ``cameras``.
        system: name of the line it belongs to.
        value: training frames, pixels of the image, or cameras.
        frames_per_s: of the post-processing; median.
        model_mb: size on disk without the encoder, 10^6 bytes.
    """

    against: str
    system: str
    value: int
    frames_per_s: float
    model_mb: float


@dataclass(frozen=True)
class System:
    """A model to be made and measured.

    Attributes:
        name: of its line.
        model: keys of ``ModelSettings`` beside size and encoder.
        cameras: its scenes; frames of a batch come from all of them in turn.
        copies: how many such models share the work, each with the frames of its own cameras in a batch of its own.
    """

    name: str
    model: Mapping[str, Any]
    cameras: int = 1
    copies: int = 1


def measure(
    against: str, value: int, systems: Sequence[System], *, size_px: tuple[int, int], frames: int
) -> list[Measurement]:
    """Make models that were never trained, write and load them, and time them in turn, batch by batch.

    Args:
        against: as in ``Measurement``.
        value: see there.
        systems: what is set side by side.
        size_px: (height, width) of the image.
        frames: training frames per camera.
    """
    # Of one process's variants of the same functions torch keeps so many and no more.
    torch.compiler.reset()
    encoder = bare_encoder(EncoderSettings(weights="random"))
    made = [_made(system, encoder, size_px, frames) for system in systems]
    for score, _ in made:
        score()  # the first call compiles
    times: list[list[float]] = [[] for _ in systems]
    ends_at = time.monotonic() + _LEAST_S
    while len(times[0]) < _LEAST_ROUNDS or time.monotonic() < ends_at:
        for (score, _), of_system in zip(made, times, strict=True):
            started_at = time.perf_counter()
            score()
            of_system.append(time.perf_counter() - started_at)
    return [
        Measurement(
            against,
            system.name,
            value,
            _batch_of(system) / statistics.median(of_system),
            size_mb * system.copies,
        )
        for system, (_, size_mb), of_system in zip(systems, made, times, strict=True)
    ]


def _batch_of(system: System) -> int:
    """Frames in a batch: as much smaller as there are models to share the work."""
    return max(1, _BATCH // system.copies)


def _made(
    system: System, encoder: Encoder, size_px: tuple[int, int], frames: int
) -> tuple[Callable[[], object], float]:
    """A system's post-processing of one batch, and its size on disk without the encoder, 10^6 bytes."""
    settings = ModelSettings.model_validate({"image_size_px": size_px, **system.model})
    settings = settings.model_copy(update={"encoder": encoder.settings})
    scenes = tuple(f"cam{number}" for number in range(system.cameras))
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_checkpoint(folder, _card(settings, encoder, scenes), encoder, _method(settings, encoder, scenes, frames))
        size_mb = (folder / WEIGHTS_FILE).stat().st_size / 1e6 - encoder_mb(folder)
        tuning = choose_tuning(RuntimeSettings(), cpu, settings.method)
        _, anomaly_model = load_anomaly_model(folder, read_card(folder), device=cpu, tuning=tuning)
    count, (height, width) = _batch_of(system), size_px
    rows = anomaly_model.scene_rows([scenes[number % len(scenes)] for number in range(count)])
    images = torch.zeros(count, height, width, 3, dtype=torch.uint8)
    levels = [
        torch.randn(count, dims, height // stride, width // stride)
        for stride, dims in zip(encoder.strides, encoder.channels, strict=True)
    ]

    @torch.inference_mode()
    def score() -> object:
        return frame_scores(
            anomaly_model.anomaly_maps(images, lambda _: levels, rows).scored, settings.score.top_fraction
        )

    return score, size_mb


def _method(
    settings: ModelSettings, encoder: Encoder, scenes: Sequence[str], frames: int
) -> CFlow | Mapping[str, Tensor]:
    """What is stored of a model that was never trained, in the shapes of one that was."""
    if settings.method == "cflow":
        flows = CFlow(settings, encoder.channels, scenes)
        for level in range(len(encoder.channels)):
            flows.flow(level).round_weights()
        return flows
    areas = [(settings.image_size_px[0] // s) * (settings.image_size_px[1] // s) for s in encoder.strides]
    made: dict[str, Tensor] = {}
    for row in range(len(scenes)):
        if settings.method == "padim":
            dims = min(settings.padim.channels, sum(encoder.channels))
            made[f"models.{row}.channels"] = torch.arange(dims)
            made[f"models.{row}.mean"] = torch.zeros(areas[0], dims)
            made[f"models.{row}.whitening"] = torch.eye(dims).repeat(areas[0], 1, 1)
        elif settings.method == "spade":
            made[f"models.{row}.pooled"] = torch.randn(frames, sum(encoder.channels))
            for level, (area, dims) in enumerate(zip(areas, encoder.channels, strict=True)):
                made[f"models.{row}.level_{level}"] = torch.randn(1, area, dims).half().repeat(frames, 1, 1)
        else:
            raise ValueError(f"expected one of cflow, padim, spade, got {settings.method!r}")
    return made


def _card(settings: ModelSettings, encoder: Encoder, scenes: tuple[str, ...]) -> ModelCard:
    return ModelCard(
        model=settings,
        scenes=scenes,
        levels=tuple(
            LevelConstants(stride=stride, channels=channels, mean=-1.4, std=0.2)
            for stride, channels in zip(encoder.strides, encoder.channels, strict=True)
        ),
        normal_scores=dict.fromkeys(scenes, ((1.0, 2.0),)),
        normal_fps=25.0,
        provenance=Provenance(
            dataset="none", training=TrainingSettings(), completed=True, epochs=0, steps=0, train_frames=0,
            holdout_frames=0, losses={}, trained_at_s=0.0, versions=library_versions(),
        ),
    )  # fmt: skip


def measure_all(neighbours: int) -> list[Measurement]:
    """Every point of every line."""
    flows = System("flows", {})
    padim = System("PaDiM", {"method": "padim"})
    spade = System("SPADE", {"method": "spade", "spade": {"image_neighbours": neighbours}})
    points = []
    for frames in FRAMES:
        points += measure("frames", frames, [spade, padim, flows], size_px=SIZE_PX, frames=frames)
    for size in SIZES_PX:
        points += measure("pixels", size[0] * size[1], [spade, padim, flows], size_px=size, frames=TRAIN_FRAMES)
    for cameras in CAMERAS:
        systems = [
            replace(spade, name="SPADE, one gallery per camera", cameras=cameras),
            replace(padim, name="PaDiM, one model per camera", cameras=cameras),
            replace(flows, name="flows, one model per camera", copies=cameras),
            System("flows, camera embeddings", {"flow": {"camera_embedding": 16}}, cameras=cameras),
        ]
        points += measure("cameras", cameras, systems, size_px=SIZE_PX, frames=TRAIN_FRAMES)
    return points


def print_tables(points: Sequence[Measurement]) -> None:
    """One table per thing that varies."""
    for against in ("frames", "pixels", "cameras"):
        print(f"\n{'against ' + against:<34}{against:>10}{'frames/s':>12}{'MB':>12}")
        for point in points:
            if point.against == against:
                print(f"{point.system:<34}{point.value:>10,}{point.frames_per_s:>12.1f}{point.model_mb:>12.1f}")


def draw(points: Sequence[Measurement], path: Path) -> None:
    """Size above, speed below, against each thing that varies."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    names = {"frames": "training frames", "pixels": "pixels of the image", "cameras": "cameras"}
    figure, panels = plt.subplots(2, 3, figsize=(13.0, 7.0), sharex="col")
    for column, (against, name) in enumerate(names.items()):
        chosen = [point for point in points if point.against == against]
        for system in dict.fromkeys(point.system for point in chosen):
            line = [point for point in chosen if point.system == system]
            values = [point.value for point in line]
            colour = _colour(system)
            style = "--" if "per camera" in system and system.startswith("flows") else "-"
            panels[0, column].plot(values, [p.model_mb for p in line], style, marker="o", color=colour, label=system)
            panels[1, column].plot(values, [p.frames_per_s for p in line], style, marker="o", color=colour)
        panels[1, column].set_xlabel(name)
        ticks = sorted({point.value for point in chosen})
        panels[0, column].margins(y=0.25)  # room for the legend
        panels[0, column].legend(fontsize=8, loc="upper left")
        for panel in panels[:, column]:
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(ticks)
            panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_formatter("{x:,g}")
                axis.set_minor_formatter(NullFormatter())
            panel.grid(alpha=0.3, which="both", linewidth=0.5)
    panels[0, 0].set_ylabel("model without encoder, MB")
    panels[1, 0].set_ylabel("post-processing, frames per second")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _colour(system: str) -> str:
    return {"SPADE": "C3", "PaDiM": "C1"}.get(system.split(",", maxsplit=1)[0], "C0")


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neighbours", type=int, default=1, help="SPADE's nearest frames; the paper: 50, on STC 1")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "growth.png")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    described = describe()  # before the picture changes the tree
    points = measure_all(arguments.neighbours)
    print_tables(points)
    draw(points, arguments.out)
    print(arguments.out)
    store(
        {
            "benchmark": "growth",
            **described,
            "threads": arguments.threads,
            "batch_frames": _BATCH,
            "spade_image_neighbours": arguments.neighbours,
            "points": [asdict(point) for point in points],
        }
    )


if __name__ == "__main__":
    main()
