"""Commands that change the run under way: its cameras and its model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from actors.addressed_run import ask
from pipeline.console.options import CameraArgument, JsonOption, ServiceNameOption, ServiceOption, WhereOption
from pipeline.console.terminal import err, out, say_answer

cameras_app = typer.Typer(help="List and change the cameras of the run under way.", no_args_is_help=True)
model_app = typer.Typer(help="Show and change the model of the run under way.", no_args_is_help=True)


@cameras_app.command("list", epilog="Example: cflow-stream cameras list --json")
def cameras_list(
    as_json: JsonOption = False,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Print the cameras of the run, without credentials."""
    from pipeline.console.tables import camera_line, print_object

    for camera in ask({"do": "list"}, config, address, run)["cameras"]:
        print_object(camera, camera_line, as_json=as_json, out=out)


@cameras_app.command("add", epilog="Example: cflow-stream cameras add yard 'rtsp://viewer:${YARD}@10.0.0.8/main'")
def cameras_add(
    camera: CameraArgument,
    url: Annotated[str, typer.Argument(help="Its address; ${NAME} comes from the environment and stays unseen.")],
    scene: Annotated[str | None, typer.Option("--scene", help="Name under which the model knows its view.")] = None,
    sample_fps: Annotated[float | None, typer.Option("--sample-fps", help="Frames per second to score.")] = None,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Read one more camera until the run ends; it gets the config's camera_defaults."""
    from pipeline.config_file import fill_variables

    given = {"id": camera, "url": url, "scene": scene, "sample_fps": sample_fps}
    wanted = {key: value for key, value in given.items() if value is not None}
    say_answer(ask({"do": "add", "camera": fill_variables(wanted, source="cameras add")}, config, address, run))


@cameras_app.command("remove", epilog="Example: cflow-stream cameras remove yard")
def cameras_remove(
    camera: CameraArgument,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Stop reading a camera; its open event ends."""
    say_answer(ask({"do": "remove", "id": camera}, config, address, run))


@cameras_app.command("pause", epilog="Example: cflow-stream cameras pause yard")
def cameras_pause(
    camera: CameraArgument,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Close a camera's stream until `resume`; no offline alert follows."""
    say_answer(ask({"do": "pause", "id": camera}, config, address, run))


@cameras_app.command("resume", epilog="Example: cflow-stream cameras resume yard")
def cameras_resume(
    camera: CameraArgument,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Read a paused camera again."""
    say_answer(ask({"do": "resume", "id": camera}, config, address, run))


@model_app.command("show", epilog="Example: cflow-stream model show --json")
def model_show(
    as_json: JsonOption = False,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Print which model scores, and how a change stands that was asked for."""
    from pipeline.console.model import show_model

    show_model(lambda request: ask(request, config, address, run), as_json=as_json, out=out)


@model_app.command("set", epilog="Example: cflow-stream model set models/retrained")
def model_set(
    model: Annotated[
        str,
        typer.Argument(
            help="Trained model: an address (s3://bucket/model), or a folder of the machine with the run's state."
        ),
    ],
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Have another model score from now on: it is loaded beside the one that does, and takes over without a lost frame.

    Refused where it does not fit the run. Ends with 0 once it scores all cameras, with 1 where it could not be loaded.
    """
    from pipeline.console.model import change_model
    from pipeline.remote_files import is_address

    place = model if is_address(model) else str(Path(model).resolve())
    change_model(
        lambda request: ask(request, config, address, run), {"do": "model set", "place": place}, out=out, err=err
    )


@model_app.command("back", epilog="Example: cflow-stream model back")
def model_back(config: WhereOption = None, address: ServiceOption = None, run: ServiceNameOption = None) -> None:
    """Return to the model before the last change."""
    from pipeline.console.model import change_model

    change_model(lambda request: ask(request, config, address, run), {"do": "model back"}, out=out, err=err)
