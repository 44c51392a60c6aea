"""From written scores and a labelled data set to an ``Evaluation``.

Nothing is evaluated in part: every labelled frame of every test clip must have exactly one score, and all scores must
come from one model; otherwise ``ScoresError`` says which clip is at fault and how. A frame's score is taken as it was
written. In particular it is not normalised per clip, which would use the clip's other (and later) frames; the one
metric that does so, to be set beside those of papers, is named for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.datasets.base import Clip, Dataset
from pipeline.errors import DatasetError, ScoresError
from pipeline.evaluation.alarms import Alarms, ClipAlarms, ClipEvent, all_alarms, clip_alarms
from pipeline.evaluation.metrics import (
    AUPRO_LIMIT,
    PixelHistogram,
    check_finite,
    frame_auroc,
    frame_auroc_macro,
    perfect_frames_floors,
    ramp_score,
    random_padded_macro,
    upsample,
)
from pipeline.evaluation.published import as_published
from pipeline.sinks.parquet_reader import CameraScores, read_clip_scores

DEFINITIONS = 1
"""Version of the definitions in ``docs/evaluation.md``; numbers of different versions do not compare."""

METRICS = (
    "frame_auroc",
    "frame_auroc_causal",
    "frame_auroc_macro",
    "pixel_auroc",
    "aupro",
    "frame_auroc_as_published",
)
"""The metrics, in the order in which they are shown."""

_CHUNK_PIXELS = 1 << 22
"""Pixels that are upsampled and counted at a time (about 100 MB of temporary arrays)."""

_NAMED = 3  # of many clips, in a message

Floors = dict[str, dict[str, float | None]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of a set of clips; one that does not exist is None.

    Attributes:
        frame_auroc: all frames pooled (micro).
        frame_auroc_causal: the same of the smoothed scores that alarms use.
        frame_auroc_as_published: the same of scores smoothed over the future and scaled per clip, as no camera can be.
        frame_auroc_macro: mean over the clips that hold both classes.
        pixel_auroc: all pixels pooled.
        aupro: mean per-region overlap up to a pixel false-positive rate of 0.3.
        frames: labelled frames, each with one score.
        anomalous_frames: those whose label is anomalous.
        clips: clips they come from.
        one_class_clips: clips that the macro average leaves out.
        regions: connected anomalous regions, or None without pixel metrics.
        pixel_auroc_error: the most that counting in bins can have moved ``pixel_auroc``.
        aupro_error: the same for ``aupro``.
        pixel_note: why there are no pixel metrics, or None where there are.
        alarms: what the written decisions and events are worth.
        floors: per metric, what scores reach that see no pixel.
    """

    frame_auroc: float | None
    frame_auroc_causal: float | None
    frame_auroc_as_published: float | None
    frame_auroc_macro: float | None
    pixel_auroc: float | None
    aupro: float | None
    frames: int
    anomalous_frames: int
    clips: int
    one_class_clips: int
    regions: int | None
    pixel_auroc_error: float | None
    aupro_error: float | None
    pixel_note: str | None
    alarms: Alarms
    floors: Floors


@dataclass(frozen=True, slots=True)
class ClipResult:
    """One clip by itself.

    Attributes:
        name: the clip.
        scene: its scene.
        frames: labelled frames.
        anomalous_frames: those whose label is anomalous.
        frame_auroc: of this clip's frames alone, None where they are of one class.
        events: that opened in it.
    """

    name: str
    scene: str
    frames: int
    anomalous_frames: int
    frame_auroc: float | None
    events: tuple[ClipEvent, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one model's scores are worth on one data set.

    Attributes:
        dataset: name of the data set's layout.
        model: fingerprint of the model that made the scores.
        overall: metrics of all test clips.
        scenes: metrics per scene.
        scene_mean: unweighted mean of each metric over the scenes that have it, as CFLOW-AD's authors report.
        clips: each clip by itself, in the data set's order.
    """

    dataset: str
    model: str
    overall: Metrics
    scenes: dict[str, Metrics]
    scene_mean: dict[str, float | None]
    clips: tuple[ClipResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps(..., allow_nan=False)``; ``docs/evaluation.md`` holds the schema."""
        return {
            "definitions": DEFINITIONS,
            "dataset": self.dataset,
            "model": self.model,
            **asdict(self.overall),
            "scene_mean": dict(self.scene_mean),
            "scenes": {scene: asdict(metrics) for scene, metrics in self.scenes.items()},
            "per_clip": {
                clip.name: {
                    "scene": clip.scene,
                    "frames": clip.frames,
                    "anomalous_frames": clip.anomalous_frames,
                    "frame_auroc": clip.frame_auroc,
                    "events": [asdict(event) for event in clip.events],
                }
                for clip in self.clips
            },
        }


@dataclass(frozen=True, slots=True)
class _ScoredClip:
    """A clip with its labels, and its scores joined to them frame by frame."""

    clip: Clip
    labels: npt.NDArray[np.bool_]
    rows: CameraScores
    alarms: ClipAlarms

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Score of each labelled frame: rows are ordered by frame, and each frame has exactly one."""
        return self.rows.anomaly_score


def evaluate(scores_root: Path, dataset: Dataset, *, progress: Progress | None = None) -> Evaluation:
    """Set written scores against a data set's ground truth.

    Args:
        scores_root: folder that ``replay`` (or ``stream``) wrote; rows whose camera is a test clip's name belong to it.
        dataset: the labelled data set.
        progress: called with frames done and frames in all.

    Raises:
        ScoresError: scores are missing, doubled, not finite, of clips that the data set does not have, or of several
            models.
        DatasetError: a test clip has no labels, or its labels do not fit each other.
    """
    written = read_clip_scores(scores_root)
    _check_clips_match(scores_root, written, dataset)
    model = _only_model(scores_root, written)
    joined = [_join(scores_root, clip, written[clip.name]) for clip in dataset.test]

    total, done = sum(clip.labels.size for clip in joined), 0

    def advance(frames: int) -> None:
        nonlocal done
        done += frames
        if progress is not None:
            progress(done, total)

    everything, notes, scenes = PixelHistogram(), [], {}
    for scene in dict.fromkeys(clip.scene for clip in dataset.test):
        members = [clip for clip in joined if clip.clip.scene == scene]
        pixels, note = _count_pixels(members, advance)
        scenes[scene] = _metrics(members, pixels, note)
        everything.merge(pixels)
        notes += [note] if note else []
    return Evaluation(
        dataset=dataset.name,
        model=model,
        overall=_metrics(joined, everything, notes[0] if notes else None),
        scenes=scenes,
        scene_mean=_scene_mean(scenes.values()),
        clips=tuple(_clip_result(clip) for clip in joined),
    )


def _check_clips_match(root: Path, written: dict[str, CameraScores], dataset: Dataset) -> None:
    """Refuse scores of other clips, and test clips without any."""
    expected = {clip.name for clip in dataset.test}
    if not expected:
        raise DatasetError(f"{dataset.root}: expected test clips with labels, got none")
    if strangers := sorted(written.keys() - expected):
        raise ScoresError(f"{root}: expected scores of {dataset.name}'s test clips only, got also {_some(strangers)}")
    if absent := sorted(expected - written.keys()):
        raise ScoresError(
            f"{root}: expected scores of all {len(expected)} test clips of {dataset.name}, got none for {_some(absent)}"
        )


def _some(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _only_model(root: Path, written: dict[str, CameraScores]) -> str:
    """Fingerprint of the model that made all scores."""
    models = sorted({model for rows in written.values() for model in rows.models})
    if len(models) != 1:
        raise ScoresError(f"{root}: expected scores of one model, got {len(models)}: {_some([m[:12] for m in models])}")
    return models[0]


def _join(root: Path, clip: Clip, rows: CameraScores) -> _ScoredClip:
    """Give each labelled frame its one score."""
    labels = clip.frame_labels()
    if labels is None:
        raise DatasetError(f"clip {clip.name}: expected frame labels of a test clip, got none")
    where = f"{root}: clip {clip.name}"
    if sessions := sorted({int(session) for session in np.unique(rows.session)} - {0}):
        raise ScoresError(f"{where}: expected scores of one pass (session 0), got also session {sessions[0]}")
    counts = np.bincount(rows.index, minlength=labels.size)
    if (doubled := np.flatnonzero(counts > 1)).size:
        raise ScoresError(
            f"{where}: expected one score per frame, got {counts[doubled[0]]} for frame {doubled[0]}"
            f" and several for {doubled.size} frames in all (two runs in one folder?)"
        )
    if counts.size > labels.size:
        raise ScoresError(
            f"{where}: expected scores of its {labels.size} labelled frames, got one for frame {counts.size - 1}"
        )
    if (missing := np.flatnonzero(counts == 0)).size:
        raise ScoresError(
            f"{where}: expected a score for each of its {labels.size} labelled frames, got {rows.index.size};"
            f" the first without is frame {missing[0]}"
        )
    for column in ("anomaly_score", "smoothed_score"):
        try:
            check_finite(getattr(rows, column))
        except ScoresError as error:
            raise ScoresError(f"{where}: {column}: {error}") from None
    return _ScoredClip(clip, labels, rows, clip_alarms(labels, rows))


def _count_pixels(clips: Sequence[_ScoredClip], advance: Callable[[int], None]) -> tuple[PixelHistogram, str | None]:
    """Count the pixels of a scene, or say why its pixel metrics do not exist."""
    pixels, note = PixelHistogram(), None
    for clip in clips:
        note = note or _count_clip(clip, pixels)
        advance(clip.labels.size)
    return pixels, note


def _count_clip(clip: _ScoredClip, pixels: PixelHistogram) -> str | None:
    """Count one clip's pixels; returns what is missing for it, or None."""
    if not clip.rows.has_maps:
        return f"no pixel metrics: the scores of clip {clip.clip.name} hold no anomaly maps (replay with output.maps)"
    masks = clip.clip.pixel_labels()
    if masks is None:
        return f"no pixel metrics: clip {clip.clip.name} has no pixel masks"
    if len(masks) != clip.labels.size:
        raise DatasetError(
            f"clip {clip.clip.name}: expected {clip.labels.size} pixel masks, one per frame label, got {len(masks)}"
        )
    for part, maps in _chunks(clip.rows.iter_maps(), size_px=masks.shape[1:]):
        try:
            pixels.add(np.asarray(masks[part]), upsample(maps, masks.shape[1:]))
        except ScoresError as error:
            raise ScoresError(f"clip {clip.clip.name}: anomaly maps from frame {part.start} on: {error}") from None
    return None


def _chunks(
    maps: Iterator[npt.NDArray[np.float16]], size_px: tuple[int, int]
) -> Iterator[tuple[slice, npt.NDArray[np.float16]]]:
    """Cut anomaly maps so that each piece, upsampled, stays within ``_CHUNK_PIXELS``; says which frames each holds."""
    step, first = max(1, _CHUNK_PIXELS // (size_px[0] * size_px[1])), 0
    for several in maps:
        for start in range(0, len(several), step):
            piece = several[start : start + step]
            yield slice(first, first + len(piece)), piece
            first += len(piece)


def _metrics(clips: Sequence[_ScoredClip], pixels: PixelHistogram, pixel_note: str | None) -> Metrics:
    """All metrics of some clips whose pixels are counted."""
    labels = np.concatenate([clip.labels for clip in clips])
    macro = frame_auroc_macro([(clip.labels, clip.scores) for clip in clips])
    with_pixels = pixel_note is None
    return Metrics(
        frame_auroc=frame_auroc(labels, np.concatenate([clip.scores for clip in clips])),
        frame_auroc_causal=frame_auroc(labels, np.concatenate([clip.rows.smoothed_score for clip in clips])),
        frame_auroc_as_published=_as_published_auroc(clips, [clip.scores for clip in clips]),
        frame_auroc_macro=macro.value,
        pixel_auroc=pixels.auroc() if with_pixels else None,
        aupro=pixels.aupro() if with_pixels else None,
        frames=int(labels.size),
        anomalous_frames=int(labels.sum()),
        clips=len(clips),
        one_class_clips=macro.left_out,
        regions=pixels.regions if with_pixels else None,
        pixel_auroc_error=pixels.auroc_error() if with_pixels else None,
        aupro_error=pixels.aupro_error() if with_pixels else None,
        pixel_note=pixel_note,
        alarms=all_alarms([clip.alarms for clip in clips]),
        floors=_floors(clips, pixels if with_pixels else None),
    )


def _as_published_auroc(clips: Sequence[_ScoredClip], scores: Sequence[npt.NDArray[np.float64]]) -> float | None:
    """Frame AUROC, all frames pooled, of scores as papers prepare them."""
    prepared = [as_published(of, clip.rows.media_time_s) for clip, of in zip(clips, scores, strict=True)]
    return frame_auroc(np.concatenate([clip.labels for clip in clips]), np.concatenate(prepared))


def _floors(clips: Sequence[_ScoredClip], pixels: PixelHistogram | None) -> Floors:
    """What scores reach that see no pixel; a floor is None where its metric does not exist."""
    labels = [clip.labels for clip in clips]
    ramps = [ramp_score(clip.size) for clip in labels]
    micro = frame_auroc(np.concatenate(labels), np.concatenate(ramps))
    random = None if micro is None else 0.5
    macro = frame_auroc_macro(list(zip(labels, ramps, strict=True))).value
    exist = pixels is not None and pixels.auroc() is not None
    perfect = perfect_frames_floors(pixels.normal_share_beside) if pixels is not None and exist else (None, None)
    return {
        "frame_auroc": {"random": random, "time_in_clip": micro},
        "frame_auroc_causal": {"random": random, "time_in_clip": micro},
        "frame_auroc_as_published": {"random": random, "time_in_clip": _as_published_auroc(clips, ramps)},
        "frame_auroc_macro": {
            "random": None if macro is None else 0.5,
            "time_in_clip": macro,
            "random_padded": random_padded_macro(labels),
        },
        "pixel_auroc": {"random": 0.5 if exist else None, "perfect_frames": perfect[0]},
        "aupro": {"random": AUPRO_LIMIT / 2 if exist else None, "perfect_frames": perfect[1]},
    }


def _scene_mean(scenes: Iterable[Metrics]) -> dict[str, float | None]:
    """Unweighted mean of each metric over the scenes that have it."""
    means: dict[str, float | None] = {}
    for metric in METRICS:
        values = [value for scene in scenes if (value := getattr(scene, metric)) is not None]
        means[metric] = float(np.mean(values)) if values else None
    return means


def _clip_result(clip: _ScoredClip) -> ClipResult:
    """A clip by itself."""
    return ClipResult(
        name=clip.clip.name,
        scene=clip.clip.scene,
        frames=int(clip.labels.size),
        anomalous_frames=int(clip.labels.sum()),
        frame_auroc=frame_auroc(clip.labels, clip.scores),
        events=clip.alarms.events,
    )
