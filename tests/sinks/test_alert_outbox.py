"""The durable queue of alerts, of which every sink has its own end."""

import itertools
import json
import logging
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sinks.alert_queue import AlertCounts
from pipeline.sinks.run_store import RunStore
from tests.sinks.made import alert, as_killed, notice

BOTH = ("redis", "webhook")


def numbers(alerts) -> list[int]:
    return [json.loads(entry.text)["peak_index"] for entry in alerts]


def drain(store, sink) -> list[int]:
    seen = []
    while alerts := store.alerts(sink).take():
        seen += numbers(alerts)
        store.alerts(sink).ack(alerts)
    return seen


def stored(path) -> dict[str, int]:
    """Rows of the file's tables."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
            for table in ("alerts", "undelivered")
        }


def test_every_sink_goes_at_its_own_pace_and_an_alert_is_kept_until_the_last_one_has_it(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", BOTH)
    store.commit({}, [alert(i) for i in range(3)])
    assert drain(store, "redis") == [0, 1, 2]
    store.commit({}, [alert(3)])
    assert store.alerts("redis").counts == AlertCounts(emitted=4, delivered=3)
    assert store.alerts("webhook").counts == AlertCounts(emitted=4)
    again = RunStore(as_killed(tmp_path / "run.sqlite", tmp_path / "killed"), "a", BOTH)
    assert drain(again, "redis") == [3]
    assert drain(again, "webhook") == [0, 1, 2, 3]
    assert again.alerts("redis").counts == again.alerts("webhook").counts == AlertCounts(emitted=4, delivered=4)
    again.close()
    assert stored(tmp_path / "killed" / "run.sqlite") == {"alerts": 0, "undelivered": 0}


def test_a_sink_that_is_new_gets_alerts_from_now_on_and_one_that_is_gone_holds_none_back(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    path = tmp_path / "run.sqlite"
    store = RunStore(path, "a", ["redis"])
    store.commit({}, [alert(0), alert(1)])
    store.close()
    second = RunStore(path, "b", BOTH)
    second.commit({}, [alert(2)])
    assert second.alerts("redis").counts == AlertCounts(carried_over=2, emitted=1)
    assert drain(second, "webhook") == [2]
    assert caplog.records == []
    second.close()
    third = RunStore(path, "c", ["webhook"])
    assert "3 alerts that wait for the sink redis, which the config no longer has, are dropped" in caplog.text
    third.close()
    assert stored(path) == {"alerts": 0, "undelivered": 0}
    assert RunStore(path, "d", BOTH).alerts("redis").counts == AlertCounts()


def test_receipts_and_mark_are_remembered_before_an_alert_is_sent_and_those_alerts_come_first_and_alone(tmp_path):
    path = tmp_path / "run.sqlite"
    store = RunStore(path, "a", BOTH)
    store.commit({}, [alert(0), alert(1)])
    queue = store.alerts("redis")
    assert queue.mark == ""
    tried = queue.take()
    assert queue.keep_receipts({entry.serial: f"id-{entry.serial}" for entry in tried}, "top")
    store.commit({}, [alert(2)])
    again = RunStore(as_killed(path, tmp_path / "killed"), "a", BOTH)
    assert again.alerts("redis").mark == "top"
    assert again.alerts("webhook").mark == ""
    assert again.alerts("redis").take() == tried  # what may have arrived, and nothing else
    assert [again.alerts("redis").receipt(entry) for entry in tried] == ["id-1", "id-2"]
    assert numbers(again.alerts("webhook").take()) == [0, 1, 2]
    again.alerts("redis").ack(tried)
    again.close()
    assert RunStore(tmp_path / "killed" / "run.sqlite", "b", BOTH).alerts("redis").mark == "top"


def test_the_oldest_alert_of_a_camera_can_be_passed_over_and_stays_the_oldest(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", ["webhook"])
    store.commit({}, [alert(0), notice(camera_id=None), alert(1, camera_id="yard"), alert(2)])
    queue = store.alerts("webhook")

    def next_of(*skip):
        found = queue.take_next(skip)
        return None if found is None else found.serial

    assert next_of() == 1
    assert next_of("gate") == 2
    assert next_of("gate", None) == 3
    assert next_of("gate", None, "yard") is None
    assert next_of() == 1


@pytest.mark.parametrize("way", ["take", "take_next"])
def test_of_a_full_queue_the_oldest_are_evicted_but_not_what_is_in_flight_nor_those_of_another_sink(
    tmp_path, caplog, way
):
    path = tmp_path / "run.sqlite"
    store = RunStore(path, "a", BOTH, alerts_capacity=150)
    store.commit({}, [alert(i) for i in range(150)])
    held = store.alerts("redis").take() if way == "take" else [store.alerts("redis").take_next()]
    drain(store, "webhook")
    store.commit({}, [alert(150 + i) for i in range(20)])
    assert store.alerts("redis").counts == AlertCounts(emitted=170, dropped=20)
    assert store.alerts("webhook").counts == AlertCounts(emitted=170, delivered=150)
    assert caplog.text.count("150 alerts wait for the sink redis; the oldest are lost from now on") == 1
    store.alerts("redis").ack(held)
    first = numbers(held)
    kept = [*first, *drain(store, "redis")]
    assert kept == [*first, *range(len(first) + 20, 170)]
    assert store.alerts("redis").counts == AlertCounts(emitted=170, delivered=150, dropped=20)
    store.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.integers(0, 130), st.just("")),
        st.tuples(
            st.sampled_from(["send", "send and die", "send, arrive and die", "die"]), st.just(0), st.sampled_from(BOTH)
        ),
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_whenever_it_is_killed_every_sink_gets_every_alert_once_in_order_or_it_is_counted_as_dropped(
    tmp_path_factory, steps
):
    folder = tmp_path_factory.mktemp("store")
    files = (folder / str(number) for number in itertools.count())
    path = next(files) / "run.sqlite"
    store = RunStore(path, "a", BOTH, alerts_capacity=250)
    arrived: dict[str, dict[str, int]] = {sink: {} for sink in BOTH}  # receipt to alert, as the reader has it
    emitted = 0
    for what, count, sink in [*steps, *[("send", 0, sink) for sink in BOTH for _ in range(4)]]:
        if what == "emit":
            store.commit({"gate": str(emitted + count)}, [alert(emitted + i) for i in range(count)])
            emitted += count
        if what.startswith("send") and (alerts := store.alerts(sink).take()):
            queue = store.alerts(sink)
            tried = [entry for entry in alerts if queue.receipt(entry) is not None]
            if tried and queue.receipt(tried[-1]) in arrived[sink]:
                alerts = tried
            else:
                receipts = {entry.serial: f"{sink}-{entry.serial}" for entry in alerts}
                assert queue.keep_receipts(receipts, str(emitted))
                if what != "send and die":
                    arrived[sink] |= dict(zip(receipts.values(), numbers(alerts), strict=True))
            if not what.endswith("die"):
                queue.ack(alerts)
        if what.endswith("die"):
            killed, path = store, as_killed(path, next(files))
            store = RunStore(path, "a", BOTH, alerts_capacity=250)
            assert store.states().get("gate", "0") == str(emitted)
            killed.close()
        for counts in (store.alerts(sink).counts for sink in BOTH):
            assert counts.emitted == emitted
            assert 0 <= counts.waiting <= 250
    for sink in BOTH:
        counts, seen = store.alerts(sink).counts, list(arrived[sink].values())
        assert counts.waiting == 0
        assert seen == sorted(set(seen))
        assert len(seen) == counts.delivered == emitted - counts.dropped
    store.close()
