"""`calibrate` as a person or a script sees it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.budget import hours_in_words, rate_in_words
from pipeline.calibrate.from_run import CameraFootage, run_footage
from pipeline.calibrate.promises import Promise, promises_of_scenes, promises_to
from pipeline.config import Config
from pipeline.console.progress import Bar, progress_bars
from pipeline.datasets.base import Dataset
from pipeline.datasets.image_rates import with_image_fps
from pipeline.errors import BadInputError, ConfigError, VideoError
from pipeline.models.card import ModelCard
from pipeline.models.fetching import FoundModel
from pipeline.models.normal_store import NormalStore
from pipeline.normal_footage import NormalStretch
from pipeline.remote_files import is_address
from pipeline.run_folder import RunFolder
from pipeline.verdicts import read_verdicts


def add_footage(model: FoundModel, dataset: Dataset, config: Config, *, err: Console) -> None:
    """Run normal footage through a model and keep beside it what it scores. Ctrl-C keeps the clips that are done.

    Args:
        model: in a folder.
        dataset: its training clips are used.
        config: ``runtime.device`` is read.
        err: for progress, and what was passed over.

    Raises:
        BadInputError: the model is at an address, or none of the clips can be used.
    """
    from pipeline.calibrate.from_footage import add_clip, load_engine  # imports torch: not before it is needed

    _check_can_add(model)
    before = store = NormalStore.read(model.folder, model.card.fingerprint)
    engine = load_engine(model.folder, config)
    clips = with_image_fps(dataset.train, lambda _: model.card.footage_fps)
    counts = [clip.frame_count for clip in clips]
    total, done = None if None in counts else sum(count or 0 for count in counts), 0
    new, passed_over = list[NormalStretch](), list[str]()
    try:
        with progress_bars(err) as progress:
            bar = Bar(progress, "scoring")
            for clip in clips:
                try:
                    store = add_clip(store, engine, clip, lambda frames, base=done: bar(base + frames, total))
                    new.append(store.added[-1].stretch)
                except VideoError as error:
                    passed_over.append(str(error))
                done += clip.frame_count or 0
    finally:
        if store is not before:
            store.write(model.folder, model.card.fingerprint)
    for line in passed_over:
        err.print(f"passed over: {line}", markup=False, highlight=False, style="yellow")
    if store is before:
        raise BadInputError(f"{dataset.root}: expected normal footage that the model has not seen, found none")
    said = hours_in_words(sum(stretch.hours for stretch in new))
    err.print(f"{said} of footage in {len(new):,} clips were added", markup=False, highlight=False)


def add_run(
    model: FoundModel,
    config: Config,
    run_folder: Path,
    camera_id: str | None,
    *,
    unconfirmed_are_normal: bool,
    err: Console,
) -> None:
    """Keep beside a model what a run has stored of normal footage; what was said of its events is minded.

    Args:
        model: in a folder.
        config: of the run: its cameras, with the zones that they had.
        run_folder: its ``output.folder``.
        camera_id: which camera; None for all.
        unconfirmed_are_normal: whether events that nobody confirmed are taken for normal.
        err: for what was added, and left out.

    Raises:
        BadInputError: the model is at an address, or the run has nothing that could be added.
    """
    _check_can_add(model)
    cameras = [camera for camera in config.cameras if camera_id in {None, camera.id}]
    if not cameras:
        raise ConfigError(f"--camera: expected a camera of the config, got {camera_id!r}")
    store = NormalStore.read(model.folder, model.card.fingerprint)
    verdicts = read_verdicts(RunFolder(run_folder).verdicts_file).values()
    found = run_footage(
        run_folder,
        cameras,
        model.card,
        store,
        confirmed={one.event_id for one in verdicts if one.verdict == "confirmed"},
        normal={one.event_id for one in verdicts if one.verdict == "dismissed"},
        unconfirmed_are_normal=unconfirmed_are_normal,
    )
    added = [stretch for footage in found for stretch in footage.added]
    if added:
        store.with_added(added).write(model.folder, model.card.fingerprint)
    for footage in found:
        err.print(_added_line(footage), markup=False, highlight=False)


def _check_can_add(model: FoundModel) -> None:
    if is_address(model.source.place):
        raise BadInputError(f"{model.source.shown}: expected a model in a folder of this machine, got an address")


def _counted(events: int) -> str:
    return "1 event" if events == 1 else f"{events:,} events"


def _added_line(footage: CameraFootage) -> str:
    hours = sum(one.stretch.hours for one in footage.added)
    scored = hours_in_words(footage.hours)
    said = f"camera {footage.camera_id}: {hours_in_words(hours)} added, of {scored} that the run has scored"
    if not footage.left_out or not footage.hours:
        return said
    rate = rate_in_words(footage.left_out / footage.hours)
    return (
        f"{said}; {_counted(footage.left_out)} left out: if all were false, that is {rate} "
        "(--unconfirmed-are-normal takes them in)"
    )


def show_promises(
    config: Config, model: ModelCard, folder: Path, *, by_camera: bool, as_json: bool, out: Console
) -> None:
    """Print what is promised of a config's cameras, or of a model's scenes.

    Args:
        config: the cameras, and what they ask for.
        model: the card.
        folder: of the model on this machine.
        by_camera: whether the config names cameras.
        as_json: one JSON object a line instead of a table.
        out: for it.
    """
    found = promises_to(config.cameras, model, folder) if by_camera else promises_of_scenes(config, model, folder)
    if as_json:
        for promise in found:
            out.file.write(json.dumps(promise.as_json(), allow_nan=False) + "\n")
    else:
        out.print(promises_table(found))


def promises_table(promises: Sequence[Promise]) -> Table:
    """One row per camera and zones, or per scene."""
    table = Table(title="thresholds from normal footage", title_justify="left")
    zoned = any(promise.zones for promise in promises)
    by_camera = any(promise.camera_id is not None for promise in promises)
    for name in ("camera" if by_camera else "scene", *(["zones"] if zoned else [])):
        table.add_column(name, overflow="fold")
    table.add_column("threshold", justify="right")
    table.add_column("normal footage", justify="right")
    table.add_column("events to expect of it")
    table.add_column("budget")
    for promise in promises:
        thresholds = promise.thresholds
        table.add_row(
            promise.camera_id or promise.scene,
            *([", ".join(promise.zones) or "all of the image"] if zoned else []),
            f"{thresholds.opening:.3f}",
            hours_in_words(thresholds.hours),
            promise.expectation,
            promise.verdict,
        )
    return table
