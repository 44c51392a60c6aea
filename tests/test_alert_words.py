from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.alert_words import once_in_words, place_in_words
from pipeline.alerts import Alert, Event, Region
from pipeline.console.alert_lines import alert_line
from pipeline.sinks.schema import alert_object
from tests.sinks.made import notice

EVENT = Event(
    event_id="gate-1795633777101-0-463",
    camera_id="gate",
    session=0,
    start_s=46.3,
    end_s=None,
    started_at_s=1_795_633_777.101,
    peak_score=7.0,
    peak_at_s=1_795_633_778.0,
    peak_index=465,
    threshold=6.005,
    region=Region(0.0, 0.4, 0.2, 0.6),
    started_local="2026-11-25T20:09:37+01:00",
    peak_p_value=0.000412,
    peak_smoothed=6.434,
    expected_per_hour=1 / 24,
    once_in_h=9.5 * 24,
    zone="yard",
    channel="motion",
)


def line(kind, *, after_s=0.4, **changes):
    return alert_line(alert_object(Alert(replace(EVENT, **changes), kind, EVENT.started_at_s + after_s))).plain


def test_a_line_says_when_where_what_and_how_unusual_it_is_and_fits():
    new = line("new")
    assert new == (
        "11-25 20:09:37 new    gate: motion at the left, zone yard; once in 9 days (p 0.0004, 6.43 over 6)"
        "  alerts dismiss gate-1795633777101-0-463"
    )
    assert len(new) < 140
    assert line("update", after_s=30.0, provisional=True, stretches=2) == (
        "11-25 20:10:07 update gate: for 30 s, 2 times; motion at the left, zone yard; "
        "perhaps once in 9 days (p 0.0004, 6.43 over 6)  gate-1795633777101-0-463"
    )
    assert line("end", after_s=170.0, end_s=213.8, ended="still_there", zone=None, channel=None) == (
        "11-25 20:12:27 end    gate: still there after 2 min 48 s; at the left; "
        "once in 9 days (p 0.0004, 6.43 over 6)  gate-1795633777101-0-463"
    )
    assert line("evidence", picture="events/2026-11-25/gate/x/picture.jpg") == (
        "11-25 20:09:37 evidence gate: events/2026-11-25/gate/x/picture.jpg  gate-1795633777101-0-463"
    )


def test_what_nobody_knows_is_left_out():
    known = {"region": None, "zone": None, "channel": None, "once_in_h": None}
    assert line("new", **known).endswith(" new    gate: p 0.0004, 6.43 over 6  alerts dismiss gate-1795633777101-0-463")


def test_notices_are_told_in_the_time_of_the_machine():
    told = notice("camera_offline", until_at_s=1_700_000_000.0)
    here = datetime.fromtimestamp(told.emitted_at_s).astimezone()
    assert alert_line(alert_object(told)).plain == (
        f"{here:%m-%d %H:%M:%S} camera_offline gate: no frame for 10 s; after 10 s  {told.event_id}"
    )
    assert " camera_offline run: " in alert_line(alert_object(replace(told, camera_id=None))).plain


def test_a_kind_that_is_not_known_yet_is_shown_with_what_it_has():
    entry = {"id": "1-0", "version": 1, "kind": "weather", "event_id": "w-1", "camera_id": None}
    assert alert_line(entry).plain == "- weather run  w-1"


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (None, ""),
        (0.001, "once a minute"),
        (0.5, "once in 30 minutes"),
        (1.9, "once in 114 minutes"),
        (2.0, "once in 2 hours"),
        (47.0, "once in 47 hours"),
        (9 * 24.0, "once in 9 days"),
        (15 * 24.0, "once in 2 weeks"),
        (5 * 365 * 24.0, "once in 5 years"),
        (1e9, "once in 10+ years"),
    ],
)
def test_rarity_is_told_in_the_unit_that_suits_it(hours, words):
    assert once_in_words(hours) == words


@given(st.floats(1e-3, 10 * 8760, exclude_max=True))
def test_rarity_is_never_overstated_by_more_than_rounding(hours):
    units = {"minute": 1 / 60, "hour": 1, "day": 24, "week": 168, "year": 8760}
    *_, count, unit = once_in_words(hours).replace("once a ", "once in 1 ").split()
    told = int(count) * units[unit.rstrip("s")]
    assert told <= max(hours, 1 / 60) < told * 2


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0.0, 0.0, 0.2, 0.2), "at the top left"),
        ((0.4, 0.4, 0.6, 0.6), "in the middle"),
        ((0.4, 0.8, 0.6, 1.0), "at the bottom"),
        ((0.8, 0.4, 1.0, 0.6), "at the right"),
        ((0.0, 0.0, 1.0, 0.2), "at the top"),
        ((0.0, 0.0, 1.0, 0.9), "all over the image"),
    ],
)
def test_a_place_is_told_by_where_its_middle_is(box, words):
    assert place_in_words(dict(zip(("left", "top", "right", "bottom"), box, strict=True))) == words
