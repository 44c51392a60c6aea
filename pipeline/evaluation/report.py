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
from pipeline.errors import DatasetError, VideoError
from pipeline.evaluation.events import events_of
from pipeline.evaluation.figures import (
    CONTOUR,
    ScoreTimeline,
    colour_stops,
    jpeg_address,
    map_limits,
    score_range,
    timeline_svg,
    with_map,
    with_truth,
)
from pipeline.evaluation.protocols import METRICS, ClipResult, Evaluation
from pipeline.evaluation.tables import ALARM_COLUMNS, FLOOR_NAMES, TABLE_COLUMNS, alarm_rows, table_rows
from pipeline.files import write_whole
from pipeline.sinks.parquet_reader import CameraScores, read_clip_scores
from pipeline.video.source import open_source

MOST_CLIPS = 24
"""Clips shown in one report, which keeps it near 4 MB."""

_MOST_ROWS = 200
_PICTURE_WIDTH_PX = 400
_MOST_MAPS_SAMPLED = 500
"""Anomaly maps that the colour scale is taken from, spread evenly over the clips shown."""

METRIC_NAMES = {
    "frame_auroc": "Frame AUROC",
    "frame_auroc_causal": "Frame AUROC (causal)",
    "frame_auroc_as_published": "As published (not attainable live)",
    "frame_auroc_macro": "Frame AUROC (macro)",
    "pixel_auroc": "Pixel AUROC",
    "aupro": "AUPRO at 0.3",
}

GLOSSARY = (
    (
        "Frame AUROC",
        "The chance that an anomalous frame, drawn from all frames of all clips, scores higher than a normal one; "
        "ties count half.",
    ),
    (
        "Frame AUROC (causal)",
        "The same of the smoothed scores that alarms use. They are smoothed over the past alone.",
    ),
    (
        "As published (not attainable live)",
        "The same of scores that are smoothed over the future, too, and scaled clip by clip to reach from 0 to 1, as "
        "many papers do. It serves to be set beside theirs; no live camera can do it.",
    ),
    (
        "Frame AUROC (macro)",
        "The same within each clip, averaged over the clips that hold both kinds of frames.",
    ),
    (
        "Pixel AUROC",
        "The chance that an anomalous pixel has a higher value in the anomaly map than a normal one, "
        "all pixels of all frames pooled.",
    ),
    (
        "AUPRO at 0.3",
        "How much of an anomalous region the map covers, averaged over regions, so that small ones count as much as "
        "large ones, and over pixel false-positive rates from 0 to 0.3; 1 is perfect.",
    ),
    (
        "Floor",
        "What a method reaches that sees no pixel: random scores; the time passed in the clip, since anomalies tend to "
        "come late; the true label of each frame, spread over all its pixels. A number means little without it.",
    ),
    (
        "Normal above threshold",
        "The share of normal frames whose smoothed score reached the threshold. An alarm that never ends finds every "
        "anomaly at once: read events and delays beside it.",
    ),
    (
        "False event",
        "An event that opened for nothing: no frame up to half a second after its first alert is anomalous. Counted "
        "per hour of normal footage, with the interval of a Poisson process.",
    ),
    (
        "Anomaly found",
        "A stretch of anomalous frames during which an event was open; the delay is the time from its first frame.",
    ),
    (
        "Event",
        "A stretch in which the smoothed score stayed above the camera's threshold, which was fixed beforehand on "
        "normal footage.",
    ),
)

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


def _pictures(material: _Material, colours: tuple[float, float] | None) -> list[dict[str, Any]]:
    """The frames of interest, each plain and, where there are maps, under its map, with the truth outlined."""
    masks = material.clip.pixel_labels()
    size_px = _picture_size(masks, material.maps)
    images = _decode(material.clip, [frame for _, frame in material.frames], size_px)
    pictures = []
    for what, frame in material.frames:
        image = images[frame]
        mask = None if masks is None else _resized_mask(np.asarray(masks[frame]), size_px)
        layers = [image]
        if material.maps is not None and colours is not None:
            layers.append(with_map(image, material.maps[frame], colours))
        moment = f"{material.timeline.seconds[frame]:.1f} s"
        caption = f"Frame {frame} ({moment}): {what}. Score {material.timeline.scores[frame]:.4g}."
        alts = [f"frame {frame} of {material.clip.name}", f"its anomaly map over frame {frame}"]
        addresses = [jpeg_address(with_truth(layer, mask)) for layer in layers]
        pictures.append({"caption": caption, "addresses": addresses, "alts": alts})
    return pictures


def _picture_size(masks: npt.NDArray[Any] | None, maps: npt.NDArray[np.float16] | None) -> tuple[int, int]:
    """Height and width of the pictures: the shape of the ground truth, or else that of the model's input."""
    height, width = (3, 4)
    for array in (maps, masks):
        if array is not None:
            height, width = array.shape[1:]
    return max(2, round(_PICTURE_WIDTH_PX * height / width / 2) * 2), _PICTURE_WIDTH_PX


def _decode(clip: Clip, frames: Sequence[int], size_px: tuple[int, int]) -> dict[int, npt.NDArray[np.uint8]]:
    """Decode some frames of a clip."""
    images: dict[int, npt.NDArray[np.uint8]] = {}
    with open_source(clip.url, size_px, name=clip.name) as source:
        for index, decoded in enumerate(source):
            if index in frames:
                images[index] = decoded.image
            if len(images) == len(set(frames)):
                break
    if absent := sorted(set(frames) - images.keys()):
        raise VideoError(f"clip {clip.name}: expected a frame {absent[0]}, got {source.decoded} frames")
    return images


def _resized_mask(mask: npt.NDArray[np.bool_], size_px: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Nearest neighbour, which keeps ground truth what it is."""
    rows = (np.arange(size_px[0]) + 0.5) * mask.shape[0] / size_px[0]
    columns = (np.arange(size_px[1]) + 0.5) * mask.shape[1] / size_px[1]
    return mask[rows.astype(int)[:, None], columns.astype(int)]


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
