"""What was dismissed: its like, at the same place and no higher, opens nothing until the verdict expires."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.alerts import Region
from pipeline.scoring.regions import widened
from pipeline.scoring.still import StillThing, clearly_higher, without_places
from pipeline.types import Prediction
from pipeline.verdicts import Verdict

_WHOLE = Region(0.0, 0.0, 1.0, 1.0)  # an event of which nobody could say where it was


@dataclass(frozen=True, slots=True)
class Dismissal:
    """An event that was dismissed.

    Attributes:
        place: where its peak was.
        level: its highest smoothed score.
        until_at_s: Unix time until which its like is silent.
    """

    place: Region
    level: float
    until_at_s: float


def dismissals_of(verdicts: Iterable[Verdict]) -> dict[str, tuple[Dismissal, ...]]:
    """What is silent, by camera id.

    Args:
        verdicts: one per event.
    """
    found: dict[str, tuple[Dismissal, ...]] = {}
    for verdict in verdicts:
        if verdict.verdict == "dismissed" and verdict.until_at_s is not None:
            dismissal = Dismissal(verdict.region or _WHOLE, verdict.peak_smoothed, verdict.until_at_s)
            found[verdict.camera_id] = (*found.get(verdict.camera_id, ()), dismissal)
    return found


def beside_dismissed(
    prediction: Prediction, smoothed: float, dismissals: Sequence[Dismissal], opening: float, closing: float
) -> tuple[Prediction, float]:
    """A frame as it is without what was dismissed, and what of its smoothed score is not that.

    The frame's score is one number, so what is elsewhere is read off the map: its highest value outside the dismissed
    places, less what the map's highest value exceeds the frame's score by. That is not smoothed, so it may count for a
    frame that smoothing would have passed over, and not the other way round: ``open_frames`` and ``open_s`` still hold.

    Args:
        prediction: the frame.
        smoothed: its smoothed score.
        dismissals: of the camera.
        opening: smoothed scores at or above it open an event.
        closing: smoothed scores at or above it keep one open.

    Returns:
        Both as they were where the frame is quiet, highest where nothing was dismissed, or clearly higher than what was
        dismissed there.
    """
    at_s = prediction.header.captured_at_s
    if smoothed < closing or not any(at_s < one.until_at_s for one in dismissals):
        return prediction, smoothed
    shape = () if prediction.anomaly_map is None else prediction.anomaly_map.shape
    things = [
        StillThing(widened(one.place, shape) if shape else one.place, one.level, 0.0)
        for one in dismissals
        if at_s < one.until_at_s
    ]
    if smoothed >= clearly_higher(things, opening, closing):
        return prediction, smoothed
    values, highest = without_places(prediction.anomaly_map, things)
    if values is None or prediction.anomaly_map is None:  # nobody can tell where it is
        return prediction, -np.inf
    peak = float(prediction.anomaly_map.max())
    excess = peak - prediction.anomaly_score
    if max(highest) < peak:
        return prediction, smoothed
    # What was high at one place excuses nothing at another.
    alike = [
        thing
        for thing, value in zip(things, highest, strict=True)
        if min(smoothed, value - excess) < clearly_higher([thing], opening, closing)
    ]
    if len(alike) < len(things):
        values, _ = without_places(prediction.anomaly_map, alike)
        if values is None or float(values.max()) == peak:
            return prediction, smoothed
    beside = float(values.max()) - excess
    return replace(prediction, anomaly_map=values.astype(np.float16)), min(smoothed, beside)
