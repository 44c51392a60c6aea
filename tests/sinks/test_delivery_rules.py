"""What sinks are told of, decided anew from what is remembered and from what the alerts say."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.alerts import Alert, Event
from pipeline.sinks.delivery_rules import RANKS, DeliveryRules, Told
from tests.sinks.made import alert, notice

START_S = 1_800_000_000.0


def event(number: int, *, severity="low", zone=None, once_in_h=None, at_s=0.0, camera_id="gate") -> Event:
    made = alert(number, camera_id=camera_id).event
    event_id = f"{camera_id}-{number}"
    started_at_s = START_S + at_s
    return replace(
        made, event_id=event_id, severity=severity, zone=zone, once_in_h=once_in_h, started_at_s=started_at_s
    )


def said(of: Event, kind="new", at_s=0.0) -> Alert:
    return Alert(of, kind, START_S + at_s)


class Sink:
    """What one sink is told of one camera, which forgets everything between two alerts but for what is written."""

    def __init__(self, **rules) -> None:
        self.rules = DeliveryRules(**rules)
        self.kept = Told().as_json()
        self.told: list[tuple[str, str]] = []
        self.digests = []

    def tell(self, one: Alert) -> bool:
        self.maintain(one.emitted_at_s)
        decision = self.rules.decide(Told.of_json(self.kept), one)
        self.kept = decision.told.as_json()
        if decision.is_delivered:
            self.told.append((one.event.event_id, one.kind))
        return decision.is_delivered

    def maintain(self, now_s: float, *, at_once: bool = False) -> None:
        digest, told = self.rules.digest(Told.of_json(self.kept), "gate", now_s, at_once=at_once)
        self.kept = told.as_json()
        self.digests += [digest] if digest else []


def test_an_event_is_told_of_to_its_end_or_not_at_all():
    sink = Sink(cooldown_s=60)
    first, second, third = event(0), event(1), event(2)
    assert sink.tell(said(first))
    assert not sink.tell(said(second, at_s=59.9))
    for kind in ("update", "evidence", "end"):
        assert sink.tell(said(first, kind, 70))
        assert not sink.tell(said(second, kind, 70))
    assert sink.tell(said(third, at_s=60.0 + 15))
    assert sink.tell(said(first, "evidence", 500))  # pictures may come late
    assert sink.digests == []


def test_what_is_not_severe_enough_at_first_is_told_once_it_is_also_by_its_end():
    sink = Sink(only={"severity": "medium"})
    assert not sink.tell(said(event(0)))
    assert sink.tell(said(event(0, severity="medium"), "update", 5))
    assert sink.tell(said(event(0, severity="medium"), "end", 9))
    assert sink.tell(said(event(1, severity="high"), "end", 10))
    assert not sink.tell(said(event(2), "evidence", 11))


def test_an_event_more_severe_than_what_was_told_is_not_withheld_and_in_no_digest():
    sink = Sink(digest_s=3600)
    sink.tell(said(event(0)))
    assert not sink.tell(said(event(1, at_s=10), at_s=10))
    assert not sink.tell(said(event(2, at_s=20), at_s=20))
    assert sink.tell(said(event(2, severity="high", at_s=20), "update", 25))
    assert not sink.tell(said(event(3, severity="high", at_s=30), at_s=30))
    sink.maintain(START_S + 25 + 3600)
    (digest,) = sink.digests
    assert (digest.events, digest.highest.event_id) == (2, "gate-3")


def test_a_digest_tells_how_many_there_were_when_and_the_most_unusual_as_it_became():
    sink = Sink(digest_s=600)
    sink.tell(said(event(0)))
    for number, once_in_h in ((1, 5.0), (2, 1.0), (3, 2.0)):
        assert not sink.tell(said(event(number, once_in_h=once_in_h, at_s=100 * number), at_s=100 * number))
    assert not sink.tell(said(event(3, once_in_h=216.0, zone="yard", at_s=300), "update", 310))
    sink.maintain(START_S + 599)
    assert sink.digests == []
    sink.maintain(START_S + 10_000)  # whoever asks late is told the same
    (digest,) = sink.digests
    assert (digest.events, digest.highest.zone, digest.highest.once_in_h) == (3, "yard", 216.0)
    assert (digest.since_at_s, digest.until_at_s, digest.emitted_at_s) == (
        *(START_S + 100, START_S + 600, START_S + 600),
    )
    sink.maintain(START_S + 20_000)
    assert len(sink.digests) == 1


def test_what_was_gathered_is_told_at_the_end_of_the_run_and_nothing_where_nothing_was():
    sink = Sink(digest_s=600)
    sink.tell(said(event(0)))
    sink.maintain(START_S + 1, at_once=True)
    assert sink.digests == []
    sink.tell(said(event(1, at_s=2), at_s=2))
    sink.maintain(START_S + 5, at_once=True)
    assert [(digest.events, digest.until_at_s) for digest in sink.digests] == [(1, START_S + 5)]


def test_a_clock_that_is_put_back_silences_nobody_for_ever():
    sink = Sink(cooldown_s=60, digest_s=60)
    assert sink.tell(said(event(0), at_s=1e6))
    assert sink.tell(said(event(1), at_s=0.0))


def test_filters_of_cameras_zones_and_kinds():
    only = {"cameras": ["gate*", "yard"], "zones": ["door-?"], "kinds": ["new", "end"]}
    rules = DeliveryRules(only=only)
    wanted = event(0, zone="door-1", camera_id="gate-7")
    assert rules.decide(Told(), said(wanted)).is_delivered
    assert not rules.decide(Told(), said(replace(wanted, camera_id="roof"))).is_delivered
    assert not rules.decide(Told(), said(replace(wanted, zone="window"))).is_delivered
    assert not rules.decide(Told(), said(replace(wanted, zone=None))).is_delivered
    told = rules.decide(Told(), said(wanted, "update")).told  # the first that is told counts as new
    assert told.admitted == ("gate-7-0",)
    assert not rules.decide(told, said(wanted, "update")).is_delivered
    assert rules.decide(told, said(wanted, "end")).is_delivered


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (True, ["camera_dark", "camera_offline", "run_lost"]),
        (False, []),
        (["run_lost", "camera_offline"], ["camera_offline", "run_lost"]),
    ],
)
def test_notices_are_told_by_kind_and_by_the_camera_that_they_are_of(wanted, expected):
    rules = DeliveryRules(only={"cameras": ["gate"], "zones": ["yard"], "severity": "high"}, notices=wanted)
    made = [notice("camera_dark"), notice(), notice("run_lost", camera_id=None), notice(camera_id="yard")]
    assert [each.kind for each in made if rules.wants_notice(each)] == expected


def test_rules_that_mean_nothing_are_refused():
    for wrong in ({"only": {"kinds": ["old"]}}, {"only": {"cameras": []}}, {"cooldown_s": -1}, {"notices": ["new"]}):
        with pytest.raises(ValidationError):
            DeliveryRules(**wrong)
    assert DeliveryRules().withhold_nothing
    assert not DeliveryRules(notices=False).withhold_nothing


@st.composite
def histories(draw) -> list[Alert]:
    """Events of a camera one after the other, each growing more severe or not, as the scorer tells of them."""
    now_s, alerts = 0.0, []
    for number in range(draw(st.integers(1, 12))):
        now_s += draw(st.floats(0.0, 90.0))
        started_s, rank = now_s, draw(st.integers(0, 2))
        kinds = ["new", *["update"] * draw(st.integers(0, 3)), "end", *["evidence"] * draw(st.integers(0, 1))]
        for kind in kinds:
            now_s += draw(st.floats(0.1, 20.0))
            rank = min(2, rank + draw(st.integers(0, 1)))
            of = event(number, severity=list(RANKS)[rank], at_s=started_s)
            alerts.append(said(of, kind, now_s))
    return alerts


@given(
    histories(), st.sampled_from([0.0, 30.0, 100.0]), st.sampled_from([0.0, 40.0, 100.0]), st.sampled_from(list(RANKS))
)
def test_every_event_is_told_gathered_or_cooled_down_and_never_two_of_these(alerts, cooldown_s, digest_s, severity):
    sink = Sink(cooldown_s=cooldown_s, digest_s=digest_s, only={"severity": severity})
    wanted_at_s: dict[str, float] = {}
    told_at_s: dict[str, float] = {}
    for each in alerts:
        if each.kind != "evidence" and RANKS[each.event.severity] >= RANKS[severity]:
            wanted_at_s.setdefault(each.event.event_id, each.emitted_at_s)
        if sink.tell(each):
            told_at_s.setdefault(each.event.event_id, each.emitted_at_s)
    sink.maintain(alerts[-1].emitted_at_s + 1e5)
    told = Counter(event_id for event_id, _ in sink.told)
    assert told.keys() <= wanted_at_s.keys()
    # What became worse after a digest had told of it is told by itself, too.
    worse = [
        event_id
        for event_id, at_s in told_at_s.items()
        if any(wanted_at_s[event_id] < digest.until_at_s <= at_s for digest in sink.digests)
    ]
    accounted = len(told) + sum(digest.events for digest in sink.digests) - len(worse)
    assert accounted == len(wanted_at_s) if cooldown_s <= digest_s else accounted <= len(wanted_at_s)
    # From the first alert of an event that is told, all of it is told.
    for event_id in told:
        of_it = [a.kind for a in alerts if a.event.event_id == event_id]
        assert of_it[-told[event_id] :] == [kind for told_id, kind in sink.told if told_id == event_id]


@given(histories(), st.sampled_from([10.0, 50.0, 200.0]))
def test_two_events_are_told_within_the_quiet_time_only_if_the_later_one_is_more_severe(alerts, quiet_s):
    sink = Sink(digest_s=quiet_s)
    first_told: dict[str, Alert] = {}
    newest = {}
    for each in alerts:
        newest_before = dict(newest)
        if sink.tell(each) and each.event.event_id not in first_told:
            for earlier in list(first_told.values())[-1:]:
                apart_s = each.emitted_at_s - earlier.emitted_at_s
                rank_before = newest_before[earlier.event.event_id]
                assert apart_s >= quiet_s or RANKS[each.event.severity] > rank_before
            first_told[each.event.event_id] = each
        newest[each.event.event_id] = RANKS[each.event.severity]
    spans = itertools.pairwise(digest.until_at_s for digest in sink.digests)
    assert all(later > earlier for earlier, later in spans)
