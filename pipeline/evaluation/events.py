"""The events of written scores, as they were emitted while the scores were made. Nothing is decided anew here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.alerts import Event
from pipeline.errors import ScoresError
from pipeline.scoring.events import first_index
from pipeline.sinks.parquet_reader import CameraScores


@dataclass(frozen=True, slots=True)
class EventRows:
    """One event as rows of its camera.

    Attributes:
        event_id: its id.
        opened: the row with which it opened: that of the first alert.
        rows: int64 (n,), ascending: those with which it began, and all that carry its id.
    """

    event_id: str
    opened: int
    rows: npt.NDArray[np.int64]


def event_rows(rows: CameraScores) -> list[EventRows]:
    """A camera's events in the order in which they opened.

    An event's frames are the rows that carry its id and, before them, those with which it began: from the first frame,
    which the id names, to the one with which it opened.

    Args:
        rows: all rows of the camera.

    Raises:
        ScoresError: a row's event is none of ours.
    """
    opened: dict[str, int] = {}
    for row, event_id in enumerate(rows.event_id.tolist()):
        if event_id is not None:
            opened.setdefault(event_id, row)
    return [EventRows(event_id, row, _rows_of(rows, event_id, row)) for event_id, row in opened.items()]


def events_of(rows: CameraScores) -> list[Event]:
    """A camera's events in the order in which they opened, as the last alert of each told them.

    Args:
        rows: all rows of the camera.

    Returns:
        Events that have ended, without regions.

    Raises:
        ScoresError: a row's event is none of ours.
    """
    return [_event(rows, event) for event in event_rows(rows)]


def _rows_of(rows: CameraScores, event_id: str, opened: int) -> npt.NDArray[np.int64]:
    try:
        first = first_index(event_id)
    except (ValueError, AttributeError):  # the latter where it is no text
        raise ScoresError(
            f"{rows.files[0].parents[1]}: event_id: expected CAMERA-MS-SESSION-INDEX, got {str(event_id)[:80]!r}"
        ) from None
    began_with = (rows.session == rows.session[opened]) & (rows.index >= first) & (rows.index < rows.index[opened])
    return np.flatnonzero(began_with | (rows.event_id == event_id))


def _event(rows: CameraScores, event: EventRows) -> Event:
    """One event."""
    frames, opened = event.rows, event.opened
    peak = frames[rows.anomaly_score[frames].argmax()]
    return Event(
        event_id=event.event_id,
        camera_id=rows.camera_id,
        session=int(rows.session[opened]),
        start_s=float(rows.event_start_s[opened]),
        end_s=float(rows.media_time_s[frames].max()),
        started_at_s=float(rows.captured_at_s[frames[0]]),
        peak_score=float(rows.anomaly_score[peak]),
        peak_at_s=float(rows.captured_at_s[peak]),
        peak_index=int(rows.index[peak]),
        threshold=float(rows.threshold[opened]),
    )
