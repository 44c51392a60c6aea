"""Things that came and stay: each is one event that ends and is silent from then on; the rest of the image is not.

A frame's score is one number. What is elsewhere than a still thing is read off the map: its highest value outside the
thing's place, less what the map's highest value exceeded the frame's score by while the thing was all there was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.alerts import Region
from pipeline.scoring.regions import anomalous_region, area, cells_of, is_same_place, strongest_spot, union, widened
from pipeline.scoring.smoothing import CausalSmoother, SmootherState
from pipeline.types import Prediction

LOOK_EVERY_S = 0.5
"""Media time between two looks at where an open event is."""

MOST_STILL = 12
"""Still things of one camera that are remembered; of more, the oldest alarm again."""

_PASSES_S = 3.0  # what passes in front of a thing for longer has taken its place
_LARGEST = 0.5  # of the image; of what covers more, nobody could say what else happens


@dataclass(slots=True)
class Anchor:
    """The place that an open event has not left.

    Attributes:
        place: where it was when it came there.
        cover: all that it makes anomalous there.
        level: its highest smoothed score there.
        excess: by how much the map's highest value exceeds the frame's score there, on average.
        looks: how often it was seen there.
        still_s: media time for which it has been there.
        away_s: media time for which something stood out more elsewhere, at present.
    """

    place: Region
    cover: Region
    level: float
    excess: float
    looks: int = 1
    still_s: float = 0.0
    away_s: float = 0.0


@dataclass(slots=True)
class StillThing:
    """Something that stays where it is, and was told.

    Attributes:
        place: all that it makes anomalous.
        level: its highest smoothed score.
        excess: as of its ``Anchor``.
        quiet_s: media time for which its place has been as normal footage.
    """

    place: Region
    level: float
    excess: float
    quiet_s: float = 0.0


def look(
    anchor: Anchor | None,
    anomaly_map: npt.NDArray[np.float16] | None,
    score: float,
    smoothed: float,
    closing: float,
    elapsed_s: float,
) -> tuple[Anchor | None, Region | None]:
    """See where an open event is.

    Args:
        anchor: the place that it has not left so far.
        anomaly_map: of an active frame, shape (h, w).
        score: its anomaly score.
        smoothed: its smoothed score.
        closing: smoothed scores at or above it are active.
        elapsed_s: media time since the look before.

    Returns:
        The place that it has not left, and where it is.
    """
    region = None if anomaly_map is None else anomalous_region(anomaly_map)
    if anomaly_map is None or region is None:
        return anchor, region
    values = anomaly_map.astype(np.float32)
    highest = float(values.max())
    excess = highest - score
    cover = strongest_spot(values, min(closing + excess, highest))
    if anchor is not None and not is_same_place(anchor.place, region):
        anchor.away_s += elapsed_s
        if anchor.away_s <= _PASSES_S:
            return anchor, region
        anchor = None
    if anchor is None:
        return Anchor(region, cover, smoothed, excess), region
    anchor.away_s = 0.0
    anchor.still_s += elapsed_s
    anchor.looks += 1
    anchor.cover = union(anchor.cover, cover) or cover
    anchor.level = max(anchor.level, smoothed)
    anchor.excess += (excess - anchor.excess) / anchor.looks
    return anchor, region


def is_still(anchor: Anchor | None, after_s: float | None) -> bool:
    """Whether an event has been in one place for so long that it ends as still there."""
    return (
        anchor is not None
        and after_s is not None
        and anchor.still_s >= after_s
        and anchor.away_s == 0.0
        and area(anchor.cover) <= _LARGEST
    )


def with_thing(things: Sequence[StillThing], anchor: Anchor, shape: tuple[int, ...]) -> list[StillThing]:
    """The still things of a camera, with one more; it takes the place of those that it covers.

    Args:
        things: those before.
        anchor: of the event that ends.
        shape: of the camera's maps.
    """
    place = widened(anchor.cover, shape)
    others = [thing for thing in things if not is_same_place(thing.place, place)]
    return [*others, StillThing(place, anchor.level, anchor.excess)][-MOST_STILL:]


def without_places(
    anomaly_map: npt.NDArray[np.float16] | None, things: Sequence[StillThing]
) -> tuple[npt.NDArray[np.float32] | None, list[float]]:
    """A map on which nothing stands out where still things are, and the highest value in each of their places.

    Args:
        anomaly_map: shape (h, w).
        things: at least one.

    Returns:
        Without a map, or where it is not finite, None and infinities: nobody can tell.
    """
    values = None if anomaly_map is None else anomaly_map.astype(np.float32)
    if values is None or not np.isfinite(values).all():
        return None, [np.inf] * len(things)
    lowest = values.min()
    places = [cells_of(thing.place, values.shape) for thing in things]
    highest = [float(values[place].max()) for place in places]
    for place in places:
        values[place] = lowest
    return values, highest


def clearly_higher(things: Sequence[StillThing], opening: float, closing: float) -> float:
    """The smoothed score from which on something else than these still things must be there."""
    level = max(thing.level for thing in things)
    return level + max(opening - closing, (level - closing) / 2)


def beside_still_things(
    prediction: Prediction,
    smoothed: float,
    things: Sequence[StillThing],
    smoother: CausalSmoother,
    opening: float,
    closing: float,
    elapsed_s: float,
) -> tuple[Prediction, float]:
    """A frame as it is without still things, and what of its smoothed score is not theirs; at most all of it.

    Args:
        prediction: the frame.
        smoothed: its smoothed score.
        things: at least one; for how long the place of each has been quiet is kept up.
        smoother: of scores without them.
        opening: smoothed scores at or above it open an event.
        closing: smoothed scores at or above it keep one open.
        elapsed_s: media time since the frame before.
    """
    values, highest = without_places(prediction.anomaly_map, things)
    for thing, value in zip(things, highest, strict=True):
        is_quiet = min(smoothed, value - thing.excess) < closing
        thing.quiet_s = thing.quiet_s + elapsed_s if is_quiet else 0.0
    if values is None:  # nobody can tell
        smoother.state, counted = SmootherState(), -np.inf
    else:
        # The map adds what the score takes the larger of: where only one channel speaks, it may lie below the score.
        excess = max(0.0, *(thing.excess for thing in things))
        header = prediction.header
        beside = smoother.update(float(values.max()) - excess, header.session, header.media_time_s)
        counted = min(beside, smoothed)
    if smoothed >= clearly_higher(things, opening, closing):
        return prediction, smoothed  # with all that its map shows
    if values is not None and counted >= closing:  # its map will be read
        prediction = replace(prediction, anomaly_map=values.astype(np.float16))
    return prediction, counted
