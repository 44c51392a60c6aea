"""Commands that set alarms up: what thresholds are made of, and which parts of an image count."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.console.options import CameraArgument, ConfigOption, JsonOption, RunModelOption
from pipeline.console.terminal import err, out
from pipeline.errors import BadInputError, ConfigError

zones_app = typer.Typer(help="Parts of a camera's image that count, or do not.", no_args_is_help=True)
_OF_CALIBRATION = ("model", "model_folder", "camera_defaults", "cameras", "runtime")


def calibrate(
    model: RunModelOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with the cameras; default: the model's scenes are shown.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="Further normal footage, laid out as for `train`, to be added.")
    ] = None,
    from_run: Annotated[
        Path | None, typer.Option("--from-run", help="A run's output folder, whose scores outside events are added.")
    ] = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Add that camera of the run alone.")] = None,
    unconfirmed_are_normal: Annotated[
        bool, typer.Option("--unconfirmed-are-normal", help="Add the run's events, too, but for confirmed ones.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what false-alarm budget the normal footage of a model supports; more of it can be added, without training."""
    from pipeline.console.calibrating import add_footage, add_run, show_promises
    from pipeline.console.footage import open_footage
    from pipeline.models.fetching import find_model

    settings = Config() if config is None else load_config(config, only=_OF_CALIBRATION)
    place = model or settings.model_folder
    if not place:
        raise ConfigError("--model: expected a trained model here or as the config's model_folder, got nothing")
    if data is not None and from_run is not None:
        raise BadInputError("expected --data or --from-run, got both: add one after the other")
    if from_run is None and (camera is not None or unconfirmed_are_normal):
        raise BadInputError("--camera and --unconfirmed-are-normal: expected --from-run beside them, got none")
    if from_run is not None and config is None:
        raise BadInputError("--from-run: expected --config with the run's cameras, got none")
    found = find_model(place, settings)
    if data is not None:
        dataset = open_footage(data, need="train", err=err)
        add_footage(found, dataset, settings, err=err)
    if from_run is not None:
        add_run(found, settings, from_run, camera, unconfirmed_are_normal=unconfirmed_are_normal, err=err)
    by_camera = bool(settings.cameras)
    show_promises(settings, found.card, found.folder, by_camera=by_camera, as_json=as_json, out=out)


@zones_app.command("preview", epilog="Example: cflow-stream zones preview --config cameras.yaml gate --out gate.png")
def zones_preview(
    config: ConfigOption,
    camera: CameraArgument,
    picture: Annotated[Path, typer.Option("--out", help="PNG to be written.")],
) -> None:
    """Draw a camera's picture with a grid to read coordinates off, and its zones as they hold now."""
    from pipeline.console.zones import preview_zones

    preview_zones(load_config(config, only=("camera_defaults", "cameras")), config, camera, picture, out=out)
