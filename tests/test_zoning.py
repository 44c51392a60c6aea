from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config_file import parse_config
from pipeline.errors import ConfigError
from pipeline.zone_settings import DAYS, ScheduleSettings, ZoneSettings, machine_time_zone
from pipeline.zoning import Regime, Zoning

ALL = ((0, 0), (1, 0), (1, 1), (0, 1))
LEFT, RIGHT = ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), ((0.5, 0), (1, 0), (1, 1), (0.5, 1))
TOP = ((0, 0), (1, 0), (1, 0.5), (0, 0.5))


def watch(name="yard", polygon=LEFT, **keys):
    return ZoneSettings(name=name, watch=polygon, **keys)


def ignore(name="tree", polygon=RIGHT, **keys):
    return ZoneSettings(name=name, ignore=polygon, **keys)


def clock(text):
    hours, minutes = text.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def is_active_by_hand(zone, local):
    """As a person would tell it: today's schedules, and yesterday's where they went over midnight."""
    for schedule in zone.active:
        first, last = map(clock, (schedule.hours or "00:00-24:00").split("-"))
        since_midnight = timedelta(hours=local.hour, minutes=local.minute)
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if first < last:
            if today in schedule.days and first <= since_midnight < last:
                return True
        elif (today in schedule.days and since_midnight >= first) or (
            yesterday in schedule.days and since_midnight < last
        ):
            return True
    return False


HOURS = st.tuples(st.integers(0, 95), st.integers(1, 96)).filter(lambda at: at[0] != at[1])
SCHEDULES = st.builds(
    lambda days, hours: ScheduleSettings(
        days=days,
        hours=hours and "-".join(f"{quarter // 4:02}:{quarter % 4 * 15:02}" for quarter in hours),
    ),
    st.sets(st.sampled_from(DAYS), min_size=1).map(tuple),
    st.none() | HOURS,
)


@given(
    st.lists(st.lists(SCHEDULES, min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"]),
    st.integers(0, 6),
)
def test_zones_hold_as_a_person_would_read_their_schedules_off_the_clock(schedules, time_zone, offset):
    zones = [watch(f"z{i}", active=tuple(several)) for i, several in enumerate(schedules)]
    zoning = Zoning.of(zones, time_zone)
    start = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + 900 * offset
    for at_s in np.arange(start, start + 366 * 86_400, 97 * 900):  # every weekday and quarter in turn
        local = datetime.fromtimestamp(at_s, ZoneInfo(time_zone))
        holding = [zone.name for zone in zoning.at(at_s).zones]
        assert holding == [zone.name for zone in zones if is_active_by_hand(zone, local)]


@pytest.mark.parametrize(("day", "shown"), [("2026-03-29", 0), ("2026-10-25", 120), ("2026-10-26", 60)])
def test_an_hour_that_the_clock_skips_never_comes_and_one_that_it_shows_twice_counts_twice(day, shown):
    night = watch(active=(ScheduleSettings(hours="02:00-03:00"),))
    zoning = Zoning.of([night, ignore()], "Europe/Berlin")
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    held = [any(z.name == "yard" for z in zoning.at(midnight + 60 * minute).zones) for minute in range(23 * 60)]
    assert sum(held) == shown


def test_overlapping_schedules_are_one_and_regimes_that_do_the_same_are_told_once():
    both = (ScheduleSettings(hours="20:00-23:00"), ScheduleSettings(days=("mon",), hours="22:00-06:00"))
    zoning = Zoning.of([ignore(active=both)], "UTC")
    assert zoning.starts == (0, 1200, 1800, 2640, 2820, 4080, 4260, 5520, 5700, 6960, 7140, 8400, 8580, 9840, 10020)
    assert [len(regime.zones) for regime in zoning.distinct] == [0, 1]


def test_a_camera_is_armed_while_a_watched_zone_holds_or_where_there_is_none_at_all():
    night = (ScheduleSettings(hours="22:00-06:00"),)
    midnight, noon = (datetime(2026, 6, 1, hour, tzinfo=UTC).timestamp() for hour in (0, 12))
    watched, ignored = Zoning.of([watch(active=night)], "UTC"), Zoning.of([ignore(active=night)], "UTC")
    assert (watched.at(midnight).armed, watched.at(noon).armed) == (True, False)
    assert (ignored.at(midnight).armed, ignored.at(noon).armed) == (True, True)
    assert Zoning.of([], "UTC") is None


def test_what_counts_is_in_a_watched_zone_and_in_none_that_is_ignored():
    weights = Regime.of([watch(sensitivity=2.0), watch("door", TOP, sensitivity=0.5), ignore()]).weights(4, 8)
    assert (weights[:, 4:] == 0.0).all()
    assert (weights[:2, :4] == 0.5).all(), "of zones that overlap the last one's sensitivity holds"
    assert (weights[2:, :4] == 2.0).all()
    assert (Regime.of([watch(polygon=ALL)]).weights(7, 9) == 1.0).all()
    assert (Regime.of([]).weights(7, 9) == 1.0).all()


def test_a_cell_counts_where_half_of_it_does_and_of_a_tiny_zone_the_cell_that_has_most_of_it():
    half = ((0, 0), (0.55, 0), (0.55, 1), (0, 1))
    assert (Regime.of([watch(polygon=half)]).weights(1, 2) == [[1.0, 0.0]]).all()
    assert (Regime.of([ignore(polygon=half)]).weights(1, 2) == [[0.0, 1.0]]).all()
    tiny = ((0.6, 0.6), (0.65, 0.6), (0.65, 0.65), (0.6, 0.65))
    assert np.argwhere(Regime.of([watch(polygon=tiny)]).weights(4, 4)).tolist() == [[2, 2]]


def test_a_place_is_told_by_the_watched_zone_that_holds_it():
    regime = Regime.of([watch(), watch("door", TOP), ignore()])
    assert [regime.zone_at(*point) for point in ((0.1, 0.9), (0.1, 0.1), (0.9, 0.9))] == ["yard", "door", None]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"zones": [{"name": "a"}]}, "cameras.gate.zones.0: zone 'a': expected a polygon as watch or as ignore"),
        ({"zones": [{"name": "a", "ignore": ALL}]}, "cameras.gate.zones: expected zones that leave something"),
        ({"zones": [{"name": "a", "watch": [[0, 0], [1, 1], [2, 0]]}]}, "cameras.gate.zones.0.watch: .*inside"),
        ({"zones": [{"name": "a", "watch": LEFT}] * 2}, "cameras.gate.zones: expected a name of its own"),
        ({"zones": [{"name": "a", "ignore": LEFT, "sensitivity": 2}]}, "sensitivity: expected with watch alone"),
        ({"zones": [{"name": "a", "watch": LEFT, "active": []}]}, "zones.0.active: expected at least one"),
        ({"zones": [{"name": "a", "watch": LEFT, "active": [{"hours": "8-9"}]}]}, "active.0.hours: .*HH:MM-HH:MM"),
        ({"zones": [{"name": "a", "watch": LEFT, "active": [{"hour": "8-9"}]}]}, "hour: unknown key; .*: days, hours"),
        ({"time_zone": "Berlin"}, "cameras.gate.time_zone: expected the name of a time zone"),
    ],
)
def test_a_wrong_zone_is_answered_in_one_line(keys, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_config({"cameras": [{"id": "gate", "url": "x.mp4", **keys}]})
    assert len(str(caught.value).splitlines()) == 1


def test_cameras_take_the_zones_of_all_unless_they_have_their_own_and_clips_know_no_hours():
    night = {"name": "yard", "watch": LEFT, "active": [{"hours": "22:00-06:00"}]}
    own = {"name": "door", "watch": [*TOP, TOP[0]]}
    cameras = [{"id": "a", "url": "x.mp4"}, {"id": "b", "url": "x.mp4", "zones": [own]}]
    config = parse_config({"camera_defaults": {"zones": [night], "time_zone": "Asia/Tokyo"}, "cameras": cameras})
    assert [[zone.name for zone in camera.zones] for camera in config.cameras] == [["yard"], ["door"]]
    assert {camera.time_zone for camera in config.cameras} == {"Asia/Tokyo"}
    assert config.cameras[1].zones[0].watch == TOP, "a polygon that was closed by hand is the same one"
    assert [zone.active for zone in config.clip_settings("c", "c.mp4", "s").zones] == [None]


def test_the_time_zone_is_the_machines_where_nobody_says_another(monkeypatch):
    monkeypatch.setenv("TZ", ":America/Lima")
    assert machine_time_zone() == "America/Lima"
    monkeypatch.setenv("TZ", "nowhere")
    assert ZoneInfo(machine_time_zone())
