"""Alarms on real footage, at thresholds that normal footage alone decided: found, missed, false, and pictures of them.

Usage: python -m benchmarks.alarms_on_footage [--sets ped2,avenue,carpark,bag,person,cars,highway,traffic,demo]
           [--seed 0] [--config FILE] [--epochs N] [--once] [--out FOLDER]
Trains, replays and evaluates every set by the very commands a user types, with the alert settings as shipped. A model
that is complete in FOLDER is not trained again, and one whose training was interrupted goes on; scores and numbers are
always made anew. With --once no model is fitted crosswise (``training.cross_fit: false``), which takes a third of the
steps and measures thresholds on a tenth of the footage. Writes FOLDER/SET/report.html and FOLDER/SET/sheet.png (every
event and every miss at its peak, under its anomaly map), prints two tables, all events and, last, one JSON line; writes
the same into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.accuracy import CONFIG, settings_of
from benchmarks.accuracy_sets import AccuracySet, chosen_sets
from benchmarks.alarms_budgets import at_budgets
from benchmarks.alarms_sets import SETS
from benchmarks.contact_sheet import Tile, contact_sheet
from benchmarks.machine import describe, store
from pipeline.config_file import load_config
from pipeline.datasets.base import Clip
from pipeline.datasets.detect import open_dataset
from pipeline.errors import CflowError
from pipeline.evaluation.figures import map_limits
from pipeline.evaluation.report_alarms import figures
from pipeline.evaluation.report_pictures import images_of, maps_at
from pipeline.files import write_whole
from pipeline.models.card import CARD_FILE, read_card
from pipeline.sinks.parquet_reader import CameraScores, read_clip_scores

ROOT = Path(__file__).resolve().parent.parent
_STDERR = 2  # where the tables of commands go: this one's own output is the table of all sets
_COLOURS = {"found": "#0a7a2f", "false": "#b3263a", "near": "#b36b00", "missed": "#1f5fbf"}
_MOST_TILES = 40

Evaluated = Mapping[str, Any]
"""What ``evaluate`` writes as JSON."""


@dataclass(frozen=True)
class Shot:
    """A frame worth looking at.

    Attributes:
        clip: name of its clip.
        frame: its number.
        kind: ``found`` or ``false`` (an event), ``near`` (an event that is neither), ``missed`` (an anomaly).
        told: what it is, in words.
    """

    clip: str
    frame: int
    kind: str
    told: str


def measure(of: AccuracySet, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train, replay and evaluate one set.

    Args:
        of: the set.
        settings: the whole configuration.
        folder: keeps model, scores, report and pictures.

    Returns:
        What was found, as plain values.
    """
    root = of.footage(folder / "footage")
    config, model, scores = folder / "config.yaml", folder / "model", folder / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(config, yaml.safe_dump(dict(settings)))
    if not ((model / CARD_FILE).exists() and read_card(model).provenance.completed):
        _command("train", "--config", config, "--data", root, "--out", model)
    _command("replay", "--config", config, "--data", root, "--model", model, "--out", scores, "--overwrite")
    places = ["--json", folder / "numbers.json", "--report", folder / "report.html"]
    _command("evaluate", "--config", config, "--scores", scores, "--data", root, *places)
    evaluated: Evaluated = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))
    written = read_clip_scores(scores)
    shots = list(shots_of(evaluated, written))
    clips = {clip.name: clip for clip in open_dataset(root, need="test").test}
    draw(shots, clips, written, folder / "sheet.png")
    alerts = load_config(config, only=("camera_defaults",)).camera_defaults.alerts
    keys = ("thresholds", "frames", "anomalous_frames", "rbdc", "tbdc", "frame_auroc_causal")
    provenance = read_card(model).provenance
    trained_at = datetime.fromtimestamp(provenance.trained_at_s, UTC).isoformat(timespec="minutes")
    return {
        "model": evaluated["model"][:12],
        "trained_at": trained_at,
        "frames_learned": provenance.train_frames,
        "frames_held_out": provenance.holdout_frames,
        **{key: evaluated[key] for key in keys},
        "alarms": evaluated["alarms"],
        "budgets": at_budgets(read_card(model), alerts, list(clips.values()), written),
        "shots": [f"{shot.kind}: {shot.told}" for shot in shots],
    }


def shots_of(evaluated: Evaluated, written: Mapping[str, CameraScores]) -> list[Shot]:
    """Every event, and every anomaly during which no alert opened.

    Each at its highest score: a false event before anything anomalous came, an anomaly by its smoothed scores.

    Args:
        evaluated: as ``evaluate`` writes it.
        written: scores by clip.
    """
    shots: list[Shot] = []
    for name, clip in evaluated["per_clip"].items():
        rows = written[name]
        seconds = rows.media_time_s - rows.media_time_s[0]
        for event in clip["events"]:
            kind = "found" if event["hit"] else "false" if event["false"] else "near"
            behind = [anomaly["first"] for anomaly in clip["anomalies"] if anomaly["first"] > event["opened"]]
            until = min([event["last"] + 1, *behind]) if kind == "false" else event["last"] + 1
            peak = event["first"] + int(rows.anomaly_score[event["first"] : until].argmax())
            opened, last = seconds[event["opened"]], seconds[event["last"]]
            shots.append(
                Shot(name, peak, kind, f"{name} alert at {opened:.1f} s, to {last:.1f} s, {_score(rows, peak)}")
            )
        for anomaly in clip["anomalies"]:
            if anomaly["delay_s"] is None:
                span = slice(anomaly["first"], anomaly["last"] + 1)
                peak = anomaly["first"] + int(rows.smoothed_score[span].argmax())
                first, last = seconds[anomaly["first"]], seconds[anomaly["last"]]
                under = ", alarm since before" if anomaly["under_alarm"] else ""
                told = f"{name} labelled {first:.1f} to {last:.1f} s{under}, {_score(rows, peak)}"
                shots.append(Shot(name, peak, "missed", told))
    return shots


def draw(shots: Sequence[Shot], clips: Mapping[str, Clip], written: Mapping[str, CameraScores], path: Path) -> None:
    """A sheet of the shots, false ones first, under their maps; none where there is nothing to show.

    Args:
        shots: of a set.
        clips: by name.
        written: scores by clip.
        path: the file.
    """
    order = list(_COLOURS)
    shown = sorted(shots, key=lambda shot: ((order.index(shot.kind) - 1) % len(order), shot.clip, shot.frame))
    shown = shown[:_MOST_TILES]
    path.unlink(missing_ok=True)
    if not shown:
        return
    images = {}
    for name in dict.fromkeys(shot.clip for shot in shown):
        frames = [shot.frame for shot in shown if shot.clip == name]
        maps = maps_at(written[name], frames)
        limits = map_limits(np.concatenate([part[::10].ravel() for part in written[name].iter_maps()]))
        images.update({(name, frame): of for frame, of in images_of(clips[name], frames, maps, limits).items()})
    contact_sheet(
        [Tile(images[shot.clip, shot.frame][-1], f"{shot.kind}: {shot.told}", _COLOURS[shot.kind]) for shot in shown],
        path,
    )


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table, a row per set."""
    heads = ("set", "normal min", "anomalies found", "under alarm", "delay s, median (p90)", "events", "false",
             "false per hour (95 %)", "recall at 1 false/h")  # fmt: skip
    rows = [heads, ("---", *["---:"] * (len(heads) - 1))]
    for name, of in found.items():
        alarms = of["alarms"]
        delay = (
            "–" if alarms["delay_median_s"] is None else f"{alarms['delay_median_s']:.2f} ({alarms['delay_p90_s']:.2f})"
        )
        low, high = alarms["false_events_interval"] or (0.0, 0.0)
        rate, recall = alarms["false_events_per_hour"], alarms["recall_at_1_per_hour"]
        rows.append(
            (
                name,
                f"{60 * alarms['normal_hours']:.1f}",
                f"{alarms['anomalies_found']} of {alarms['anomalies']}",
                str(alarms["anomalies_under_alarm"]),
                delay,
                str(alarms["events"]),
                str(alarms["false_events"]),
                "–" if rate is None else f"{rate:.0f} ({low:.0f} to {high:.0f})",
                "–" if recall is None else f"{100 * recall:.0f} %",
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def budget_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table, a row per set and budget."""
    heads = ("set", "budget", "threshold", "promised per hour (95 %)", "held-out events", "anomalies found", "delay s",
             "false")  # fmt: skip
    rows = [heads, ("---", "---", *["---:"] * (len(heads) - 2))]
    for name, of in found.items():
        for at in of["budgets"]:
            promised = [
                "–" if rate is None else f"{rate:.3g} ({low:.2g} to {high:.3g})"
                for rate, (low, high) in zip(
                    at["expected_per_hour"],
                    [bounds or (0.0, float("inf")) for bounds in at["interval_per_hour"]],
                    strict=True,
                )
            ]
            rows.append(
                (
                    name,
                    at["budget"],
                    ", ".join(figures(value) for value in at["thresholds"].values()),
                    "; ".join(promised),
                    str(at["events_on_heldout_normal_footage"]),
                    f"{at['anomalies_found']} of {at['anomalies']}",
                    "–" if at["delay_median_s"] is None else f"{at['delay_median_s']:.2f}",
                    str(at["false_events"]),
                )
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure."""
    names = ",".join(of.name for of in SETS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=names, help=f"some of {names}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--epochs", type=int, help="in place of the configuration's")
    parser.add_argument("--once", action="store_true", help="measure thresholds on a tenth of the footage")
    parser.add_argument("--out", type=Path, default=Path("runs/alarms"), help="keeps models, scores and pictures")
    arguments = parser.parse_args()
    found = {}
    try:
        for of in chosen_sets(SETS, arguments.sets):
            print(of.name, file=sys.stderr, flush=True)
            folder = (arguments.out / of.name).resolve()
            settings = settings_of(arguments.config.resolve(), of, arguments.seed, arguments.epochs)
            settings["training"] |= {"cross_fit": False} if arguments.once else {}
            found[of.name] = measure(of, settings, folder)
    except (CflowError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(table(found), budget_table(found), sep="\n\n")
    for name, of in found.items():
        for shot in of["shots"]:
            print(f"{name}: {shot}")
    alerts = load_config(arguments.config).camera_defaults.alerts
    store({"benchmark": "alarms-on-footage", **describe(), "seed": arguments.seed, "crosswise": not arguments.once,
           "alerts": alerts.model_dump(mode="json"), "found": found})  # fmt: skip


def _score(rows: CameraScores, frame: int) -> str:
    smoothed, threshold = rows.smoothed_score[frame], rows.threshold[frame]
    return f"smoothed {figures(smoothed)} of {figures(threshold)}, p {rows.p_value[frame]:.2g}"


def _command(*arguments: object) -> None:
    command = [sys.executable, str(ROOT / "run_cluster.py"), *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=_STDERR)


if __name__ == "__main__":
    main()
