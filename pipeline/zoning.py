"""Which of a camera's zones hold at what time, and what they make of a map. Pure: detector and scorer decide alike."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from pipeline.polygons import GRID, cell_means, contains, covered
from pipeline.zone_settings import DAY_MINUTES, DAYS, ZoneSettings, minutes_of_hours

WEEK_MINUTES = 7 * DAY_MINUTES
_KEPT_WEIGHTS = 1024


@dataclass(frozen=True, slots=True)
class Regime:
    """Zones that hold at one time. Two that do the same to a map are equal.

    Attributes:
        key: short digest of what they do to a map.
        armed: whether events may open: no zone is watched at any time, or one is at this.
        zones: the zones, in the order of the settings.
    """

    key: str
    armed: bool
    zones: tuple[ZoneSettings, ...] = field(compare=False)

    @classmethod
    def of(cls, zones: Sequence[ZoneSettings], *, armed: bool = True) -> Regime:
        """The regime of some zones.

        Args:
            zones: those that hold.
            armed: as of the class.
        """
        done = [("watch" if zone.watch else "ignore", zone.polygon, zone.sensitivity) for zone in zones]
        key = hashlib.sha256(json.dumps(done).encode()).hexdigest()[:12] if zones else ""
        return cls(key, armed, tuple(zones))

    @property
    def watched_share(self) -> float:
        """Part of the image that is left."""
        return float((_grid(self) > 0.0).mean())

    def zone_at(self, x: float, y: float) -> str | None:
        """Name of the watched zone that holds a point of the image, the last one where several do; None if none does.

        Args:
            x: from the left, 0 to 1.
            y: from the top, 0 to 1.
        """
        names = [zone.name for zone in self.zones if zone.watch is not None and contains(zone.watch, x, y)]
        return names[-1] if names else None

    def weights(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """What each cell of a map counts for: 0 where it is left out, else the sensitivity.

        A cell counts where at least half of its area is watched and not ignored; of zones smaller than that, the cells
        of which most is.

        Args:
            height: cells of a column.
            width: cells of a row.

        Returns:
            Shape (height, width), read-only.
        """
        return _weights(self, height, width)


EVERYTHING = Regime.of(())
"""All of the image."""


@dataclass(frozen=True, slots=True)
class Zoning:
    """A camera's zones over the week.

    Attributes:
        time_zone: by whose clock they hold.
        starts: minutes of the week, from Monday 0:00, at which another regime begins; the first is 0.
        regimes: as many, what begins there.
    """

    time_zone: str
    starts: tuple[int, ...]
    regimes: tuple[Regime, ...]

    @classmethod
    def of(cls, zones: Sequence[ZoneSettings], time_zone: str) -> Zoning | None:
        """The zoning of a camera; None for one without zones.

        Args:
            zones: all of them.
            time_zone: by whose clock they hold.
        """
        return _zoning(tuple(zones), time_zone) if zones else None

    @property
    def distinct(self) -> tuple[Regime, ...]:
        """Every regime that ever holds, once, in the order of the week."""
        return tuple(dict.fromkeys(self.regimes))

    def at(self, at_s: float) -> Regime:
        """The regime at a time. An hour that the clock shows twice counts twice, one that it skips not at all.

        Args:
            at_s: Unix time.
        """
        if len(self.regimes) == 1:
            return self.regimes[0]
        local = datetime.fromtimestamp(at_s, ZoneInfo(self.time_zone))
        minute = local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute
        return self.regimes[bisect_right(self.starts, minute) - 1]


def zones_error(zones: Sequence[ZoneSettings]) -> str | None:
    """Why sound zones make no sense together, in one line; None where they do."""
    for regime in [] if not zones else Zoning("UTC", *_timetable(tuple(zones))).distinct:
        if not _grid(regime).any():
            names = ", ".join(zone.name for zone in regime.zones)
            return f"expected zones that leave something of the image to be watched, got nothing left by {names}"
    return None


@lru_cache(maxsize=4096)
def _zoning(zones: tuple[ZoneSettings, ...], time_zone: str) -> Zoning:
    return Zoning(time_zone, *_timetable(zones))


@lru_cache(maxsize=4096)
def _timetable(zones: tuple[ZoneSettings, ...]) -> tuple[tuple[int, ...], tuple[Regime, ...]]:
    active = np.stack([_active_minutes(zone) for zone in zones])
    changes = np.flatnonzero((active[:, 1:] != active[:, :-1]).any(axis=0)) + 1
    starts = (0, *changes.tolist())
    return starts, tuple(_regime(zones, active[:, start]) for start in starts)


def _regime(zones: Sequence[ZoneSettings], active: npt.NDArray[np.bool_]) -> Regime:
    holding = [zone for zone, holds in zip(zones, active, strict=True) if holds]
    armed = all(zone.watch is None for zone in zones) or any(zone.watch is not None for zone in holding)
    return Regime.of(holding, armed=armed)


def _active_minutes(zone: ZoneSettings) -> npt.NDArray[np.bool_]:
    """Whether a zone is active, by minute of the week."""
    if zone.active is None:
        return np.ones(WEEK_MINUTES, np.bool_)
    active = np.zeros(WEEK_MINUTES, np.bool_)
    for schedule in zone.active:
        first, last = (0, DAY_MINUTES) if schedule.hours is None else minutes_of_hours(schedule.hours)
        length = (last - first) % DAY_MINUTES or DAY_MINUTES
        for day in schedule.days:
            start = DAYS.index(day) * DAY_MINUTES + first
            active[np.arange(start, start + length) % WEEK_MINUTES] = True
    return active


@lru_cache(maxsize=256)
def _grid(regime: Regime) -> npt.NDArray[np.float64]:
    """Sensitivity at every point of the grid; 0 where nothing counts."""
    watched = [zone for zone in regime.zones if zone.watch is not None]
    values = np.full((GRID, GRID), 0.0 if watched else 1.0)
    for zone in watched:
        values[covered(zone.polygon)] = zone.sensitivity
    for zone in regime.zones:
        if zone.ignore is not None:
            values[covered(zone.polygon)] = 0.0
    return values


@lru_cache(maxsize=_KEPT_WEIGHTS)
def _weights(regime: Regime, height: int, width: int) -> npt.NDArray[np.float32]:
    values = _grid(regime)
    shares = cell_means((values > 0.0).astype(np.float64), height, width)
    counts = shares >= min(0.5, float(shares.max()))
    sensitivity = np.divide(cell_means(values, height, width), shares, out=np.zeros_like(shares), where=shares > 0.0)
    weights = np.where(counts & (shares > 0.0), sensitivity, 0.0).astype(np.float32)
    weights.flags.writeable = False
    return weights
