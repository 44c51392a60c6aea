"""`bench` as a person, or a script, sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.config import Config
from pipeline.errors import BadInputError
from pipeline.evaluation.benchmark import STAGES, USABLE, Capacity, Costs, capacity
from pipeline.evaluation.benchmark_stages import measure
from pipeline.models.card import read_card

_DEFAULT_FPS = 5.0
_MS = 1000.0


def bench(
    config: Config,
    model: Path,
    *,
    video: Path | None,
    video_size: str,
    fps: float | None,
    stream_fps: float | None,
    seconds: float,
    as_json: bool,
    out: Console,
    err: Console,
) -> Capacity:
    """Measure this machine and say how many cameras it carries.

    Args:
        config: device, largest batch, and whether maps are kept.
        model: folder of the model.
        video: footage like the cameras' own; None renders some.
        video_size: of what is rendered, ``WIDTHxHEIGHT``.
        fps: frames per second of a camera that are scored; None takes the config's ``sample_fps``, or 5.
        stream_fps: frames per second that it sends; None takes ``fps``.
        seconds: for decoding, and for every batch size.
        as_json: one JSON line instead of tables.
        out: for results.
        err: for progress.

    Raises:
        BadInputError: something given cannot be read or makes no sense.
    """
    size_px = _parse_size(video_size)
    scored = fps or config.camera_defaults.sample_fps or _DEFAULT_FPS
    sent = stream_fps or scored
    if scored > sent:
        raise BadInputError(f"--fps {scored:g}: expected at most the {sent:g} frames/s that a camera sends")
    card = read_card(model)
    device = config.runtime.device if config.runtime.device != "auto" else _found_device()
    err.print(f"measuring decoding, inference ({device}) and sinks, each alone")
    costs = measure(
        model, card, video=video, video_size_px=size_px, device=device, runtime=config.runtime,
        maps=config.output.maps, seconds=seconds,
    )  # fmt: skip
    carried = capacity(costs, scored_fps=scored, stream_fps=sent, scorers=config.runtime.scorers)
    if as_json:
        line = json.dumps(bench_object(costs, carried, scored, sent), allow_nan=False)
        out.print(line, markup=False, highlight=False, soft_wrap=True)
        return carried
    for table in bench_tables(costs, carried, scored, sent):
        out.print(table)
    out.print(
        f"{carried.cameras} cameras at {scored:g} frames/s scored; the bottleneck is {carried.bottleneck} "
        f"({100 * USABLE:.0f} % of the machine planned for, the rest is for Ray's own calls, the system and bursts)",
        highlight=False,
    )
    return carried


def bench_object(costs: Costs, carried: Capacity, scored_fps: float, stream_fps: float) -> dict[str, Any]:
    """The result for scripts; times in milliseconds per frame."""
    return {
        "cameras": carried.cameras,
        "bottleneck": carried.bottleneck,
        "fps": scored_fps,
        "stream_fps": stream_fps,
        "usable": USABLE,
        "cores": costs.cores,
        "device": costs.device,
        "decode_cpu_ms": _MS * costs.decode_cpu_s,
        "inference": [
            {"batch": b.frames, "ms": _MS * b.wall_s, "cpu_ms": _MS * b.cpu_s, "frames_per_s": 1.0 / b.wall_s}
            for b in costs.inference
        ],
        "sinks_cpu_ms": _MS * costs.sinks_cpu_s,
        "cameras_alone": {stage: carried.alone[stage] for stage in STAGES},
        "cores_used": {stage: carried.cores_used[stage] for stage in STAGES},
        "device_used": carried.device_used,
    }


def bench_tables(costs: Costs, carried: Capacity, scored_fps: float, stream_fps: float) -> list[Table]:
    """What each stage costs, and inference by batch size."""
    stages = Table(
        title=f"a camera that sends {stream_fps:g} frames/s of which {scored_fps:g} are scored", title_justify="left"
    )
    for heading in ("stage", "CPU ms per frame", "cameras if alone", "cores used"):
        stages.add_column(heading, justify="left" if heading == "stage" else "right")
    cpu_s = {"decode": costs.decode_cpu_s, "inference": costs.best_batch.cpu_s, "sinks": costs.sinks_cpu_s}
    for stage in STAGES:
        stages.add_row(
            stage,
            f"{_MS * cpu_s[stage]:.2f}",
            f"{carried.alone[stage]:,.1f}",
            f"{carried.cores_used[stage]:.2f}",
            style="bold" if stage == carried.bottleneck else None,
        )
    batches = Table(title=f"inference on {costs.device}", title_justify="left")
    for heading in ("batch", "ms per frame", "frames/s"):
        batches.add_column(heading, justify="right")
    for batch in costs.inference:
        batches.add_row(str(batch.frames), f"{_MS * batch.wall_s:.2f}", f"{1.0 / batch.wall_s:,.0f}")
    return [stages, batches]


def _parse_size(text: str) -> tuple[int, int]:
    """``1280x720`` as (height, width)."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise BadInputError(f"--video-size: expected WIDTHxHEIGHT such as 1280x720, got {text!r}")
    size_px = int(height), int(width)
    if any(side % 2 or not 64 <= side <= 4320 for side in size_px):
        raise BadInputError(f"--video-size: expected even numbers from 64 to 4320, got {text!r}")
    return size_px


def _found_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
