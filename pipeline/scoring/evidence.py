"""Which pictures and clips are wanted of events, until they are there, and what is said of them then. Pure."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from pipeline.alerts import Alert, Event, Notice, Region
from pipeline.runtime.evidence import EvidenceAnswer, EvidenceRequest, encoded_map

_log = logging.getLogger(__name__)

_MOST = 200  # that wait at a time; of more, the oldest are given up


@dataclass(frozen=True, slots=True)
class PeakFrame:
    """The frame of the highest score of an event that is open, or may become one.

    Attributes:
        session: of the camera.
        index: of the frame in it.
        media_s: its media time.
        anomaly_map: float16, shape (h, w), or None.
    """

    session: int
    index: int
    media_s: float
    anomaly_map: npt.NDArray[np.float16] | None


@dataclass(frozen=True, slots=True)
class Moment:
    """When an alert was raised, and what was the event's peak then.

    Attributes:
        media_s: media time of the camera's newest frame.
        peak: the event's peak, as far as this process has seen it.
    """

    media_s: float
    peak: PeakFrame | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A request, with what was said of it so far."""

    request: EvidenceRequest
    is_told: bool = False
    picture: str | None = None
    clip: str | None = None

    def shown(self) -> Event:
        return replace(self.request.event, picture=self.picture, clip=self.clip)


class EvidenceDesk:
    """Turns alerts into requests for evidence, and answers into alerts.

    Of every event, and of every stretch of it, a picture is wanted once it is open, and picture and clip once it is
    over. Either is told with an alert of its own, at most once. What it remembers is committed with the alerts.

    Args:
        saved: what an earlier process of the run remembered.
    """

    def __init__(self, saved: str = "") -> None:
        self._wanted: dict[str, _Wanted] = _read(saved)

    @property
    def requests(self) -> tuple[EvidenceRequest, ...]:
        """What is wanted; maps only where they are still needed."""
        return tuple(
            replace(wanted.request, is_answered=True, map_shape=None, map_float16="")
            if wanted.is_told and not wanted.request.is_final
            else wanted.request
            for wanted in self._wanted.values()
        )

    def saved(self) -> str:
        """All of it as JSON; empty where nothing is wanted."""
        return _adapter().dump_json([*self._wanted.values()]).decode() if self._wanted else ""

    def take(self, alerts: Sequence[Alert | Notice], moments: Mapping[str, Moment]) -> list[Alert | Notice]:
        """Want evidence of what alerts tell of.

        Args:
            alerts: in order.
            moments: when those about events were raised, by the event's id.

        Returns:
            The alerts, with the paths of what is there already.
        """
        return [self._want(alert, moments) if isinstance(alert, Alert) else alert for alert in alerts]

    def answer(self, answers: Iterable[EvidenceAnswer], now_s: float) -> list[Alert]:
        """Take in answers; to what is not wanted (any more) they are passed over.

        Args:
            answers: of camera processes, their files in place.
            now_s: Unix time.

        Returns:
            Alerts about what is there now.
        """
        alerts: list[Alert] = []
        for answer in answers:
            before = self._wanted.get(answer.name)
            if before is None or before.request.is_final != answer.is_final or (before.is_told and not answer.is_final):
                continue
            now = replace(before, is_told=True, picture=answer.picture or before.picture, clip=answer.clip)
            self._wanted[answer.name] = now
            if (now.picture, now.clip) != (before.picture, before.clip):
                alerts.append(Alert(now.shown(), "evidence", now_s))
            if answer.is_final:
                del self._wanted[answer.name]
                if answer.why:
                    camera = now.request.event.camera_id
                    _log.warning("event %s: %s", answer.name, answer.why, extra={"camera": camera})
        return alerts

    def _want(self, alert: Alert, moments: Mapping[str, Moment]) -> Alert:
        event = alert.event
        moment = moments.get(event.event_id)
        request = EvidenceRequest(event, event.start_s, event.start_s, is_final=alert.kind == "end")
        before = self._wanted.get(request.name)
        if before is None and event.stretches > 1 and moment is not None:
            request = replace(request, begins_s=moment.media_s)
        elif before is not None:
            request = replace(request, begins_s=before.request.begins_s)
        wanted = replace(before or _Wanted(request), request=_with_peak(request, moment, before))
        self._wanted[request.name] = wanted
        if len(self._wanted) > _MOST:
            oldest = next(iter(self._wanted))
            del self._wanted[oldest]
            _log.warning("event %s: no picture and no clip of it: too many events at once", oldest)
        return replace(alert, event=wanted.shown()) if wanted.is_told else alert


def _with_peak(request: EvidenceRequest, moment: Moment | None, before: _Wanted | None) -> EvidenceRequest:
    """With the time and the map of the event's peak."""
    event, peak = request.event, None if moment is None else moment.peak
    if peak is not None and (peak.session, peak.index) == (event.session, event.peak_index):
        return _at(request, peak, event.region)
    if before is not None and before.request.event.peak_index == event.peak_index:
        known = before.request
        return replace(
            request,
            peak_s=known.peak_s,
            region=known.region,
            map_shape=known.map_shape,
            map_float16=known.map_float16,
        )
    if event.stretches > 1 and peak is not None and peak.session == event.session:
        return _at(request, peak, None)  # an earlier stretch was higher, and has its picture
    # Its map died with an earlier process; a live camera's times run as those of the clock on the wall.
    peak_s = event.start_s + event.peak_at_s - event.started_at_s
    return replace(request, peak_s=peak_s, region=event.region)


def _at(request: EvidenceRequest, peak: PeakFrame, region: Region | None) -> EvidenceRequest:
    shape, values = encoded_map(peak.anomaly_map)
    return replace(request, peak_s=peak.media_s, region=region, map_shape=shape, map_float16=values)


@cache
def _adapter() -> TypeAdapter[list[_Wanted]]:
    return TypeAdapter(list[_Wanted])


def _read(saved: str) -> dict[str, _Wanted]:
    if not saved:
        return {}
    try:
        return {wanted.request.name: wanted for wanted in _adapter().validate_json(saved)}
    except ValidationError:
        _log.error("what was wanted of events before cannot be read: they stay without pictures")
        return {}
