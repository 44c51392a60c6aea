"""What is withheld from a sink: by the run's store, over restarts, counted and marked."""

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sinks.alert_queue import AlertCounts
from pipeline.sinks.delivery_rules import DeliveryRules
from pipeline.sinks.run_store import RunStore
from tests.sinks.made import START_S, alert, as_killed, notice, score

SINKS = ("redis", "pager", "mail")
RULES = {"pager": DeliveryRules(digest_s=600), "mail": DeliveryRules(only={"severity": "high"}, notices=False)}


def of_event(number, kind="new", *, camera_id="gate", at_s=0.0, severity="low"):
    made = alert(number, kind, camera_id=camera_id, emitted_at_s=START_S + at_s)
    return replace(made, event=replace(made.event, event_id=f"{camera_id}-{number}", severity=severity))


def taken(store, sink) -> list[dict]:
    """What waits for a sink; acknowledged, so that it waits no longer."""
    said = []
    while alerts := store.alerts(sink).take():
        said += [json.loads(each.text) for each in alerts]
        store.alerts(sink).ack(alerts)
    return said


def test_what_is_withheld_from_one_sink_reaches_the_others_with_its_name_on_it(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", SINKS, RULES)
    store.commit({}, [of_event(0), notice(), of_event(1, at_s=5), of_event(1, "end", at_s=6, severity="low")])
    marks = [(said["kind"], said["withheld"]) for said in taken(store, "redis")]
    assert marks == [
        ("new", ["mail"]),
        ("camera_offline", ["mail"]),
        ("new", ["pager", "mail"]),
        ("end", ["pager", "mail"]),
    ]
    assert [said["event_id"] for said in taken(store, "pager")] == ["gate-0", "gate-camera_offline-1700000000000"]
    assert taken(store, "mail") == []
    assert store.alerts("redis").counts == AlertCounts(emitted=4, delivered=4)
    assert store.alerts("pager").counts == AlertCounts(emitted=4, delivered=2, withheld=2)
    assert store.alerts("mail").counts == AlertCounts(emitted=4, withheld=4)
    store.close()


def test_a_store_that_was_killed_at_any_commit_goes_on_withholding_and_tells_one_digest(tmp_path):
    store = RunStore(tmp_path / "0" / "run.sqlite", "a", SINKS, RULES)
    for number in range(4):
        store.commit({}, [of_event(number, at_s=number)])
        path = as_killed(tmp_path / str(number) / "run.sqlite", tmp_path / str(number + 1))
        store.close()
        store = RunStore(path, "a", SINKS, RULES)
    assert not store.emit_digests(START_S + 599)
    assert store.emit_digests(START_S + 601)
    assert not store.emit_digests(START_S + 601)
    path = as_killed(path, tmp_path / "after")
    store.close()
    store = RunStore(path, "a", SINKS, RULES)
    assert not store.emit_digests(START_S + 9999)
    first, digest = taken(store, "pager")
    assert (first["event_id"], digest["kind"], digest["events"]) == ("gate-0", "digest", 3)
    assert [said["kind"] for said in taken(store, "redis")] == ["new"] * 4
    assert store.alerts("pager").counts == AlertCounts(emitted=5, delivered=2, withheld=3)
    store.close()


def test_a_digest_that_is_due_comes_before_the_alert_that_finds_it_due(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", SINKS, RULES)
    store.commit({}, [of_event(0), of_event(1, at_s=1), of_event(2, at_s=700)])
    assert [said["kind"] for said in taken(store, "pager")] == ["new", "digest", "new"]
    store.close()


def test_rows_name_the_sinks_that_are_not_told_of_their_event(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", SINKS, RULES)
    rows = [replace(score(i), event_id=f"gate-{i}" if i else None, withheld=()) for i in range(3)]
    alerts = [of_event(1), of_event(2, at_s=5)]
    for _ in range(2):  # deciding changes nothing
        assert [row.withheld for row in store.marked(rows, alerts)] == [(), ("mail",), ("pager", "mail")]
    store.commit({}, alerts)
    assert [row.withheld for row in store.marked(rows, ())] == [(), ("mail",), ("pager", "mail")]
    store.commit({}, [of_event(2, "update", at_s=9, severity="high")])
    assert [row.withheld for row in store.marked(rows, ())] == [(), ("mail",), ()]
    store.close()


STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["gate", "yard"]), st.sampled_from(["low", "high"]), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_no_alert_is_unaccounted_for_at_any_sink(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("store")
    store = RunStore(folder / "run.sqlite", "a", SINKS, RULES, alerts_capacity=5)
    got = dict.fromkeys(SINKS, 0)
    for at, (number, camera_id, severity, takes) in enumerate(steps):
        store.commit({}, [of_event(number, camera_id=camera_id, at_s=100 * at, severity=severity)])
        store.emit_digests(START_S + 100 * at)
        for sink in SINKS:
            got[sink] += len(taken(store, sink)) if takes else 0
            counts = store.alerts(sink).counts
            assert counts.delivered == got[sink]
            assert counts.waiting == len(store.alerts(sink).held)
    store.close()
    again = RunStore(folder / "run.sqlite", "a", SINKS, RULES, alerts_capacity=5)
    for sink in SINKS:
        assert again.alerts(sink).counts.waiting == len(again.alerts(sink).held)
    assert again.alerts("redis").counts.emitted == again.alerts("mail").counts.emitted == len(steps)
    again.close()
