"""What `stream` and `replay` do: one plan each, run by the same actors."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console

from actors.control import Apply, Attended, Ended, RunControl, unattended
from actors.control_socket import serve_control
from actors.plans import replay_plan, stream_plan
from actors.run import run
from actors.run_models import RunModels
from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.console.alert_lines import alert_line
from pipeline.console.footage import passed_over_count
from pipeline.console.progress import Bar, progress_bars
from pipeline.console.tables import camera_errors, cameras_table
from pipeline.datasets.base import Dataset
from pipeline.datasets.image_rates import with_image_fps
from pipeline.errors import BadInputError, CflowError, RedisError, RunError, VideoError
from pipeline.locked_folder import locked_folder
from pipeline.models.card import ModelCard, unknown_scenes
from pipeline.models.fetching import find_model
from pipeline.run_folder import RunFolder
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.status import RunStatus
from pipeline.scoring.calibrations import provisional_lines
from pipeline.scoring.run_footage import normal_footage
from pipeline.signals import Signals, caught_signals
from pipeline.sinks.locate import run_redis
from pipeline.sinks.parquet import discard_journals
from pipeline.sinks.redis_reader import read_alerts
from pipeline.sinks.run_lock import check_unused, run_lock
from pipeline.sinks.run_status import living_run

_REDIS_PAUSE_S = 1.0
_LAST_ALERTS_S = 1.0  # following ends within half a second, unless Redis hangs
_DAMAGED = ("corrupt", "decode_error")


def stream_cameras(
    config: Config,
    config_file: Path,
    model_place: str,
    *,
    duration_s: float | None,
    address: str | None,
    out: Console,
    err: Console,
) -> RunStatus:
    """Score the config's cameras, print alerts as they happen and the frame counts at the end.

    Raises:
        BadInputError: the model, Redis or the cluster is not as the config says; or, after the run, a camera's file
            could not be read (the others were scored).
    """
    model = find_model(model_place, config)
    card = model.card
    _warn_of_scenes(config.cameras, card, err)
    for line in provisional_lines(config.cameras, card, normal_footage(card, model.folder, config.cameras)):
        err.print(line, markup=False, highlight=False)
    folder, scores_folder = config.output.folder, RunFolder(config.output.folder).stream_scores
    with run_lock(folder), run_redis(config, config_file, folder) as redis_url:
        _warn_of_other_run(config, redis_url, err)
        plan = stream_plan(config, card, model.source, redis_url)
        with _stopped_by_signals(err, reloads=True) as signals:
            attended = _attending(config, config_file, card, folder, signals, err)
            final = _run_shown(plan, None, signals, address=address, duration_s=duration_s, err=err, attended=attended)
    out.print(cameras_table((camera.as_json() for camera in final.cameras), f"scores in {scores_folder}"))
    if final.archived.decoded:
        dropped = sum(final.archived.dropped.values())
        out.print(
            f"cameras removed before: {final.archived.decoded:,} frames decoded, {final.archived.scored:,} scored, "
            f"{dropped:,} dropped"
        )
    failed = [camera.error for camera in final.cameras if camera.state == "failed"]
    _print_unwritten(final, err)
    if failed:
        raise VideoError("\n".join(failed))
    return final


def replay_dataset(
    config: Config,
    config_file: Path,
    dataset: Dataset,
    model_place: str | Path,
    scores_folder: Path,
    *,
    address: str | None,
    out: Console,
    err: Console,
) -> RunStatus:
    """Score every test clip of a data set through the actors of `stream`.

    A clip takes the place of a camera: its name is the camera id, its scene selects embedding and threshold. A folder
    of images of which the data set does not tell how it was filmed plays as fast as the training footage.

    Raises:
        BadInputError: the model or the output folder is not as expected.
        RunError: a frame was lost, a clip could not be read, or not everything could be written.
    """
    state_folder = RunFolder.of_replay(scores_folder).path
    check_unused(state_folder)  # or the folder would be told to be a filled one, which --overwrite empties
    model = find_model(model_place, config)
    card = model.card
    if scores_folder.exists() and any(scores_folder.iterdir()):
        raise BadInputError(
            f"{scores_folder}: expected an empty folder for the scores, got a filled one (--overwrite?)"
        )
    clips = with_image_fps(dataset.test, lambda _: card.footage_fps)
    cameras = tuple(config.clip_settings(clip.name, clip.url, clip.scene, clip.image_fps) for clip in clips)
    _warn_of_scenes(cameras, card, err)
    counts = [clip.frame_count for clip in dataset.test]
    total = None if None in counts else sum(count or 0 for count in counts)
    with run_lock(state_folder), run_redis(config, config_file, state_folder) as redis_url:
        _warn_of_other_run(config, redis_url, err)
        discard_journals(scores_folder)  # of a replay that was killed: its rows are not this one's
        plan = replay_plan(config, cameras, card, model.source, redis_url, scores_folder)
        with _stopped_by_signals(err) as signals:
            final = _run_shown(plan, total, signals, address=address, duration_s=None, err=err)
    totals = final.totals()
    scored, decoded = totals["scored"], totals["decoded"]
    out.print(f"{len(final.cameras)} clips, {decoded:,} frames decoded, {scored:,} scored: {scores_folder}")
    if dataset.passed_over:
        out.print(passed_over_count(dataset.passed_over), markup=False, highlight=False)
    _print_unwritten(final, err)
    damaged = sum(totals["dropped"].get(reason, 0) for reason in _DAMAGED)
    if scored != decoded - damaged or any(camera.state != "finished" for camera in final.cameras):
        raise RunError(
            f"expected every frame of every clip scored, got {scored} of {decoded - damaged} that could be decoded; "
            f"ended otherwise: {', '.join(c.camera_id for c in final.cameras if c.state != 'finished') or 'none'}"
        )
    if final.unwritten:
        raise RunError(f"{scores_folder}: expected all scores to be written, got what is said above; replay again")
    return final


def _warn_of_scenes(cameras: Sequence[CameraSettings], card: ModelCard, err: Console) -> None:
    for line in unknown_scenes(cameras, card.scenes):
        _warn(err, line)


def _warn_of_other_run(config: Config, redis_url: str, err: Console) -> None:
    if config.redis.is_embedded:  # nobody else's: at most the sign of life of a run that was killed here seconds ago
        return
    try:
        line = living_run(redis_url)
    except RedisError as error:  # what stands there is none of ours, and is written anew
        line = str(error)
    if line is not None:
        _warn(err, line)


def _run_shown(
    plan: RunPlan,
    total_frames: int | None,
    signals: Signals,
    *,
    address: str | None,
    duration_s: float | None,
    err: Console,
    attended: Attended = unattended,
) -> RunStatus:
    """Run a plan with a progress bar below and alerts above it."""
    watched = {camera.id for camera in plan.cameras}

    def attended_and_watched(apply: Apply, models: RunModels) -> AbstractContextManager[Ended]:
        def apply_and_watch(cameras: Sequence[CameraSettings], paused: frozenset[str]) -> None:
            watched.update(camera.id for camera in cameras)
            apply(cameras, paused)

        return attended(apply_and_watch, models)

    with progress_bars(err) as progress, _alerts_shown(plan, watched, err):
        bar = Bar(progress, "starting actors")
        bar(0, total_frames)
        warned: set[str] = set()
        told: set[str] = set()

        def show(status: RunStatus) -> None:
            nonlocal warned
            for line in _told_once(status):
                if line not in told:
                    err.print(line, markup=False, highlight=False)
                    told.add(line)
            for trouble in status.troubles:
                if trouble.key not in warned:
                    _warn(err, trouble.text)
            warned = {trouble.key for trouble in status.troubles}
            totals = status.totals()
            dropped = sum(totals["dropped"].values())
            bar.rename("scored")
            bar(totals["scored"], total_frames, f"{dropped} dropped" if dropped else "")

        # A camera process that does not learn of the end in time leaves its counter files, which nobody needs then.
        with locked_folder(plan.counters_folder.name, inside=plan.counters_folder.parent):
            return run(
                plan,
                address=address,
                stop=signals.stop,
                duration_s=duration_s,
                on_status=show,
                attended=attended_and_watched,
            )


def _told_once(status: RunStatus) -> Iterator[str]:
    """What is good to know of a run, and is nothing to be tried again."""
    for tuning in sorted(status.tunings):
        yield f"model: {tuning}"
    for camera in status.cameras:
        if camera.untimed:
            yield f"camera {camera.camera_id}: {camera.untimed}: its pictures are timed by their arrival"


def _attending(
    config: Config, config_file: Path, card: ModelCard, folder: Path, signals: Signals, err: Console
) -> Attended:
    """What is asked of a run while it lasts: by the commands ``cameras`` and ``stop``, and by SIGHUP."""

    @contextmanager
    def attended(apply: Apply, models: RunModels) -> Iterator[Ended]:
        run_control = RunControl(config, config_file, card.scenes, apply, models, stop=signals.stop.set)

        def reload_on_request() -> None:
            while not signals.stop.is_set():
                signals.reload.wait()
                signals.reload.clear()
                if signals.stop.is_set() or done.is_set():
                    return
                try:
                    lines = run_control.reload()
                except CflowError as error:
                    lines = [f"not reloaded: {line}" for line in str(error).splitlines()]
                for line in lines:
                    err.print(line, markup=False, highlight=False)

        done = threading.Event()
        thread = threading.Thread(target=reload_on_request, name="reload", daemon=True)
        thread.start()
        with serve_control(run_control, folder):
            try:
                yield run_control.over
            finally:
                done.set()
                signals.reload.set()

    return attended


@contextmanager
def _alerts_shown(plan: RunPlan, watched: Collection[str], err: Console) -> Iterator[None]:
    """Print what arrives in Redis about these cameras while the block lasts, as any other consumer would see it."""
    url = plan.sinks.redis_url.get_secret_value()
    done = threading.Event()

    def follow() -> None:
        since = "now"
        while not done.is_set():
            try:
                for alert in read_alerts(url, since=since, follow=True, stop=done):
                    since = alert["id"]
                    if alert["event_id"].startswith(f"{plan.name}-"):  # whoever sees this has started the run
                        continue
                    if alert.get("camera_id") is None or alert["camera_id"] in watched:
                        err.print(alert_line(alert))
            except RedisError:  # away when this began; the scorer meets the same and says so
                done.wait(_REDIS_PAUSE_S)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=_LAST_ALERTS_S)


def _stopped_by_signals(err: Console, *, reloads: bool = False) -> AbstractContextManager[Signals]:
    """Signals end the run in good order; SIGHUP may reload its cameras instead."""

    def say() -> None:
        err.print("stopping: frames that were decoded are still scored")

    return caught_signals(on_stop=say, reloads=reloads)


def _warn(err: Console, line: str) -> None:
    err.print(f"warning: {line}", markup=False, highlight=False, style="yellow")


def _print_unwritten(final: RunStatus, err: Console) -> None:
    failed = {camera.camera_id for camera in final.cameras if camera.state == "failed"}
    lines = camera_errors(camera.as_json() for camera in final.cameras if camera.camera_id not in failed)
    for line in [*lines, *final.unwritten]:
        _warn(err, line)
