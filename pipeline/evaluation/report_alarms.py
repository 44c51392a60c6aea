"""The worst false alarms and misses of an evaluation, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.datasets.base import Clip
from pipeline.evaluation.alarms import ClipAnomaly, ClipEvent
from pipeline.evaluation.protocols import ClipResult, Evaluation
from pipeline.evaluation.report_pictures import Picture, maps_at, pictures_of
from pipeline.sinks.parquet_reader import CameraScores

MOST_SHOWN = 6
"""Of each kind, in one report."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A false event or an anomaly that no alert opened during.

    Attributes:
        clip: name of the clip, which is the camera's id.
        frame: that is shown, its number.
        caption: camera, time, score and how unusual it is.
        weight: the more, the worse.
    """

    clip: str
    frame: int
    caption: str
    weight: float


@dataclass(frozen=True, slots=True)
class Mistakes:
    """The worst of a kind.

    Attributes:
        total: how many there are.
        pictures: of the worst, the worst first.
    """

    total: int
    pictures: tuple[Picture, ...]


def false_alarms(evaluation: Evaluation, written: Mapping[str, CameraScores]) -> list[Mistake]:
    """All false events, those whose smoothed score went farthest above the threshold first.

    Each is shown by its frame that scores highest, before anything anomalous came while it was open.

    Args:
        evaluation: of the scores.
        written: scores by clip.
    """
    return _worst_first(
        _false_alarm(clip, event, written[clip.name])
        for clip in evaluation.clips
        for event in clip.events
        if event.false
    )


def misses(evaluation: Evaluation, written: Mapping[str, CameraScores]) -> list[Mistake]:
    """All anomalies that no alert opened during, the longest first.

    Each is shown by its frame whose smoothed score is highest: there it came closest.

    Args:
        evaluation: of the scores.
        written: scores by clip.
    """
    return _worst_first(
        _miss(clip, anomaly, written[clip.name])
        for clip in evaluation.clips
        for anomaly in clip.anomalies
        if anomaly.delay_s is None
    )


def shown(
    mistakes: Sequence[Mistake],
    clips: Mapping[str, Clip],
    written: Mapping[str, CameraScores],
    colours: tuple[float, float] | None,
    most: int = MOST_SHOWN,
) -> Mistakes:
    """The worst mistakes as pictures; each clip is decoded once.

    Args:
        mistakes: of a kind, the worst first.
        clips: by name.
        written: scores by clip.
        colours: of the maps, as in the rest of the report; None leaves maps out.
        most: how many to show.

    Raises:
        VideoError: their frames cannot be decoded.
    """
    worst = mistakes[:most]
    pictures: dict[tuple[str, int], Picture] = {}
    for name in dict.fromkeys(mistake.clip for mistake in worst):
        captions = {mistake.frame: mistake.caption for mistake in worst if mistake.clip == name}
        maps = maps_at(written[name], list(captions))
        made = pictures_of(clips[name], list(captions.items()), maps, colours)
        pictures.update({(name, frame): picture for frame, picture in zip(captions, made, strict=True)})
    return Mistakes(len(mistakes), tuple(pictures[mistake.clip, mistake.frame] for mistake in worst))


def last_for_nothing(event: ClipEvent, anomalies: Sequence[ClipAnomaly]) -> int:
    """The last frame of a false event before something anomalous came while it was open."""
    return min([event.last, *(anomaly.first - 1 for anomaly in anomalies if anomaly.first > event.opened)])


def figures(value: float) -> str:
    """A score with three figures, or with all before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def _false_alarm(clip: ClipResult, event: ClipEvent, rows: CameraScores) -> Mistake:
    frames = slice(event.first, last_for_nothing(event, clip.anomalies) + 1)
    peak = event.first + int(rows.anomaly_score[frames].argmax())
    margin = float((rows.smoothed_score - rows.threshold)[frames].max())
    time_of = _clock(rows)
    span = f"alarm from {time_of(event.first)} to {time_of(event.last)} with nothing labelled when it opened"
    return Mistake(clip.name, peak, f"{clip.name}, {time_of(peak)}: {_score(rows, peak)}; {span}.", margin)


def _miss(clip: ClipResult, anomaly: ClipAnomaly, rows: CameraScores) -> Mistake:
    frames = slice(anomaly.first, anomaly.last + 1)
    peak = anomaly.first + int(rows.smoothed_score[frames].argmax())
    time_of = _clock(rows)
    why = "an event was open already" if anomaly.under_alarm else "nothing was open"
    span = f"labelled from {time_of(anomaly.first)} to {time_of(anomaly.last)}, no alert opened then ({why})"
    lasts_s = float(rows.media_time_s[anomaly.last] - rows.media_time_s[anomaly.first])
    return Mistake(clip.name, peak, f"{clip.name}, {time_of(peak)}: {_score(rows, peak)}; {span}.", lasts_s)


def _score(rows: CameraScores, frame: int) -> str:
    """A frame's scores, and how unusual they are."""
    return (
        f"score {figures(rows.anomaly_score[frame])} (as high: 1 in {1.0 / rows.p_value[frame]:,.0f} normal frames),"
        f" smoothed {figures(rows.smoothed_score[frame])}, threshold {figures(rows.threshold[frame])}"
    )


def _clock(rows: CameraScores) -> Callable[[int], str]:
    """Names a frame by the media time since its clip's first."""
    return lambda frame: f"{rows.media_time_s[frame] - rows.media_time_s[0]:.1f} s"


def _worst_first(mistakes: Iterable[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: (-mistake.weight, mistake.clip, mistake.frame))
