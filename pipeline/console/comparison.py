"""`compare` as a person sees it: every method trained, replayed and evaluated, then all of them timed in one run.

Whatever is measured runs in a process of its own, so that neither memory nor caches of one method count for another.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.config import Config, RuntimeSettings
from pipeline.config_file import with_method
from pipeline.console.comparison_folder import ComparisonFolder, Trained
from pipeline.console.comparison_process import in_subprocess
from pipeline.console.progress import Bar, TrainingBars, progress_bars
from pipeline.console.tables import metrics_table
from pipeline.console.training import train_with_bars
from pipeline.datasets.base import Dataset
from pipeline.errors import ConfigError, DatasetError
from pipeline.evaluation.comparison import COLUMNS, Comparison, MethodResult, comparison_rows, write_comparison
from pipeline.evaluation.protocols import Evaluation, evaluate
from pipeline.methods import CHOICES, chosen_method
from pipeline.model_settings import ModelSettings
from pipeline.models.card import WEIGHTS_FILE, read_card
from pipeline.types import Frame, FrameBatch, FrameHeader
from pipeline.video.source import open_source

_SPEED_S = 120.0

Replay = Callable[[Config, Dataset, Path, Path], object]
"""Scores every test clip of a data set: settings, data set, model folder, scores folder."""


def compare_methods(
    config: Config,
    dataset: Dataset,
    methods: Sequence[str],
    folder: Path,
    replay: Replay,
    *,
    out: Console,
    err: Console,
) -> Comparison:
    """Train, score and time each method, print the table and write it.

    Args:
        config: the settings that all share.
        dataset: with training and test clips.
        methods: some of ``pipeline.methods.CHOICES``, each once.
        folder: empty, new, or of the same comparison interrupted, which is gone on with; gets ``METHOD/model``,
            ``METHOD/scores`` and the comparison.
        replay: how a model's scores are made.
        out: for results.
        err: for progress.

    Raises:
        BadInputError: settings, footage or output folder are not as expected.
        RunError: a process died.
    """
    _check(config, dataset, methods)
    place = ComparisonFolder(folder, _deciding(config, dataset))
    if any(_shares_features(method) and not place.trained(method) for method in methods):
        _share_features(config, dataset, place)
    evaluations: dict[str, Evaluation] = {}
    for method in methods:
        chosen = with_method(config, method)
        if not place.trained(method):
            err.print(f"{method}: training", markup=False, highlight=False)
            place.begin_training(method)
            shared = place.features if _shares_features(method) else None
            place.note_trained(method, in_subprocess(_train, chosen, dataset, place.model(method), shared))
        if not place.replayed(method):
            err.print(f"{method}: scoring", markup=False, highlight=False)
            place.begin_replay(method)
            replay(chosen, dataset, place.model(method), place.scores(method))
            place.note_replayed(method)
        with progress_bars(err) as progress:
            evaluations[method] = evaluate(place.scores(method), dataset, progress=Bar(progress, "evaluating"))
    shutil.rmtree(place.features, ignore_errors=True)
    err.print("timing all methods in turn", markup=False, highlight=False)
    comparison = _measured(config, dataset, methods, place, evaluations)
    files = write_comparison(comparison, folder)
    out.print(comparison_table(comparison))
    out.print(", ".join(map(str, files)), markup=False, highlight=False)
    return comparison


def comparison_table(comparison: Comparison) -> Table:
    """Every method's numbers, and below them what the labels alone reach."""
    title = f"{comparison.dataset}: {comparison.encoder}, {comparison.train_frames:,} training frames"
    return metrics_table([COLUMNS, *comparison_rows(comparison)], title)


def _check(config: Config, dataset: Dataset, methods: Sequence[str]) -> None:
    """Refuse what would fail after hours."""
    for method in methods:
        with_method(config, method)
    if not methods or len(set(methods)) != len(methods):
        raise ConfigError(
            f"methods: expected some of {', '.join(CHOICES)}, each once, got {', '.join(methods) or 'none'}"
        )
    for part, clips in (("training", dataset.train), ("test", dataset.test)):
        if not clips:
            raise DatasetError(f"{dataset.root}: expected {part} clips, got none")


def _deciding(config: Config, dataset: Dataset) -> dict[str, Any]:
    """Plain values of whatever the numbers follow from, but the methods."""
    footage = {"train": [clip.stamp() for clip in dataset.train], "test": [clip.stamp() for clip in dataset.test]}
    return {"footage": footage, **config.model_dump(mode="json", include={"model", "training", "runtime"})}


def _shares_features(method: str) -> bool:
    """Whether it reads the features that are extracted once for all."""
    return chosen_method(method)[0].shares_features


def _share_features(config: Config, dataset: Dataset, place: ComparisonFolder) -> None:
    """Extract what most methods read, unless an earlier call left it."""
    if place.features_s is not None and place.features.exists():
        return
    place.begin_features()
    place.note_features(in_subprocess(_extract, config, dataset, place.features))


def _measured(
    config: Config,
    dataset: Dataset,
    methods: Sequence[str],
    place: ComparisonFolder,
    evaluations: dict[str, Evaluation],
) -> Comparison:
    """Time all models in one process, weigh each in one of its own, and put everything together."""
    models = {method: place.model(method) for method in methods}
    cards = {method: read_card(model) for method, model in models.items()}
    first = cards[methods[0]]
    batch, scenes = _sample(dataset, first.model, config.runtime.batch_frames)
    threads = config.runtime.threads or os.cpu_count() or 1
    device, encoder_mb, speeds = in_subprocess(_time, models, batch, scenes, config.runtime, threads)
    results = []
    for method, model in models.items():
        peak_mb, gpu_mb = in_subprocess(_measure_memory, model, batch, scenes, config.runtime, device, threads)
        overall, speed, took = evaluations[method].overall, speeds[method], place.trained(method)
        assert took is not None, "nothing is measured before it is trained"
        results.append(
            MethodResult(
                method=method,
                fingerprint=cards[method].fingerprint,
                frame_auroc=overall.frame_auroc,
                frame_auroc_causal=overall.frame_auroc_causal,
                frame_auroc_macro=overall.frame_auroc_macro,
                pixel_auroc=overall.pixel_auroc,
                aupro=overall.aupro,
                normal_above_threshold=overall.alarms.normal_above_threshold,
                frames_per_s=speed.frames_per_s,
                post_frames_per_s=speed.post_frames_per_s,
                model_mb=(model / WEIGHTS_FILE).stat().st_size / 1e6,
                encoder_mb=encoder_mb,
                peak_memory_mb=peak_mb,
                peak_gpu_mb=gpu_mb,
                train_s=took.seconds + ((place.features_s or 0.0) if _shares_features(method) else 0.0),
                train_peak_memory_mb=took.peak_memory_mb,
            )
        )
    return Comparison(
        dataset=dataset.root.resolve().name,
        layout=dataset.name,
        encoder=first.model.encoder.name,
        image_size_px=first.model.image_size_px,
        train_frames=first.provenance.train_frames,
        batch_frames=len(batch),
        threads=threads,
        device=device,
        floors=evaluations[methods[0]].overall.floors,
        results=tuple(results),
    )


def _sample(dataset: Dataset, model: ModelSettings, wanted: int) -> tuple[FrameBatch, list[str]]:
    """One batch of test frames, drawn in turn from the first clips of all scenes as a detector would get them."""
    firsts = {clip.scene: clip for clip in reversed(dataset.test)}.values()
    frames: list[Frame] = []
    scenes: list[str] = []
    each = -(-wanted // len(firsts))
    for clip in firsts:
        with open_source(
            clip.url, model.image_size_px, gap_s=model.motion.gap_s, name=clip.name, image_fps=clip.image_fps
        ) as source:
            for index, decoded in zip(range(min(each, wanted - len(frames))), source, strict=False):
                header = FrameHeader(clip.name, 0, index, decoded.pts, decoded.time_base, captured_at_s=0.0)
                frames.append(Frame(header, decoded.image, decoded.previous))
                scenes.append(clip.scene)
    return FrameBatch.of(frames), scenes


def _extract(config: Config, dataset: Dataset, folder: Path) -> float:
    """Extract the features that most methods share; returns wall time in seconds."""
    from pipeline.training.train import extract_shared

    started_at = time.monotonic()
    with progress_bars(Console(stderr=True, soft_wrap=True)) as progress:
        extract_shared(config, dataset, folder, TrainingBars(progress))
    return time.monotonic() - started_at


def _train(config: Config, dataset: Dataset, model: Path, features: Path | None) -> Trained:
    """Train one method."""
    from pipeline.evaluation.speed import peak_memory_mb

    started_at = time.monotonic()
    console = Console(stderr=True, soft_wrap=True)
    train_with_bars(config, dataset, model, out=console, err=console, features=features)
    return Trained(seconds=time.monotonic() - started_at, peak_memory_mb=peak_memory_mb())


def _time(
    models: dict[str, Path], batch: FrameBatch, scenes: list[str], runtime: RuntimeSettings, threads: int
) -> tuple[str, float, dict[str, Any]]:
    """Time all models; returns the device, the encoder's size in 10^6 bytes and speeds by method."""
    import torch

    from pipeline.evaluation.speed import encoder_mb, measure_speed

    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if runtime.device == "auto" else runtime.device
    speeds = measure_speed(models, batch, scenes, runtime, device=chosen, threads=threads, seconds=_SPEED_S)
    return chosen, encoder_mb(next(iter(models.values()))), speeds


def _measure_memory(
    model: Path, batch: FrameBatch, scenes: list[str], runtime: RuntimeSettings, device: str, threads: int
) -> tuple[float, float | None]:
    """Peak memory of a process that scores with one model, and of its GPU."""
    from pipeline.evaluation.speed import measure_memory

    return measure_memory(model, batch, scenes, runtime, device=device, threads=threads)
