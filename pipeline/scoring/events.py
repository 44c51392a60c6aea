"""From smoothed scores to events: hysteresis in height (two thresholds) and in time (frames to open, time to close)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.config import AlertSettings
from pipeline.types import Alert, AlertKind, Event, FrameHeader, Prediction, Region


@dataclass(slots=True)
class _Stretch:
    """Frames that are, or may become, one event."""

    first: FrameHeader
    end_s: float  # media time of its last active frame
    peak: Prediction
    frames: int = 1

    @classmethod
    def starting(cls, prediction: Prediction) -> _Stretch:
        return cls(prediction.header, prediction.header.media_time_s, prediction)

    def extend(self, prediction: Prediction) -> None:
        self.frames += 1
        self.end_s = max(self.end_s, prediction.header.media_time_s)
        if prediction.anomaly_score > self.peak.anomaly_score:
            self.peak = prediction


class EventTracker:
    """Opens and closes events of one camera.

    An event opens with the ``open_frames``-th consecutive frame whose smoothed score is at or above the threshold, and
    starts at the first of them. It ends once smoothed scores have stayed below the close threshold for ``close_s`` of
    media time, when the session changes, or at ``finish``; its end is its last *active* frame, one whose smoothed score
    was at or above the close threshold. Its peak is the active frame with the highest raw anomaly score. Events of a
    camera never overlap. While it is open an ``update`` follows every ``update_s`` of media time.

    An event's id is ``CAMERA-MS-SESSION-INDEX`` of its first frame, MS being the Unix milliseconds of its capture: the
    same frames give the same id, and no two runs share one.

    Where damaged streams go back in media time, no time passes.

    Args:
        camera_id: the camera.
        settings: frames and durations.
        threshold: smoothed scores at or above it open an event.
        close_threshold: smoothed scores at or above it keep one open; at most ``threshold``.
    """

    def __init__(self, camera_id: str, settings: AlertSettings, threshold: float, close_threshold: float) -> None:
        self.camera_id = camera_id
        self.opened = 0
        """Events opened so far."""
        self._settings = settings
        self._threshold = threshold
        self._close_threshold = close_threshold
        self._session: int | None = None
        self._time_s = 0.0
        self._rising: _Stretch | None = None  # anomalous frames, too few yet for an event
        self._open: _Stretch | None = None
        self._quiet_s = 0.0  # since the open event's last active frame
        self._unsaid_s = 0.0  # since the open event's last alert

    def update(self, prediction: Prediction, smoothed: float, now_s: float) -> list[Alert]:
        """Take in the camera's next frame.

        Args:
            prediction: the frame; above all frames before it.
            smoothed: its smoothed anomaly score.
            now_s: Unix time.

        Returns:
            Alerts in the order in which they are to be told; mostly none.
        """
        header = prediction.header
        alerts = self.finish(now_s) if header.session != self._session else []
        elapsed_s = max(0.0, header.media_time_s - self._time_s) if header.session == self._session else 0.0
        self._session, self._time_s = header.session, header.media_time_s
        if self._open is None:
            return alerts + self._watch(prediction, smoothed, now_s)
        return alerts + self._follow(self._open, prediction, smoothed, elapsed_s, now_s)

    def finish(self, now_s: float) -> list[Alert]:
        """Close the open event, if there is one: the stream has ended.

        Args:
            now_s: Unix time.
        """
        stretch, self._open, self._rising = self._open, None, None
        return [self._alert("end", stretch, now_s)] if stretch is not None else []

    def _watch(self, prediction: Prediction, smoothed: float, now_s: float) -> list[Alert]:
        """No event is open: count anomalous frames in a row."""
        if smoothed < self._threshold:
            self._rising = None
            return []
        if self._rising is None:
            self._rising = _Stretch.starting(prediction)
        else:
            self._rising.extend(prediction)
        if self._rising.frames < self._settings.open_frames:
            return []
        self._open, self._rising = self._rising, None
        self._quiet_s = self._unsaid_s = 0.0
        self.opened += 1
        return [self._alert("new", self._open, now_s)]

    def _follow(
        self, stretch: _Stretch, prediction: Prediction, smoothed: float, elapsed_s: float, now_s: float
    ) -> list[Alert]:
        """An event is open: extend it, close it, or tell how it goes."""
        self._unsaid_s += elapsed_s
        if smoothed >= self._close_threshold:
            stretch.extend(prediction)
            self._quiet_s = 0.0
        else:
            self._quiet_s += elapsed_s
            if self._quiet_s >= self._settings.close_s:
                return self.finish(now_s)
        if self._unsaid_s < self._settings.update_s:
            return []
        self._unsaid_s = 0.0
        return [self._alert("update", stretch, now_s)]

    def _alert(self, kind: AlertKind, stretch: _Stretch, now_s: float) -> Alert:
        first, peak = stretch.first, stretch.peak
        event = Event(
            event_id=f"{self.camera_id}-{round(first.captured_at_s * 1000)}-{first.session}-{first.index}",
            camera_id=self.camera_id,
            session=first.session,
            start_s=first.media_time_s,
            end_s=stretch.end_s if kind == "end" else None,
            started_at_s=first.captured_at_s,
            peak_score=peak.anomaly_score,
            peak_at_s=peak.header.captured_at_s,
            peak_index=peak.header.index,
            threshold=self._threshold,
            region=None if peak.anomaly_map is None else anomalous_region(peak.anomaly_map),
        )
        return Alert(event=event, kind=kind, emitted_at_s=now_s)


def anomalous_region(anomaly_map: npt.NDArray[np.float16]) -> Region | None:
    """Box around the spot that stands out most.

    The spot is the connected component (diagonals count) that holds the map's maximum, of all positions at or above the
    middle between the map's median and its maximum.

    Args:
        anomaly_map: shape (h, w).

    Returns:
        The box, or None where the map is flat or not finite: nothing stands out.
    """
    values = anomaly_map.astype(np.float32)
    median, maximum = float(np.median(values)), float(values.max())
    if not np.isfinite(values).all() or maximum <= median:
        return None
    labels, _ = ndimage.label(values >= median + (maximum - median) / 2, structure=np.ones((3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
    spot = labels == labels[np.unravel_index(int(values.argmax()), values.shape)]
    height, width = values.shape
    rows, columns = np.flatnonzero(spot.any(axis=1)), np.flatnonzero(spot.any(axis=0))
    return Region(
        left=float(columns[0] / width),
        top=float(rows[0] / height),
        right=float((columns[-1] + 1) / width),
        bottom=float((rows[-1] + 1) / height),
    )
