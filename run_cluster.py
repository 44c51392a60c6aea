"""Streaming anomaly detection for many cameras: from `demo` and `train` to `stream`, `alerts` and `status`.

Exit codes: 0 done, 1 failed, 2 bad input or config, 128 and a signal's number where that ended it undone.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from actors.addressed_run import ask, readable_redis
from actors.alert_commands import alerts_app
from actors.run_commands import cameras_app, model_app
from pipeline.config import Config
from pipeline.config_file import load_config, load_run_config, with_method
from pipeline.console.alarm_setup import calibrate, zones_app
from pipeline.console.entry import run_command
from pipeline.console.leaving import leaving_threads_behind
from pipeline.console.options import (
    AddressOption,
    ConfigOption,
    DataOption,
    JsonOption,
    ModelOption,
    ModelPlaceOption,
    OverwriteOption,
    RunModelOption,
    ServiceNameOption,
    ServiceOption,
    WhereOption,
)
from pipeline.console.terminal import err, out, say_answer
from pipeline.errors import BadInputError, ConfigError
from pipeline.files import remove_output
from pipeline.methods import CHOICES, METHODS
from pipeline.run_folder import RunFolder
from pipeline.shipped import shipped_config, shipped_configs
from pipeline.version import VERSION

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(alerts_app, name="alerts")
app.add_typer(cameras_app, name="cameras")
app.add_typer(model_app, name="model")
app.add_typer(zones_app, name="zones")
_OF_TRAINING = ("model", "training", "runtime")
_OF_REPLAY = ("model", "camera_defaults", "runtime", "redis", "output")


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"cflow-stream {VERSION}", markup=False, highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What the program takes before a command; ``app`` holds the help."""


@app.command(epilog="Example: cflow-stream demo --out runs/demo")
def demo(
    out_folder: Annotated[Path, typer.Option("--out", help="Where footage, model, scores and report go.")] = Path(
        "runs/demo"
    ),
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with the settings; default: `configs demo.yaml`.")
    ] = None,
) -> None:
    """Render synthetic cameras, train on them, stream them, show the alerts and write a report."""
    from actors.demo import run_demo

    config = config or shipped_config("demo.yaml")
    run_demo(load_config(config, only={*_OF_TRAINING, *_OF_REPLAY}), config, out_folder, out=out, err=err)


@app.command(epilog="Example: cflow-stream configs cameras.example.yaml > cameras.yaml")
def configs(
    name: Annotated[str | None, typer.Argument(help="Of the one to print; without it their names are listed.")] = None,
) -> None:
    """Print a config that came with the program, to be edited: cameras, the demo, data sets, encoders, monitoring."""
    if name is None:
        sys.stdout.write("".join(f"{known}\n" for known in shipped_configs()))
    else:
        sys.stdout.write(shipped_config(name).read_text(encoding="utf-8"))


@app.command(epilog="Example: cflow-stream train --config ped2.yaml --data UCSDped2 --out models/ped2")
def train(
    config: ConfigOption,
    data: DataOption,
    model_out: Annotated[Path, typer.Option("--out", help="Folder of the model to be made.")],
    method: Annotated[
        str | None, typer.Option("--method", help=f"{', '.join(CHOICES)}; default: the config's.")
    ] = None,
    overwrite: OverwriteOption = False,
    address: Annotated[
        str | None, typer.Option("--address", help="Head of a Ray cluster to train on, HOST:PORT or auto.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes there, with a GPU each if it has any.")
    ] = None,
    cpus: Annotated[int, typer.Option("--cpus-per-worker", min=1, help="CPUs of each of them.")] = 1,
) -> None:
    """Fit a model to the normal footage of a data set. Ctrl-C leaves a usable model; the same command resumes."""
    from pipeline.console.footage import open_footage
    from pipeline.console.training import Fit, train_with_bars

    if (address is None) != (workers is None):
        raise ConfigError(
            "expected --address of a Ray cluster and --workers together, got one alone (on one machine: ray start "
            "--head, then --address auto)"
        )
    settings = with_method(load_config(config, only=_OF_TRAINING), method)
    dataset = open_footage(data, need="train", err=err, frame_step=settings.training.frame_step)
    if overwrite:
        remove_output(model_out, expected="model.json")
    fit: Fit | None = None
    if address is not None and workers is not None:
        from actors.training import train_together

        fit = partial(train_together, address=address, workers=workers, cpus=cpus)
    train_with_bars(settings, dataset, model_out, out=out, err=err, fit=fit)


app.command(epilog="Example: cflow-stream calibrate --model models/mine --config cameras.yaml --from-run runs/mine")(
    calibrate
)


@app.command(epilog="Example: cflow-stream record --config cameras.yaml --minutes 60 --out footage")
def record(
    config: ConfigOption,
    footage_out: Annotated[Path, typer.Option("--out", help="Folder for the footage; goes on where it has some.")],
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="How long; default: until Ctrl-C.")
    ] = None,
    segment_minutes: Annotated[float, typer.Option("--segment-minutes", min=0.01, help="Length of one file.")] = 10.0,
) -> None:
    """Write the packets of the config's live cameras to files that `train --data` understands."""
    from pipeline.console.recording import record_with_table

    settings = load_config(config, only=("camera_defaults", "cameras"))
    record_with_table(settings, config, footage_out, minutes=minutes, segment_minutes=segment_minutes, out=out, err=err)


@app.command(epilog="Example: cflow-stream check --config cameras.yaml --model models/mine")
def check(
    config: ConfigOption,
    model: RunModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at all that `stream` needs: cameras, model, Redis, webhooks, disk, ports. Ends with 1 where one fails."""
    from pipeline.console.check import check_run

    settings = load_run_config(config)
    if not check_run(settings, config, model or settings.model_folder, as_json=as_json, out=out):
        raise typer.Exit(1)


@app.command(epilog="Example: cflow-stream stream --config cameras.yaml --model models/mine --duration 60")
def stream(
    config: ConfigOption,
    model: RunModelOption = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=0.0, help="Seconds to run; default: until the cameras end.")
    ] = None,
    address: AddressOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it to the cluster at --address as a service, until `stop`.")
    ] = False,
) -> None:
    """Score the config's cameras until they end, the time is up or Ctrl-C."""
    from pipeline.monitoring.endpoint import check_address
    from pipeline.sinks.run_lock import check_unused

    settings = load_run_config(config)
    place = model or settings.model_folder
    if not place:
        raise ConfigError(f"{config}: model_folder: expected a trained model here or with --model, got nothing")
    if detach:
        if address is None:
            raise BadInputError("--detach: expected --address of the Ray cluster that is to run it, got none")
        from actors.detach import start_service

        start_service(settings, place, duration_s=duration, address=address, out=out, err=err)
        return
    check_unused(settings.output.folder)  # before Ray is even imported; the run itself takes the lock
    check_address(settings.metrics)

    from actors.commands import stream_cameras

    stream_cameras(settings, config, place, duration_s=duration, address=address, out=out, err=err)


@app.command(
    epilog="Example: cflow-stream replay --config ped2.yaml --data UCSDped2 --model models/ped2 --out runs/ped2"
)
def replay(
    config: ConfigOption,
    data: DataOption,
    model: ModelPlaceOption,
    scores_out: Annotated[Path, typer.Option("--out", help="Folder for the scores (Parquet).")],
    address: AddressOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Send the test clips of a data set through the actors of `stream`, dropping nothing."""
    from pipeline.console.footage import open_footage
    from pipeline.sinks.run_lock import check_unused

    settings = load_config(config, only=_OF_REPLAY)
    run_folder = RunFolder.of_replay(scores_out).path
    check_unused(run_folder)  # above all before --overwrite
    dataset = open_footage(data, need="test", err=err)
    if overwrite:
        remove_output(scores_out, expected=run_folder.name)

    from actors.commands import replay_dataset

    replay_dataset(settings, config, dataset, model, scores_out, address=address, out=out, err=err)


@app.command(epilog="Example: cflow-stream evaluate --scores runs/ped2 --data UCSDped2 --json ped2.json")
def evaluate(
    scores: Annotated[Path, typer.Option("--scores", help="What `replay` wrote.")],
    data: DataOption,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write an HTML report here.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="That of the replay, where its camera_defaults.alerts are its own.")
    ] = None,
) -> None:
    """Compare written scores with the ground truth of a data set."""
    from pipeline.console.evaluation import evaluate_scores
    from pipeline.console.footage import open_footage

    settings = Config() if config is None else load_config(config, only=("camera_defaults",))
    dataset = open_footage(data, need="test", err=err)
    evaluate_scores(scores, dataset, settings.camera_defaults.alerts, json_file, report, out=out, err=err)


@app.command(epilog="Example: cflow-stream bench --model models/mine --video gate.mp4 --fps 5 --stream-fps 25")
def bench(
    model: ModelOption,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings of the run that is planned; default: the defaults.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option("--video", help="Footage like your cameras' own; default: a rendered clip.")
    ] = None,
    video_size: Annotated[str, typer.Option("--video-size", help="Of the rendered clip.")] = "1280x720",
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.01, help="Frames/s to score of a camera; default: the config's, or 5."),
    ] = None,
    stream_fps: Annotated[
        float | None, typer.Option("--stream-fps", min=0.01, help="Frames/s a camera sends; default: those scored.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="For decoding, and for every batch size.")] = 2.0,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine: how many cameras does it carry, and what is the bottleneck?"""
    from pipeline.console.benchmark import bench as measure_and_show

    settings = Config() if config is None else load_config(config, only=("camera_defaults", "runtime", "output"))
    measure_and_show(
        settings, model, video=video, video_size=video_size, fps=fps, stream_fps=stream_fps, seconds=seconds,
        as_json=as_json, out=out, err=err,
    )  # fmt: skip


@app.command(
    epilog="Example: cflow-stream compare --config ped2.yaml --data UCSDped2 --methods cflow,padim --out runs/compare"
)
def compare(
    config: ConfigOption,
    data: DataOption,
    methods: Annotated[
        str, typer.Option("--methods", help=f"Some of {','.join(CHOICES)}, with commas between.")
    ] = ",".join(METHODS),
    compare_out: Annotated[Path, typer.Option("--out", help="Folder for models, scores and the table.")] = Path(
        "runs/compare"
    ),
    overwrite: OverwriteOption = False,
) -> None:
    """Train and score several methods with the same encoder, and set accuracy, speed, size and memory side by side.

    Given again after an interruption, it goes on where it stopped.
    """
    from actors.commands import replay_dataset
    from pipeline.console.comparison import compare_methods
    from pipeline.console.comparison_folder import STATE_FILE
    from pipeline.console.footage import open_footage
    from pipeline.datasets.base import Dataset

    def replay(settings: Config, dataset: Dataset, model: Path, scores: Path) -> None:
        replay_dataset(settings, config, dataset, model, scores, address=None, out=err, err=err)

    settings = load_config(config, only={*_OF_TRAINING, *_OF_REPLAY})
    dataset = open_footage(data, need="any", err=err, frame_step=settings.training.frame_step)
    if overwrite:
        remove_output(compare_out, expected=STATE_FILE)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    try:
        compare_methods(settings, dataset, names, compare_out, replay, out=out, err=err)
    except KeyboardInterrupt:
        err.print(
            f"interrupted: {compare_out} keeps what is complete; the same command goes on from there", markup=False
        )
        raise


@app.command(epilog="Example: cflow-stream status --json")
def status(
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="A table that is renewed every second until Ctrl-C.")] = False,
    config: WhereOption = None,
    address: ServiceOption = None,
    run: ServiceNameOption = None,
) -> None:
    """Print how the newest run (or that of the config's Redis) and its cameras stand.

    Ends with 0 where the run goes on or ended in good order, with 1 where it is lost, failed or never began, and with 2
    where Redis or the config cannot be read. With --json the first line is the run's: {"run": null} where none began.
    """
    from pipeline.console.status import show_status, watch_status

    if watch and as_json:
        raise BadInputError("status: expected --watch or --json, got both")
    with readable_redis(config, address, run) as url:
        is_healthy = watch_status(url, out=out) if watch else show_status(url, as_json=as_json, out=out, err=err)
    if not is_healthy:
        raise typer.Exit(1)


@app.command(epilog="Example: cflow-stream stop")
def stop(config: WhereOption = None, address: ServiceOption = None, run: ServiceNameOption = None) -> None:
    """End the run under way in good order, as Ctrl-C does, and say what became of its frames."""
    say_answer(ask({"do": "stop"}, config, address, run))


def main() -> None:
    """Run a command; what is no fault of ours is told in one line."""
    with leaving_threads_behind():
        sys.exit(run_command(app, err))


if __name__ == "__main__":
    main()
