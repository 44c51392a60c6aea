"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[Path, typer.Option("--config", help="YAML file with the settings.")]
DataOption = Annotated[
    str,
    typer.Option("--data", help="The data set, in its authors' layout: a folder, or an address (s3://bucket/folder)."),
]
ModelOption = Annotated[Path, typer.Option("--model", help="Folder of the trained model.")]
ModelPlaceOption = Annotated[
    str, typer.Option("--model", help="Trained model: a folder, or an address such as s3://bucket/model.")
]
RunModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Trained model, a folder or an address (s3://bucket/model); default: the config's."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", help="Head of a Ray cluster to join, HOST:PORT or auto; without it, Ray is started here."
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Delete what is in the output folder first.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line, for scripts.")]
WhereOption = Annotated[
    Path | None, typer.Option("--config", help="The run's YAML file; without it the newest run of this user is read.")
]
ServiceOption = Annotated[
    str | None,
    typer.Option("--address", help="Head of the Ray cluster with the service that is meant, HOST:PORT or auto."),
]
ServiceNameOption = Annotated[
    str | None, typer.Option("--run", help="Name of the service's run, where a cluster has several.")
]
CameraArgument = Annotated[str, typer.Argument(help="Id of the camera.")]
