"""Written scores joined to the labelled clips that they are of, frame by frame, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.camera_settings import AlertSettings
from pipeline.datasets.base import Clip, Dataset
from pipeline.errors import DatasetError, ScoresError
from pipeline.evaluation.alarms import ClipAlarms, clip_alarms
from pipeline.evaluation.metrics import check_finite
from pipeline.sinks.parquet_reader import CameraScores, read_clip_scores

_NAMED = 3  # of many clips, in a message


@dataclass(frozen=True, slots=True)
class ScoredClip:
    """A clip with its labels, and its scores joined to them frame by frame.

    Attributes:
        clip: the clip.
        labels: bool (T,), True for anomalous.
        rows: ordered by frame; each labelled frame has exactly one.
        alarms: what was decided on it.
    """

    clip: Clip
    labels: npt.NDArray[np.bool_]
    rows: CameraScores
    alarms: ClipAlarms

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """Score of each labelled frame."""
        return self.rows.anomaly_score


def join_scores(scores_root: Path, dataset: Dataset, alerts: AlertSettings) -> tuple[list[ScoredClip], str]:
    """Join all scores below a folder to a data set's test clips.

    Args:
        scores_root: the folder.
        dataset: the labelled data set.
        alerts: when the cameras raised an alarm.

    Returns:
        The test clips in their order, and the fingerprint of the model that made the scores.

    Raises:
        ScoresError: as ``protocols.evaluate``.
        DatasetError: there is no test clip, or one without labels.
    """
    written = read_clip_scores(scores_root)
    _check_clips_match(scores_root, written, dataset)
    model = _only_model(scores_root, written)
    return [_join(scores_root, clip, written[clip.name], alerts) for clip in dataset.test], model


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


def _join(root: Path, clip: Clip, rows: CameraScores, alerts: AlertSettings) -> ScoredClip:
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
    return ScoredClip(clip, labels, rows, clip_alarms(labels, rows, alerts))
