"""An evaluation as one HTML file that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.alerts import Event
from pipeline.datasets.base import Clip, Dataset
from pipeline.errors import DatasetError
from pipeline.evaluation.events import events_of
from pipeline.evaluation.figures import (
    CONTOUR,
    ScoreTimeline,
    colour_stops,
    map_limits,
    score_range,
    timeline_svg,
)
from pipeline.evaluation.protocols import METRICS, ClipResult, Evaluation
from pipeline.evaluation.report_alarms import false_alarms, misses
from pipeline.evaluation.report_alarms import shown as shown_mistakes
from pipeline.evaluation.report_glossary import GLOSSARY, METRIC_NAMES
from pipeline.evaluation.report_pictures import Picture, pictures_of
from pipeline.evaluation.tables import (
    ALARM_COLUMNS,
    FLOOR_NAMES,
    RANGE_COLUMNS,
    TABLE_COLUMNS,
    alarm_rows,
    range_rows,
    table_rows,
)
from pipeline.files import write_whole
from pipeline.sinks.parquet_reader import CameraScores, read_clip_scores

MOST_CLIPS = 24
"""Clips shown in one report, which keeps it near 4 MB."""

_MOST_ROWS = 200
_PICTURE_WIDTH_PX = 400
_MOST_MAPS_SAMPLED = 500
"""Anomaly maps that the colour scale is taken from, spread evenly over the clips shown."""

_EVENT_COLUMNS = ("camera_id", "event_id", "start_s", "end_s", "peak_score", "threshold")
"""What the events table shows of an event."""


@dataclass(frozen=True, slots=True)
class _Material:
    """Everything known of one clip that is shown."""

    clip: Clip
    result: ClipResult
    timeline: ScoreTimeline
    maps: npt.NDArray[np.float16] | None
    frames: tuple[tuple[str, int], ...]  # what each picture shows, and which frame it is


def write_report(
    path: Path,
    evaluation: Evaluation,
    scores_root: Path,
    dataset: Dataset,
    *,
    cameras: Sequence[Mapping[str, Any]] = (),
    title: str = "Anomaly detection report",
    notes: Sequence[str] = (),
) -> Path:
    """Write the report; the file appears whole or not at all. Events are those that the scores' rows tell of.

    Args:
        path: the HTML file; its folder is made.
        evaluation: what ``evaluate`` returned for ``scores_root`` and ``dataset``.
        scores_root: the written scores.
        dataset: the labelled data set; frames are decoded from it.
        cameras: the accounts, one row per camera, keys as column names.
        title: heading.
        notes: paragraphs under it.

    Returns:
        ``path``.

    Raises:
        ScoresError: the scores cannot be read.
        DatasetError: a test clip has no labels.
        VideoError: a clip's frames cannot be decoded.
    """
    written = read_clip_scores(scores_root)
    events = {clip.name: events_of(written[clip.name]) for clip in dataset.test}
    clips = {clip.name: clip for clip in dataset.test}
    shown = [
        _material(clips[result.name], result, written[result.name], events[result.name])
        for result in clips_to_show(evaluation)
    ]
    limits = score_range([material.timeline for material in shown])
    colours = _colour_limits(shown)
    page = _environment().get_template("report.html.j2").render(
        title=title,
        notes=notes,
        evaluation=evaluation,
        folder=dataset.root.resolve().name,
        overall=evaluation.overall,
        headline=_headline(evaluation),
        scenes=_scene_table(evaluation),
        alarms=_grid(ALARM_COLUMNS, alarm_rows(evaluation)),
        ranges=_grid(RANGE_COLUMNS, range_rows(evaluation)),
        false_alarms=shown_mistakes(false_alarms(evaluation, written), clips, written, colours),
        misses=shown_mistakes(misses(evaluation, written), clips, written, colours),
        cameras=_table(cameras),
        events=_event_table(events.values()),
        clips=[_clip_view(material, limits, colours) for material in shown],
        colour_limits=colours and [f"{value:.3g}" for value in colours],
        colour_stops=Markup(colour_stops()),
        contour=Markup("rgb({}, {}, {})").format(*CONTOUR),
        glossary=GLOSSARY,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path


def clips_to_show(evaluation: Evaluation, most: int = MOST_CLIPS) -> list[ClipResult]:
    """All clips, or of many as many of each scene's worst as of its best, by their own frame AUROC.

    Clips of one class have no AUROC; they are shown only where a scene has too few others.
    """
    if len(evaluation.clips) <= most:
        return list(evaluation.clips)
    each_side = max(1, most // (2 * len(evaluation.scenes)))
    chosen: set[str] = set()
    for scene in evaluation.scenes:
        members = [clip for clip in evaluation.clips if clip.scene == scene]
        ranked = sorted(
            members, key=lambda clip: (clip.frame_auroc is None, 0.0 if clip.frame_auroc is None else clip.frame_auroc)
        )
        rated = [clip for clip in ranked if clip.frame_auroc is not None] or ranked
        chosen |= {clip.name for clip in rated[:each_side] + rated[-each_side:]}
    return [clip for clip in evaluation.clips if clip.name in chosen]


def _environment() -> Environment:
    """Templates beside this file; every value is escaped unless it is ``Markup``."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def _material(clip: Clip, result: ClipResult, rows: CameraScores, events: Sequence[Event]) -> _Material:
    """Gather a clip's scores, truth, maps and events."""
    labels = clip.frame_labels()
    if labels is None:
        raise DatasetError(f"clip {clip.name}: expected frame labels of a test clip, got none")
    scores, media = rows.anomaly_score, rows.media_time_s
    frames = _frames_of_interest(labels, scores)
    timeline = ScoreTimeline(
        seconds=media - media[0],
        scores=scores,
        thresholds=rows.threshold,
        labels=labels,
        events=[
            (event.start_s - media[0], (media[-1] if event.end_s is None else event.end_s) - media[0])
            for event in events
        ],
        marked=[frame for _, frame in frames],
    )
    maps = np.concatenate(list(rows.iter_maps())) if rows.has_maps else None
    return _Material(clip, result, timeline, maps, frames)


def _frames_of_interest(labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> tuple[tuple[str, int], ...]:
    """The frame that scores highest, and the normal frame whose score is in the middle of all normal ones."""
    highest = int(scores.argmax())
    truth = "anomalous" if labels[highest] else "normal"
    chosen = [(f"highest score, {truth} by ground truth", highest)]
    normal = np.flatnonzero(~labels)
    if normal.size:
        middle = normal[np.argsort(scores[normal], kind="stable")[normal.size // 2]]
        chosen.append(("a normal frame of middling score", int(middle)))
    return tuple(chosen)


def _colour_limits(shown: Sequence[_Material]) -> tuple[float, float] | None:
    """One colour scale for all maps shown, or None where there are none."""
    maps = [material.maps for material in shown if material.maps is not None]
    if not maps:
        return None
    step = max(1, sum(map(len, maps)) // _MOST_MAPS_SAMPLED)
    return map_limits(np.concatenate([one[::step].ravel() for one in maps]))


def _clip_view(material: _Material, limits: tuple[float, float], colours: tuple[float, float] | None) -> dict[str, Any]:
    """What the template shows of a clip."""
    result = material.result
    auroc = "one class only" if result.frame_auroc is None else f"frame AUROC {result.frame_auroc:.4f}"
    return {
        "name": result.name,
        "scene": result.scene,
        "frames": result.frames,
        "anomalous_frames": result.anomalous_frames,
        "auroc": auroc,
        "events": len(material.timeline.events),
        "timeline": Markup(timeline_svg(material.timeline, limits)),
        "pictures": _pictures(material, colours),
    }


def _pictures(material: _Material, colours: tuple[float, float] | None) -> list[Picture]:
    """The frames of interest."""
    captions = [
        (
            frame,
            f"Frame {frame} ({material.timeline.seconds[frame]:.1f} s): {what}."
            f" Score {material.timeline.scores[frame]:.4g}.",
        )
        for what, frame in material.frames
    ]
    maps = {} if material.maps is None else {frame: material.maps[frame] for frame, _ in captions}
    return pictures_of(material.clip, captions, maps, colours)


def _headline(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The metrics, their floors beside them."""
    cards = []
    for metric in METRICS:
        value = getattr(evaluation.overall, metric)
        floors = [
            {"name": label, "value": f"{floor:.3f}", "percent": f"{100 * floor:.1f}"}
            for name, label in FLOOR_NAMES.items()
            if (floor := evaluation.overall.floors[metric].get(name)) is not None
        ]
        cards.append(
            {
                "name": METRIC_NAMES[metric],
                "value": "–" if value is None else f"{value:.4f}",
                "percent": None if value is None else f"{100 * value:.1f}",
                "floors": floors if value is not None else [],
            }
        )
    return cards


def _scene_table(evaluation: Evaluation) -> dict[str, Any] | None:
    """Metrics per scene, where there are several."""
    if len(evaluation.scenes) < 2:
        return None
    return _grid(TABLE_COLUMNS, [row for row in table_rows(evaluation) if not row[0].startswith("floor")])


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Text cells as a table whose first column holds names."""
    columns = [{"name": name, "number": number > 0} for number, name in enumerate(headings)]
    return {"columns": columns, "rows": rows, "left_out": 0}


def _event_table(events: Iterable[Sequence[Event]]) -> dict[str, Any] | None:
    """All events, clip by clip."""
    return _table([{key: getattr(event, key) for key in _EVENT_COLUMNS} for several in events for event in several])


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Rows of plain values as a table whose columns are all keys in the order in which they first come."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if not keys:
        return None
    columns = [
        {
            "name": key.replace("_", " "),
            "number": all(isinstance(row.get(key), int | float | None) for row in rows),
        }
        for key in keys
    ]
    cells = [[_cell(row.get(key)) for key in keys] for row in rows[:_MOST_ROWS]]
    return {"columns": columns, "rows": cells, "left_out": max(0, len(rows) - _MOST_ROWS)}


def _cell(value: Any) -> str:
    """A plain value for people."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
