"""The events of written scores, as they were emitted while the scores were made. Nothing is decided anew here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.alerts import Event
from pipeline.errors import ScoresError
from pipeline.scoring.event_span import first_index
from pipeline.sinks.parquet_reader import CameraScores


@dataclass(frozen=True, slots=True)
class EventRows:
    """One event as rows of its camera.

    Attributes:
        event_id: its id.
        stretches: rows between which it was open, ascending: from the one with which it opened, or went on after it had
            ended, to its last active one before it ended.
        rows: int64 (n,), ascending: those with which it and its stretches began, and all that carry its id.
    """

    event_id: str
    stretches: tuple[tuple[int, int], ...]
    rows: npt.NDArray[np.int64]

    @property
    def opened(self) -> int:
        """The row with which it opened: that of the first alert."""
        return self.stretches[0][0]


def event_rows(rows: CameraScores) -> list[EventRows]:
    """A camera's events in the order in which they opened.

    An event's frames are the rows that carry its id and, before each of its stretches, those with which that began: of
    the first one from the first frame, which the id names, to the one with which it opened; of others the anomalous
    rows in a row before it that count for something and belong to no event.

    Args:
        rows: all rows of the camera.

    Raises:
        ScoresError: a row's event is none of ours.
    """
    found: dict[str, dict[float, tuple[int, int]]] = {}
    stretches = np.nan_to_num(rows.event_stretch, nan=1.0).tolist()
    for row, (event_id, stretch) in enumerate(zip(rows.event_id.tolist(), stretches, strict=True)):
        if event_id is not None:
            of = found.setdefault(event_id, {})
            of[stretch] = of.get(stretch, (row, row))[0], row
    return [
        EventRows(event_id, tuple(of.values()), _rows_of(rows, event_id, [first for first, _ in of.values()]))
        for event_id, of in found.items()
    ]


def events_of(rows: CameraScores) -> list[Event]:
    """A camera's events in the order in which they opened, as the last alert of each told them.

    Args:
        rows: all rows of the camera.

    Returns:
        Events that have ended, with what rows tell of them: no region, zone, channel or expectation.

    Raises:
        ScoresError: a row's event is none of ours.
    """
    return [_event(rows, event) for event in event_rows(rows)]


def _rows_of(rows: CameraScores, event_id: str, openings: list[int]) -> npt.NDArray[np.int64]:
    opened, *later = openings
    try:
        first = first_index(event_id)
    except (ValueError, AttributeError):  # the latter where it is no text
        raise ScoresError(
            f"{rows.files[0].parents[1]}: event_id: expected CAMERA-MS-SESSION-INDEX, got {str(event_id)[:80]!r}"
        ) from None
    began_with = (rows.session == rows.session[opened]) & (rows.index >= first) & (rows.index < rows.index[opened])
    for row in later:
        first = row
        while first > 0 and _rises(rows, first - 1, rows.session[row]):
            first -= 1
        began_with[first:row] = True
    return np.flatnonzero(began_with | (rows.event_id == event_id))


def _rises(rows: CameraScores, row: int, session: int) -> bool:
    """Whether a frame may be one of those with which a stretch began."""
    is_free = rows.event_id[row] is None and not rows.suppressed[row]
    return bool(is_free and rows.is_anomalous[row] and rows.session[row] == session)


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
        peak_p_value=float(rows.p_value[peak]),
        peak_smoothed=float(rows.smoothed_score[frames].max()),
        stretches=len(event.stretches),
    )
