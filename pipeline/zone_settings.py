"""Settings of zones: parts of a camera's image that alarms come from, or do not, and when that holds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from pipeline.model_settings import Settings
from pipeline.polygons import Point, polygon_error

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60

_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")
_MOST_POINTS = 100
_MOST_ZONES = 32
_LOCAL_TIME = Path("/etc/localtime")


def _check_hours(text: str) -> str:
    minutes_of_hours(text)
    return text


def minutes_of_hours(text: str) -> tuple[int, int]:
    """Minutes of a day from which and to which ``HH:MM-HH:MM`` lasts; across midnight the second is the smaller one.

    Raises:
        ValueError: it is something else.
    """
    match = _HOURS.fullmatch(text)
    if match is not None:
        first, last = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
        if int(match[2]) < 60 > int(match[4]) and first < DAY_MINUTES >= last and first != last:
            return first, last
    raise ValueError("expected two times of a day as HH:MM-HH:MM, such as 22:00-06:00, and not the same")


def _check_polygon(points: tuple[Point, ...]) -> tuple[Point, ...]:
    if len(points) > 1 and points[0] == points[-1]:  # closed by hand, as GeoJSON has it
        points = points[:-1]
    if (error := polygon_error(points)) is not None:
        raise ValueError(error)
    return points


def _not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:  # pydantic's own limit is said of a list whose only item is wrong, too
        raise ValueError("expected at least one, or no such key, got an empty list")
    return values


def _check_name(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        raise ValueError("expected printable text without blanks around it")
    return name


def _check_time_zone(name: str) -> str:
    if not _is_time_zone(name):
        raise ValueError("expected the name of a time zone, such as Europe/Berlin or UTC")
    return name


def _is_time_zone(name: str) -> bool:
    try:
        return bool(name) and ZoneInfo(name) is not None
    except (ValueError, LookupError, OSError):  # a path, an unknown name, a folder of names
        return False


def machine_time_zone() -> str:
    """Name of this machine's time zone; UTC where it has none, as in most containers."""
    linked = _LOCAL_TIME.resolve().as_posix().partition("/zoneinfo/")[2]
    named = [os.environ.get("TZ", "").removeprefix(":"), linked]
    return next((name for name in named if _is_time_zone(name)), "UTC")


Polygon = Annotated[tuple[Point, ...], Field(max_length=_MOST_POINTS), AfterValidator(_check_polygon)]
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]


class ScheduleSettings(Settings):
    """When a zone is active, by the clock on the wall.

    Attributes:
        days: weekdays on which it begins; all of them where none is named.
        hours: ``HH:MM-HH:MM``, the second time excluded; across midnight where it is the smaller one, and then of the
            day on which it began. None is the whole day.
    """

    days: Annotated[tuple[Day, ...], AfterValidator(_not_empty)] = DAYS
    hours: Annotated[str, AfterValidator(_check_hours)] | None = None


class ZoneSettings(Settings):
    """A part of a camera's image. Either ``watch`` or ``ignore`` is given.

    Attributes:
        name: what alerts call it.
        watch: corners of the polygon outside which nothing counts, unless it lies in another watched zone.
        ignore: corners of the polygon within which nothing counts, whatever is watched.
        sensitivity: what stands out above normal within ``watch`` is multiplied by it; of zones that overlap, the last
            one's holds.
        active: when the zone holds, overlapping schedules together; None is always.
    """

    name: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_check_name)]
    watch: Polygon | None = None
    ignore: Polygon | None = None
    sensitivity: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    active: Annotated[tuple[ScheduleSettings, ...], Field(max_length=32), AfterValidator(_not_empty)] | None = None

    @property
    def polygon(self) -> tuple[Point, ...]:
        """Its corners."""
        return self.watch or self.ignore or ()

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if (self.watch is None) == (self.ignore is None):
            got = "neither" if self.watch is None else "both"
            raise ValueError(f"zone {self.name!r}: expected a polygon as watch or as ignore, got {got}")
        if self.ignore is not None and self.sensitivity != 1.0:
            raise ValueError(f"zone {self.name!r}: sensitivity: expected with watch alone, got it with ignore")
        return self


def _check_zones(zones: tuple[ZoneSettings, ...]) -> tuple[ZoneSettings, ...]:
    names = [zone.name for zone in zones]
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        raise ValueError(f"expected a name of its own for each zone, got {twice!r} twice")
    return zones


Zones = Annotated[tuple[ZoneSettings, ...], Field(max_length=_MOST_ZONES), AfterValidator(_check_zones)]
