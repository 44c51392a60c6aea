"""What a run has stored of its cameras, as normal footage: all but events and what is near to them.

An event that nobody has looked at may be real, or a false alarm; it is left out, and so is what a budget would have to
count if it were false. So the rate that follows is that of the other frames: a lower bound on false alarms, and said as
such, with how many events were left out. Who knows that there was nothing takes them in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.camera_settings import CameraSettings
from pipeline.errors import ScoresError
from pipeline.evaluation.events import event_rows
from pipeline.models.card import ModelCard
from pipeline.models.normal_store import NormalStore
from pipeline.normal_footage import AddedStretch, NormalStretch
from pipeline.run_folder import RunFolder
from pipeline.sinks.parquet_reader import CameraScores, read_clip_scores, rows_of_model

MARGIN_S = 10.0
"""Media time before and after an event that is not taken for normal either: it may have begun before it was noticed."""

LEAST_S = 5.0
"""Stretches that are shorter tell of no event: it takes as long to come and to go."""

_GAP = 3.0  # usual times between two frames, beyond which frames do not follow each other
_TAKEN = ("", "dismissed")  # anomalous frames that opened no event for another reason may belong to one


@dataclass(frozen=True)
class CameraFootage:
    """Normal footage of one camera of a run.

    Attributes:
        camera_id: the camera.
        added: what is new of it.
        left_out: events in these hours that were not taken in, whenever it was.
        hours: that the model scored the camera in all that the run has stored, events included.
    """

    camera_id: str
    added: tuple[AddedStretch, ...]
    left_out: int
    hours: float


def run_footage(
    folder: Path,
    cameras: Sequence[CameraSettings],
    card: ModelCard,
    store: NormalStore,
    *,
    confirmed: Collection[str] = (),
    normal: Collection[str] = (),
    unconfirmed_are_normal: bool = False,
) -> list[CameraFootage]:
    """Normal footage of cameras in the files that a run has closed.

    Frames that the store has from before are passed over. Frames without a pair are not taken in where the model looks
    at motion: their scores were put on the scale of the others by thresholds that change.

    Args:
        folder: ``output.folder`` of the run.
        cameras: those that are wanted, with the zones that they had.
        card: of the model that must have scored them.
        store: of the model.
        confirmed: ids of events that were real.
        normal: ids of events that were dismissed.
        unconfirmed_are_normal: whether all events are taken for normal that are not confirmed.

    Raises:
        ScoresError: there are no scores, none of these cameras, or none by this model.
    """
    every = read_clip_scores(RunFolder(folder).stream_scores)
    wanted = {camera.id: camera for camera in cameras}
    there = [camera_id for camera_id in every if camera_id in wanted]
    if not there:
        raise ScoresError(f"{folder}: expected scores of {_some(wanted)}, found those of {_some(every)}")
    models = {model for camera_id in there for model in every[camera_id].models}
    if card.fingerprint not in models:
        raise ScoresError(
            f"{folder}: expected scores by the model {card.short_fingerprint}, found those of "
            f"{_some([model[:12] for model in models])}: scores of two models share no scale"
        )
    found = []
    for camera_id in there:
        rows = every[camera_id]
        events = event_rows(rows)
        left_out = [
            event
            for event in events
            if event.event_id in confirmed or not (unconfirmed_are_normal or event.event_id in normal)
        ]
        scored = rows_of_model(rows, card.fingerprint)
        hours = float(_frame_times(rows)[scored].sum()) / 3600.0
        counted = sum(bool(scored[event.rows].any()) for event in left_out)
        usable = scored & _is_new(rows, store)
        for event in left_out:
            usable &= ~_near(rows, event.rows)
        usable &= np.isin(rows.suppressed, _TAKEN) | ~rows.is_anomalous
        if card.read_out is not None and card.read_out.motion is not None:
            usable &= rows.paired
        added = tuple(_stretches(rows, usable, wanted[camera_id], folder.resolve().name))
        found.append(CameraFootage(camera_id, added, counted, hours))
    return found


def _is_new(rows: CameraScores, store: NormalStore) -> npt.NDArray[np.bool_]:
    """Which rows were captured at no time of which the store has the camera's footage."""
    new = np.ones(len(rows.index), bool)
    for one in store.added:
        if one.camera_id == rows.camera_id and one.since_s is not None and one.until_s is not None:
            new &= (rows.captured_at_s < one.since_s) | (rows.captured_at_s > one.until_s)
    return new


def _near(rows: CameraScores, event: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which rows belong to an event, or come shortly before or after one that does."""
    times_s = rows.media_time_s
    in_session = rows.session == rows.session[event[0]]
    return in_session & (times_s >= times_s[event[0]] - MARGIN_S) & (times_s <= times_s[event[-1]] + MARGIN_S)


def _frame_times(rows: CameraScores) -> npt.NDArray[np.float64]:
    """How much media time each row stands for: until the next one, where that follows; float64, shape (T,)."""
    apart = np.diff(rows.media_time_s, append=np.nan)
    follows = np.append((np.diff(rows.session) == 0) & (apart[:-1] > 0.0), False)
    usual = float(np.median(apart[follows])) if follows.any() else 0.0
    return np.where(follows & (apart <= _GAP * usual), apart, usual)


def _stretches(
    rows: CameraScores, usable: npt.NDArray[np.bool_], camera: CameraSettings, run: str
) -> Iterator[AddedStretch]:
    """Usable rows that follow each other, under the same zones."""
    zones = [_zones(camera, at_s) for at_s in rows.captured_at_s.tolist()]
    apart = np.diff(rows.media_time_s)
    follows = np.diff(rows.session) == 0
    usual = float(np.median(apart[follows])) if follows.any() else 0.0
    follows &= (apart > 0.0) & (apart <= _GAP * usual)
    follows &= np.array([one == other for one, other in pairwise(zones)], bool)
    starts = np.flatnonzero(usable & ~np.append(False, follows & usable[:-1]))
    for start in starts.tolist():
        stop = start + 1
        while stop < len(usable) and usable[stop] and follows[stop - 1]:
            stop += 1
        lasts_s = float(rows.media_time_s[stop - 1] - rows.media_time_s[start])
        key = zones[start]
        if lasts_s < LEAST_S or key is None:
            continue
        stretch = NormalStretch("own", (stop - start - 1) / lasts_s, rows.anomaly_score[start:stop].astype(np.float64))
        since_s, until_s = (float(rows.captured_at_s[at]) for at in (start, stop - 1))
        yield AddedStretch(stretch, camera.scene_name, camera.id, f"run {run}", since_s, until_s, key)


def _zones(camera: CameraSettings, at_s: float) -> str | None:
    """Key of the zones that held; None where the camera was not armed, so that nobody was told of anything."""
    if camera.zoning is None:
        return ""
    regime = camera.zoning.at(at_s)
    return regime.key if regime.armed else None


def _some(names: Collection[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
