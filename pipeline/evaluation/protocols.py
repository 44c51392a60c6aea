"""From written scores and a labelled data set to an ``Evaluation``.

Nothing is evaluated in part: every labelled frame of every test clip must have exactly one score, and all scores must
come from one model; otherwise ``ScoresError`` says which clip is at fault and how. A frame's score is taken as it was
written. In particular it is not normalised per clip, which would use the clip's other (and later) frames; the one
metric that does so, to be set beside those of papers, is named for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.camera_settings import AlertSettings
from pipeline.datasets.base import Dataset
from pipeline.evaluation.alarms import Alarms, ClipAnomaly, ClipEvent, all_alarms
from pipeline.evaluation.metrics import (
    AUPRO_LIMIT,
    PixelHistogram,
    frame_auroc,
    frame_auroc_macro,
    perfect_frames_floors,
    ramp_score,
    random_padded_macro,
)
from pipeline.evaluation.pixels import PixelCounts, count_pixels, map_thresholds
from pipeline.evaluation.published import as_published
from pipeline.evaluation.regions import RegionCriteria
from pipeline.evaluation.scored_clips import ScoredClip, join_scores

DEFINITIONS = 2
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
        rbdc: area under the share of regions found against false regions a frame, up to 1 of these.
        tbdc: the same of tracks.
        frames: labelled frames, each with one score.
        anomalous_frames: those whose label is anomalous.
        clips: clips they come from.
        one_class_clips: clips that the macro average leaves out.
        regions: connected anomalous regions, or None without pixel metrics.
        tracks: what they are followed over frames to, or None likewise.
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
    rbdc: float | None
    tbdc: float | None
    frames: int
    anomalous_frames: int
    clips: int
    one_class_clips: int
    regions: int | None
    tracks: int | None
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
        anomalies: that were to be found in it.
        thresholds: versions of the thresholds that its scores were held against.
    """

    name: str
    scene: str
    frames: int
    anomalous_frames: int
    frame_auroc: float | None
    events: tuple[ClipEvent, ...]
    anomalies: tuple[ClipAnomaly, ...]
    thresholds: tuple[str, ...]


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

    @property
    def thresholds(self) -> tuple[str, ...]:
        """Versions of all thresholds that scores were held against."""
        return tuple(sorted({version for clip in self.clips for version in clip.thresholds}))

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps(..., allow_nan=False)``; ``docs/evaluation.md`` holds the schema."""
        return {
            "definitions": DEFINITIONS,
            "dataset": self.dataset,
            "model": self.model,
            "thresholds": list(self.thresholds),
            **asdict(self.overall),
            "scene_mean": dict(self.scene_mean),
            "scenes": {scene: asdict(metrics) for scene, metrics in self.scenes.items()},
            "per_clip": {
                clip.name: {
                    "scene": clip.scene,
                    "frames": clip.frames,
                    "anomalous_frames": clip.anomalous_frames,
                    "frame_auroc": clip.frame_auroc,
                    "thresholds": list(clip.thresholds),
                    "events": [asdict(event) for event in clip.events],
                    "anomalies": [asdict(anomaly) for anomaly in clip.anomalies],
                }
                for clip in self.clips
            },
        }


def evaluate(
    scores_root: Path, dataset: Dataset, alerts: AlertSettings | None = None, *, progress: Progress | None = None
) -> Evaluation:
    """Set written scores against a data set's ground truth.

    Args:
        scores_root: folder that ``replay`` (or ``stream``) wrote; rows whose camera is a test clip's name belong to it.
        dataset: the labelled data set.
        alerts: when the cameras raised an alarm; what needs other thresholds than the written ones goes by it. None
            takes the defaults.
        progress: called with frames done and frames in all.

    Raises:
        ScoresError: scores are missing, doubled, not finite, of clips that the data set does not have, or of several
            models.
        DatasetError: a test clip has no labels, or its labels do not fit each other.
    """
    joined, model = join_scores(scores_root, dataset, alerts or AlertSettings())
    total, done = sum(clip.labels.size for clip in joined), 0

    def advance(frames: int) -> None:
        nonlocal done
        done += frames
        if progress is not None:
            progress(done, total)

    thresholds = map_thresholds(joined)
    everything, scenes = PixelCounts.none(thresholds), {}
    for scene in dict.fromkeys(clip.scene for clip in dataset.test):
        members = [clip for clip in joined if clip.clip.scene == scene]
        counts = count_pixels(members, thresholds, advance)
        scenes[scene] = _metrics(members, counts)
        everything.merge(counts)
    return Evaluation(
        dataset=dataset.name,
        model=model,
        overall=_metrics(joined, everything),
        scenes=scenes,
        scene_mean=_scene_mean(scenes.values()),
        clips=tuple(_clip_result(clip) for clip in joined),
    )


def _metrics(clips: Sequence[ScoredClip], counts: PixelCounts) -> Metrics:
    """All metrics of some clips whose pixels are counted."""
    labels = np.concatenate([clip.labels for clip in clips])
    macro = frame_auroc_macro([(clip.labels, clip.scores) for clip in clips])
    pixels, with_pixels = counts.pixels, counts.note is None
    regions = counts.regions.criteria() if with_pixels else RegionCriteria(None, None, 0)
    return Metrics(
        frame_auroc=frame_auroc(labels, np.concatenate([clip.scores for clip in clips])),
        frame_auroc_causal=frame_auroc(labels, np.concatenate([clip.rows.smoothed_score for clip in clips])),
        frame_auroc_as_published=_as_published_auroc(clips, [clip.scores for clip in clips]),
        frame_auroc_macro=macro.value,
        pixel_auroc=pixels.auroc() if with_pixels else None,
        aupro=pixels.aupro() if with_pixels else None,
        rbdc=regions.rbdc,
        tbdc=regions.tbdc,
        frames=int(labels.size),
        anomalous_frames=int(labels.sum()),
        clips=len(clips),
        one_class_clips=macro.left_out,
        regions=pixels.regions if with_pixels else None,
        tracks=regions.tracks if with_pixels else None,
        pixel_auroc_error=pixels.auroc_error() if with_pixels else None,
        aupro_error=pixels.aupro_error() if with_pixels else None,
        pixel_note=counts.note,
        alarms=all_alarms([clip.alarms for clip in clips]),
        floors=_floors(clips, pixels if with_pixels else None),
    )


def _as_published_auroc(clips: Sequence[ScoredClip], scores: Sequence[npt.NDArray[np.float64]]) -> float | None:
    """Frame AUROC, all frames pooled, of scores as papers prepare them."""
    prepared = [as_published(of, clip.rows.media_time_s) for clip, of in zip(clips, scores, strict=True)]
    return frame_auroc(np.concatenate([clip.labels for clip in clips]), np.concatenate(prepared))


def _floors(clips: Sequence[ScoredClip], pixels: PixelHistogram | None) -> Floors:
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


def _clip_result(clip: ScoredClip) -> ClipResult:
    """A clip by itself."""
    return ClipResult(
        name=clip.clip.name,
        scene=clip.clip.scene,
        frames=int(clip.labels.size),
        anomalous_frames=int(clip.labels.sum()),
        frame_auroc=frame_auroc(clip.labels, clip.scores),
        events=clip.alarms.events,
        anomalies=clip.alarms.anomalies,
        thresholds=clip.rows.threshold_versions,
    )
