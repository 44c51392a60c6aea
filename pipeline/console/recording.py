"""`record` as a person sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.console.progress import LineClock
from pipeline.errors import ConfigError, RunError
from pipeline.signals import caught_signals
from pipeline.video.record import CameraRecorder, RecorderStatus, record_cameras
from pipeline.video.recordings import LONGEST_SCENE, RecordingFolder

_NAMED = 5  # cameras of many, in a line


def record_with_table(
    settings: Config,
    config_file: Path,
    out_folder: Path,
    *,
    minutes: float | None,
    segment_minutes: float,
    out: Console,
    err: Console,
) -> list[RecorderStatus]:
    """Record the config's live cameras, with a table that follows them, and say what came of it.

    Args:
        settings: whose cameras are recorded.
        config_file: where the settings come from, for messages.
        out_folder: for the recordings.
        minutes: how long; None records until Ctrl-C.
        segment_minutes: length of one segment.
        out: for the final table.
        err: for progress and messages.

    Raises:
        ConfigError: no live camera, or a scene whose name is too long for files.
        BadInputError: the folder holds something else.
        RunError: the disk is full, or nothing at all could be recorded.
    """
    cameras = _live_cameras(settings, config_file, err)
    with RecordingFolder(out_folder) as folder:
        for path in folder.salvage():
            err.print(f"kept what an earlier run had not finished: {path}", markup=False, highlight=False)
        recorders = [CameraRecorder(camera, folder, 60.0 * segment_minutes) for camera in cameras]

        def statuses() -> list[RecorderStatus]:
            return [recorder.status() for recorder in recorders]

        duration_s = None if minutes is None else 60.0 * minutes
        try:
            with (
                # It ends within seconds, in which an impatient Ctrl-C would cost a segment of each camera.
                caught_signals(second_interrupts=False) as signals,
                follow_recording(statuses, err, LineClock(endless=minutes is None)) as refresh,
            ):
                record_cameras(recorders, duration_s=duration_s, stop=signals.stop, tick=refresh)
        finally:
            out.print(recordings_table(statuses()))
    done = statuses()
    for status in done:
        if status.error:
            err.print(status.error, markup=False, highlight=False)
    if not any(status.segments for status in done):
        raise RunError(f"{out_folder}: expected recordings of {len(done)} cameras, got none")
    out.print(f"train on it: cflow-stream train --data {out_folder} ...", markup=False, highlight=False)
    return done


def recordings_table(statuses: Sequence[RecorderStatus]) -> Table:
    """One row per camera: what was recorded, and what came between."""
    table = Table(title="recordings", title_justify="left")
    for heading in ("camera", "scene", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("segments", "minutes", "MB", "reconnects", "gaps", "unreadable"):
        table.add_column(heading, justify="right")
    for status in statuses:
        table.add_row(
            Text(status.camera_id),
            Text(status.scene),
            status.state,
            f"{status.segments:,}",
            f"{status.recorded_s / 60:,.2f}",
            f"{status.recorded_bytes / 1e6:,.1f}",
            f"{status.reconnects:,}",
            f"{status.gaps:,}",
            f"{status.unreadable:,}",
        )
    return table


def _live_cameras(settings: Config, config_file: Path, err: Console) -> list[CameraSettings]:
    """The cameras to be recorded; files need no recording, which is said of each."""
    live = [camera for camera in settings.cameras if camera.is_live]
    if not live:
        raise ConfigError(f"{config_file}: cameras: expected at least one live camera to record, got none")
    for camera in live:
        if len(camera.scene_name) > LONGEST_SCENE:
            raise ConfigError(
                f"{config_file}: cameras: {camera.id}: scene: expected at most {LONGEST_SCENE} characters to name "
                f"recordings after, got {len(camera.scene_name)}"
            )
    for camera in settings.cameras:
        if camera not in live:
            err.print(
                f"camera {camera.id}: its url is a file, which is not recorded: copy it to "
                f"training/videos/{camera.scene_name}_NUMBER to train on it",
                markup=False,
                highlight=False,
            )
    return live


def recording_line(statuses: Sequence[RecorderStatus]) -> str:
    """All cameras in one line, and which of them are not recorded just now."""
    away = [f"{status.camera_id} ({status.state})" for status in statuses if status.state != "recording"]
    named = ", ".join(away[:_NAMED]) + (f" and {len(away) - _NAMED} more" if len(away) > _NAMED else "")
    return (
        f"recording: {len(statuses) - len(away)} of {len(statuses)} cameras, "
        f"{sum(status.segments for status in statuses):,} segments, "
        f"{sum(status.recorded_s for status in statuses) / 60:,.2f} minutes, "
        f"{sum(status.recorded_bytes for status in statuses) / 1e6:,.1f} MB, "
        f"{sum(status.reconnects for status in statuses):,} reconnects, "
        f"{sum(status.gaps for status in statuses):,} gaps, "
        f"{sum(status.unreadable for status in statuses):,} unreadable"
        + (f"; not recorded now: {named}" if named else "")
    )


@contextmanager
def follow_recording(
    statuses: Callable[[], list[RecorderStatus]], err: Console, line_clock: LineClock
) -> Iterator[Callable[[], None]]:
    """What is to be called often: it draws a table anew or, in a log, writes a line now and then."""
    if not err.is_terminal:

        def tell() -> None:
            if line_clock.is_due():
                err.print(recording_line(statuses()), markup=False, highlight=False, soft_wrap=True)

        yield tell
        return
    with Live(console=err, auto_refresh=False, transient=True) as live:
        yield lambda: live.update(recordings_table(statuses()), refresh=True)
