"""What `stream` and `replay` do: one plan each, run by the same actors."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from actors.session import run
from pipeline.config import CameraSettings, Config
from pipeline.console.progress import Bar, progress_bars
from pipeline.console.tables import alert_line, camera_faults, cameras_table
from pipeline.datasets.base import Clip, Dataset
from pipeline.errors import BadInputError, RunError, VideoError
from pipeline.models.card import ModelCard, check_matches, read_card
from pipeline.runtime.plan import RunPlan, SinkPlan
from pipeline.runtime.status import RunStatus
from pipeline.sinks.locate import run_redis
from pipeline.sinks.parquet import discard_journals
from pipeline.sinks.redis_reader import read_alerts


def stream_cameras(
    config: Config,
    config_file: Path,
    model_folder: Path,
    *,
    duration_s: float | None,
    address: str | None,
    out: Console,
    err: Console,
) -> RunStatus:
    """Score the config's cameras, print alerts as they happen and the books at the end.

    Raises:
        BadInputError: the model, Redis or the cluster is not as the config says; or, after the run, a camera's file
            could not be read (the others were scored).
    """
    card = _checked_card(config, model_folder)
    for camera in config.cameras:
        if camera.trained_as not in card.scenes:
            err.print(
                f"warning: camera {camera.id}: the model knows no scene {camera.trained_as!r} (it knows "
                f"{', '.join(card.scenes)}); its threshold is that of all scenes together",
                markup=False,
                highlight=False,
            )
    folder = config.output.folder
    with run_redis(config, config_file, folder) as redis_url:
        plan = _plan(config, config.cameras, card, model_folder, redis_url, folder / "scores", config.output.maps)
        final = _run_shown(plan, None, address=address, duration_s=duration_s, err=err)
    out.print(cameras_table((camera.as_json() for camera in final.cameras), f"scores in {folder / 'scores'}"))
    failed = [camera.error for camera in final.cameras if camera.state == "failed"]
    _print_faults(final, err)
    if failed:
        raise VideoError("\n".join(failed))
    return final


def replay_dataset(
    config: Config,
    config_file: Path,
    dataset: Dataset,
    model_folder: Path,
    scores_folder: Path,
    *,
    address: str | None,
    out: Console,
    err: Console,
) -> RunStatus:
    """Score every test clip of a data set through the actors of `stream`.

    A clip takes the place of a camera: its name is the camera id, its scene selects embedding and threshold.

    Raises:
        BadInputError: the model or the output folder is not as expected.
        RunError: a frame was lost, or a clip could not be read.
    """
    card = _checked_card(config, model_folder)
    if scores_folder.exists() and any(scores_folder.iterdir()):
        raise BadInputError(
            f"{scores_folder}: expected an empty folder for the scores, got a filled one (--overwrite?)"
        )
    discard_journals(scores_folder)  # of a replay that was killed: its rows are not this one's
    cameras = tuple(_clip_camera(config, clip) for clip in dataset.test)
    counts = [clip.frame_count for clip in dataset.test]
    total = None if None in counts else sum(count or 0 for count in counts)
    with run_redis(config, config_file, scores_folder / "_run") as redis_url:
        plan = _plan(config, cameras, card, model_folder, redis_url, scores_folder, maps=True, replay=True)
        final = _run_shown(plan, total, address=address, duration_s=None, err=err)
    scored = sum(camera.account.scored for camera in final.cameras)
    decoded = sum(camera.account.decoded for camera in final.cameras)
    out.print(f"{len(final.cameras)} clips, {decoded:,} frames decoded, {scored:,} scored: {scores_folder}")
    _print_faults(final, err)
    if scored != decoded or any(camera.state != "finished" for camera in final.cameras):
        raise RunError(
            f"expected every frame of every clip scored, got {scored} of {decoded} decoded; "
            f"ended otherwise: {', '.join(c.camera_id for c in final.cameras if c.state != 'finished') or 'none'}"
        )
    return final


def _checked_card(config: Config, model_folder: Path) -> ModelCard:
    """The model's card, compared with the config where the config speaks of the model."""
    card = read_card(model_folder)
    if "model" in config.model_fields_set:
        check_matches(config.model, card, model_folder)
    return card


def _clip_camera(config: Config, clip: Clip) -> CameraSettings:
    defaults = config.camera_defaults.model_dump()
    # Every frame of a clip is scored, whatever live cameras are thinned to.
    return CameraSettings(**{**defaults, "sample_fps": None}, id=clip.name, url=SecretStr(clip.url), scene=clip.scene)


def _plan(
    config: Config,
    cameras: Sequence[CameraSettings],
    card: ModelCard,
    model_folder: Path,
    redis_url: str,
    scores_folder: Path,
    maps: bool,
    replay: bool = False,
) -> RunPlan:
    sinks = SinkPlan(
        redis_url=SecretStr(redis_url),
        scores_maxlen=config.redis.scores_maxlen,
        alerts_maxlen=config.redis.alerts_maxlen,
        scores_folder=scores_folder.resolve(),
        maps=maps,
        rotate_s=config.output.rotate_s,
    )
    return RunPlan(
        name=f"run-{uuid.uuid4().hex[:8]}",
        cameras=tuple(cameras),
        model_folder=model_folder.resolve(),
        expected_model=config.model if "model" in config.model_fields_set else None,
        size_px=card.model.image_size_px,
        runtime=config.runtime,
        sinks=sinks,
        max_processes=os.cpu_count() if replay else None,
    )


def _run_shown(
    plan: RunPlan, total_frames: int | None, *, address: str | None, duration_s: float | None, err: Console
) -> RunStatus:
    """Run a plan with a progress bar below and alerts above it."""
    with progress_bars(err) as progress, _stop_on_signal(err) as stop, _alerts_shown(plan, err):
        bar = Bar(progress, "starting actors")
        bar(0, total_frames)

        def show(status: RunStatus) -> None:
            dropped = sum(sum(camera.account.dropped.values()) for camera in status.cameras)
            scored = sum(camera.account.scored for camera in status.cameras)
            bar.rename("scored")
            bar(scored, total_frames, f"{dropped} dropped" if dropped else "")

        return run(plan, address=address, stop=stop, duration_s=duration_s, on_status=show)


@contextmanager
def _alerts_shown(plan: RunPlan, err: Console) -> Iterator[None]:
    """Print what arrives in Redis while the block lasts, as any other consumer would see it."""
    url = plan.sinks.redis_url.get_secret_value()
    done = threading.Event()
    wanted = {camera.id for camera in plan.cameras}

    def follow() -> None:
        for alert in read_alerts(url, since="now", follow=True, stop=done):
            if alert["camera_id"] in wanted:
                err.print(alert_line(alert))

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5.0)


@contextmanager
def _stop_on_signal(err: Console) -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT ends the command at once."""
    stop = threading.Event()
    before: dict[int, Callable | int | None] = {}

    def ask(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()
        err.print("stopping: frames that were decoded are still scored")

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_faults(final: RunStatus, err: Console) -> None:
    failed = {camera.camera_id for camera in final.cameras if camera.state == "failed"}
    lines = camera_faults(camera.as_json() for camera in final.cameras if camera.camera_id not in failed)
    for line in [*lines, *final.faults]:
        err.print(f"warning: {line}", markup=False, highlight=False, style="yellow")
