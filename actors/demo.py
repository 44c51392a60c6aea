"""The whole path on footage made on the spot: render, train, stream, alert, evaluate, report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from actors.commands import replay_dataset
from pipeline.config import Config
from pipeline.console.evaluation import evaluation_tables
from pipeline.console.progress import Bar, progress_bars
from pipeline.console.tables import cameras_table
from pipeline.console.training import train_with_bars
from pipeline.datasets.base import Dataset
from pipeline.datasets.synthetic import SyntheticSpec, render
from pipeline.errors import BadInputError, WeightsError
from pipeline.evaluation.protocols import evaluate
from pipeline.evaluation.report import write_report
from pipeline.files import require_writable
from pipeline.run_folder import RunFolder
from pipeline.sinks.run_lock import check_unused

_PARTS = ("footage", "model", "scores", "report.html")


def run_demo(config: Config, config_file: Path, folder: Path, *, out: Console, err: Console) -> Path:
    """Run the demo into a folder; returns the report's path.

    Args:
        config: model, training and processes.
        config_file: where they were read from.
        folder: gets ``footage``, ``model``, ``scores`` and ``report.html``; those of an earlier demo are replaced.
        out: for results.
        err: for progress and messages.

    Raises:
        BadInputError: the folder holds something that is not an earlier demo, or one that is under way, or it cannot be
            written.
    """
    _clear(folder)
    started_at = time.monotonic()
    dataset = _render(config, folder / "footage", err)
    config = _train(config, dataset, folder / "model", out, err)
    scores = folder / "scores"
    final = replay_dataset(config, config_file, dataset, folder / "model", scores, address=None, out=out, err=err)
    with progress_bars(err) as progress:
        evaluation = evaluate(scores, dataset, config.camera_defaults.alerts, progress=Bar(progress, "evaluating"))
    statuses = [camera.as_json() for camera in final.cameras]
    out.print(cameras_table(statuses, "every frame accounted for"))
    out.print(evaluation_tables(evaluation, "against the ground truth"))
    notes = ["Synthetic footage, rendered by this demo: the numbers show that the path works, not how good it is."]
    if config.model.encoder.weights == "random":
        notes.append("The encoder has random weights, because timm's model hub could not be reached.")
    report = write_report(
        folder / "report.html",
        evaluation,
        scores,
        dataset,
        cameras=[_shown(status) for status in statuses],
        title="cflow-stream demo",
        notes=notes,
    )
    out.print(f"{time.monotonic() - started_at:.0f} s; report: {report}", markup=False, highlight=False)
    return report


def _shown(status: Mapping[str, Any]) -> dict[str, Any]:
    """What the report's table of cameras shows of a status."""
    keys = ("camera_id", "decoded", "scored", "in_flight", "scored_fps", "latency_p50_s", "latency_p99_s", "events")
    return {**{key: status[key] for key in keys}, "dropped": sum(status["dropped"].values())}


def _clear(folder: Path) -> None:
    """Make room for a new demo; nothing is deleted that a demo did not make."""
    if folder.exists() and any(path.name not in _PARTS for path in folder.iterdir() if not path.name.startswith(".")):
        raise BadInputError(
            f"{folder}: expected a new folder or that of an earlier demo, got one with other things in it"
        )
    check_unused(RunFolder.of_replay(folder / "scores").path)
    require_writable(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _render(config: Config, folder: Path, err: Console) -> Dataset:
    with progress_bars(err) as progress:
        return render(folder, SyntheticSpec(size_px=config.model.image_size_px), Bar(progress, "rendering footage"))


def _train(config: Config, dataset: Dataset, folder: Path, out: Console, err: Console) -> Config:
    """Train with the configured weights, or with random ones where they cannot be had; returns the config used."""
    try:
        train_with_bars(config, dataset, folder, out=out, err=err)
    except WeightsError as error:
        err.print(
            f"warning: {error}\nwarning: the demo goes on with RANDOM encoder weights; accuracy suffers",
            markup=False,
            highlight=False,
            style="yellow",
        )
        encoder = config.model.encoder.model_copy(update={"weights": "random"})
        config = config.model_copy(update={"model": config.model.model_copy(update={"encoder": encoder})})
        train_with_bars(config, dataset, folder, out=out, err=err)
    return config
