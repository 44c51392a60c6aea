import itertools
import logging
import os
import sqlite3
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RunError
from pipeline.sinks import run_database
from pipeline.sinks.run_store import AlertCounts, RunStore
from tests.sinks.made import alert, as_killed, notice


def texts(entries) -> list[str]:
    return [entry.text for entry in entries]


def drain(store) -> list[str]:
    """Everything that waits, in order, as Redis would get it."""
    seen = []
    while entries := store.take_alerts():
        seen += texts(entries)
        store.choose_ids((0, 0))
        store.settle_alerts(entries)
    return seen


def numbers(taken: list[str]) -> list[int]:
    return [int(float(text.split('"peak_score": ')[1].split(",")[0])) for text in taken]


def test_states_come_back_as_last_committed(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a")
    assert store.states() == {}
    store.commit({"gate": "1", "yard": "1"}, [])
    store.commit({"gate": "2"}, [alert(0)])
    again = RunStore(as_killed(tmp_path / "run.sqlite", tmp_path / "killed"), "a")
    assert again.states() == {"gate": "2", "yard": "1"}
    assert again.abandoned() == {}
    assert again.trouble is None


def test_states_of_a_run_that_was_killed_whole_are_the_next_one_s_to_close_in_one_step(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a")
    store.commit({"gate": "open"}, [alert(0, "new")])
    file = as_killed(tmp_path / "run.sqlite", tmp_path / "killed")
    following = RunStore(file, "b")
    assert following.states() == {}
    assert following.abandoned() == {"gate": "open"}
    following.commit({"gate": "fresh"}, [])
    before = RunStore(as_killed(file, tmp_path / "before"), "b")
    assert before.abandoned() == {"gate": "open"}
    following.forget_abandoned([alert(1, "end")])
    after = RunStore(as_killed(file, tmp_path / "after"), "b")
    assert after.abandoned() == {}
    assert after.states() == {"gate": "fresh"}
    assert numbers(drain(after)) == [0, 1]


def test_alerts_that_an_earlier_run_could_not_deliver_go_first_and_are_counted_apart(tmp_path):
    path = tmp_path / "run.sqlite"
    first = RunStore(path, "a")
    first.commit({"gate": "1"}, [alert(i) for i in range(3)])
    first.end_run()
    first.close()
    second = RunStore(path, "b")
    assert second.abandoned() == {}
    second.commit({}, [alert(3), notice()])
    assert second.counts == AlertCounts(carried_over=3, emitted=2)
    taken = drain(second)
    assert numbers(taken[:4]) == [0, 1, 2, 3]
    assert '"camera_offline"' in taken[4]
    assert second.counts == AlertCounts(carried_over=3, emitted=2, delivered=5)
    second.close()
    third = RunStore(path, "b")
    assert third.counts == AlertCounts(carried_over=3, emitted=2, delivered=5)  # a run outlives its processes
    third.close()
    assert RunStore(path, "c").counts == AlertCounts()


def test_an_alert_s_id_is_remembered_before_it_is_sent_and_kept_while_it_fits(tmp_path):
    path = tmp_path / "run.sqlite"
    store = RunStore(path, "a")
    store.commit({}, [alert(0), alert(1)])
    store.take_alerts()
    sent = [entry.sent_as for entry in store.choose_ids((0, 0))]
    store.commit({}, [alert(2)])
    again = RunStore(as_killed(path, tmp_path / "killed"), "a")
    tried = again.take_alerts()
    assert [entry.sent_as for entry in tried] == sent  # the batch that may have arrived, and nothing else
    assert [entry.sent_as for entry in again.choose_ids((0, 0))] == sent
    top = (1_800_000_000_000, 5)
    assert [entry.sent_as for entry in again.choose_ids(top)] == [(top[0], 6), (top[0], 7)]


def test_a_closed_store_hands_out_nothing_since_it_could_not_remember_it(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a")
    store.commit({}, [alert(0)])
    taken = store.take_alerts()
    store.close()
    store.close()
    assert len(taken) == 1
    assert store.take_alerts() == store.choose_ids((0, 0)) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.integers(0, 130)),
        st.tuples(st.sampled_from(["send", "send and die", "send, store and die", "die"]), st.just(0)),
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=40)
def test_whenever_it_is_killed_every_alert_arrives_once_in_order_or_is_counted_as_dropped(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("store")
    files = (folder / str(number) for number in itertools.count())
    path = next(files) / "run.sqlite"
    store = RunStore(path, "a", alerts_capacity=250)
    stream: dict[tuple[int, int], int] = {}  # what Redis holds
    emitted = 0
    for what, count in [*steps, *[("send", 0)] * 4]:
        if what == "emit":
            store.commit({"gate": str(emitted + count)}, [alert(emitted + i) for i in range(count)])
            emitted += count
        if what.startswith("send") and (entries := store.take_alerts()):
            tried = [entry for entry in entries if entry.sent_as is not None]
            if tried and tried[-1].sent_as in stream:
                entries = tried
            else:
                entries = store.choose_ids(max(stream, default=(0, 0)))
                if what != "send and die":
                    assert entries[0].sent_as > max(stream, default=(0, 0))
                    stream |= dict(zip([e.sent_as for e in entries], numbers(texts(entries)), strict=True))
            if not what.endswith("die"):
                store.settle_alerts(entries)
        if what.endswith("die"):
            killed, path = store, as_killed(path, next(files))
            store = RunStore(path, "a", alerts_capacity=250)
            assert store.states().get("gate", "0") == str(emitted)
            killed.close()
        assert store.counts.emitted == emitted
        assert store.counts.waiting <= 250
    assert store.counts.waiting == 0
    arrived = [stream[entry_id] for entry_id in sorted(stream)]
    assert arrived == sorted(set(arrived))
    assert len(arrived) == store.counts.delivered == emitted - store.counts.dropped
    store.close()


def test_the_file_and_its_log_are_private(tmp_path):
    store = RunStore(tmp_path / "deep" / "run.sqlite", "a")
    store.commit({"gate": "1"}, [])
    files = list((tmp_path / "deep").iterdir())
    assert {path.name for path in files} == {"run.sqlite", "run.sqlite-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_store_has_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(run_database, "_LOCK_WITHIN_S", 0.1)
    store = RunStore(tmp_path / "run.sqlite", "a")
    with pytest.raises(RunError, match="another process uses it"):
        RunStore(tmp_path / "run.sqlite", "a")
    store.close()
    RunStore(tmp_path / "run.sqlite", "a").close()


def good_file(folder) -> bytes:
    store = RunStore(folder / "good.sqlite", "a")
    store.commit({f"camera-{i}": "x" * 3000 for i in range(20)}, [])
    store.close()
    return (folder / "good.sqlite").read_bytes()


@pytest.mark.parametrize("damage", ["garbage", "cut", "overwritten"])
def test_a_damaged_file_is_moved_aside_in_one_line_and_a_fresh_one_begun(tmp_path, caplog, damage):
    good = good_file(tmp_path)
    content = {
        "garbage": b"this is no database" * 1000,
        "cut": good[: len(good) // 2],
        "overwritten": good[:4096] + os.urandom(8192) + good[12288:],
    }[damage]
    path = tmp_path / "run.sqlite"
    path.write_bytes(content)
    caplog.set_level(logging.WARNING)
    store = RunStore(path, "a")
    assert store.states() == {}
    assert store.trouble is None
    store.commit({"gate": "1"}, [alert(0)])
    store.close()
    assert RunStore(path, "a").states() == {"gate": "1"}
    (aside,) = tmp_path.glob("run.sqlite.damaged-*")
    assert aside.read_bytes() == content
    assert len(caplog.records) == 1
    assert "is damaged" in caplog.text


def test_a_file_of_a_later_version_is_left_alone(tmp_path):
    path = tmp_path / "run.sqlite"
    RunStore(path, "a").close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RunError, match="of layout 1, got 99"):
        RunStore(path, "a")


def test_a_commit_is_cheap(tmp_path):
    # 64 cameras' states of 2 kB and an alert: 0.1 ms (median; 5 ms at worst) where this was written.
    store = RunStore(tmp_path / "run.sqlite", "a")
    states = {f"camera-{i}": "x" * 2000 for i in range(64)}
    before = os.times()
    for i in range(200):
        store.commit(states, [alert(i)])
    used_s = sum(os.times()[:2]) - sum(before[:2])
    assert used_s < 4.0
