import logging
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import RunError
from pipeline.sinks import run_database
from pipeline.sinks.alert_queue import AlertCounts
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.saved_run_state import SavedRunState
from tests.sinks.made import alert, as_killed, notice

ROOT = Path(__file__).parents[2]


def texts(entries) -> list[str]:
    return [entry.text for entry in entries]


def drain(store, sink="redis") -> list[str]:
    """Everything that waits for a sink, in order, as it would get it."""
    seen = []
    while entries := store.alerts(sink).take():
        seen += texts(entries)
        store.alerts(sink).ack(entries)
    return seen


def numbers(taken: list[str]) -> list[int]:
    return [int(float(text.split('"peak_score": ')[1].split(",")[0])) for text in taken]


def test_states_come_back_as_last_committed(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", ["redis"])
    assert store.states() == {}
    store.commit({"gate": "1", "yard": "1"}, [])
    store.commit({"gate": "2"}, [alert(0)])
    again = RunStore(as_killed(tmp_path / "run.sqlite", tmp_path / "killed"), "a", ["redis"])
    assert again.states() == {"gate": "2", "yard": "1"}
    assert again.abandoned() == {}
    assert again.trouble is None


def test_states_of_a_run_that_was_killed_whole_are_the_next_one_s_to_close_in_one_step(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", ["redis"])
    store.commit({"gate": "open"}, [alert(0, "new")])
    file = as_killed(tmp_path / "run.sqlite", tmp_path / "killed")
    following = RunStore(file, "b", ["redis"])
    assert following.states() == {}
    assert following.abandoned() == {"gate": "open"}
    following.commit({"gate": "fresh"}, [])
    before = RunStore(as_killed(file, tmp_path / "before"), "b", ["redis"])
    assert before.abandoned() == {"gate": "open"}
    following.forget_abandoned([alert(1, "end")])
    after = RunStore(as_killed(file, tmp_path / "after"), "b", ["redis"])
    assert after.abandoned() == {}
    assert after.states() == {"gate": "fresh"}
    assert numbers(drain(after)) == [0, 1]


def test_the_state_of_a_run_is_its_own_comes_back_and_is_there_for_the_next_run_until_it_forgets_it(tmp_path):
    path = tmp_path / "run.sqlite"
    begun = notice("run_started", camera_id=None)
    state = SavedRunState(notices=7, tunings={"abc": {"precision": "bfloat16"}}, storage=None, run=begun)
    store = RunStore(path, "a", ["redis"])
    assert store.run_state == SavedRunState()
    store.commit({"gate": "1"}, [begun], state)
    store.commit({"gate": "2"}, [])
    killed = as_killed(path, tmp_path / "killed")
    again = RunStore(killed, "a", ["redis"])
    assert again.run_state == state
    assert again.states() == {"gate": "2"}
    again.close()
    following = RunStore(killed, "b", ["redis"])
    assert following.run_state == SavedRunState()
    assert following.abandoned_run == state
    following.forget_abandoned()
    following.close()
    assert RunStore(killed, "c", ["redis"]).abandoned_run == SavedRunState()


def test_of_a_run_that_ended_the_last_word_alone_stays_until_the_next_one_begins(tmp_path):
    path = tmp_path / "run.sqlite"
    over = notice("run_ended", camera_id=None, until_at_s=5.0)
    store = RunStore(path, "a", ["redis"])
    store.commit({"gate": "1"}, [], SavedRunState(notices=7, run=over))
    store.end_run(SavedRunState(run=store.run_state.run))
    store.close()
    again = RunStore(path, "a", ["redis"])
    assert again.states() == {}
    assert again.run_state == SavedRunState(run=over)


DIES_AT_A_STATEMENT = """
import os, signal, sqlite3, sys
from pathlib import Path
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.saved_run_state import SavedRunState
from tests.sinks.made import alert

connect = sqlite3.connect

def dying_at(number):
    def traced(*arguments, **named):
        connection, seen = connect(*arguments, **named), [0]
        def trace(statement):
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
        connection.set_trace_callback(trace)
        return connection
    return traced

number, left = 0, 1
while left:  # until one lives through all of it
    number += 1
    if not (child := os.fork()):
        sqlite3.connect = dying_at(number)
        store = RunStore(Path(sys.argv[1]) / str(number) / "run.sqlite", "a", ["redis", "webhook"])
        for count in range(1, 4):
            alerts = [alert(2 * count), alert(2 * count + 1)]
            store.commit({"gate": str(count), "yard": str(count)}, alerts, SavedRunState(notices=count))
        os._exit(0)
    left = os.waitpid(child, 0)[1]
    assert left in (0, signal.SIGKILL)
"""


def test_at_whatever_statement_it_is_killed_states_and_alerts_are_those_of_the_same_commit(tmp_path):
    code = [sys.executable, "-c", DIES_AT_A_STATEMENT, str(tmp_path)]
    subprocess.run(code, cwd=ROOT, check=True, timeout=100)
    seen = []
    for folder in sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name)):
        store = RunStore(folder / "run.sqlite", "a", ["redis", "webhook"])
        commits = store.run_state.notices
        seen.append(commits)
        assert store.states() == ({"gate": str(commits), "yard": str(commits)} if commits else {})
        for sink in ("redis", "webhook"):
            assert store.alerts(sink).counts == AlertCounts(emitted=2 * commits)
            assert numbers(drain(store, sink)) == list(range(2, 2 * commits + 2))
        store.close()
    assert seen == sorted(seen)
    assert set(seen) == {0, 1, 2, 3}


def test_alerts_that_an_earlier_run_could_not_deliver_go_first_and_are_counted_apart(tmp_path):
    path = tmp_path / "run.sqlite"
    first = RunStore(path, "a", ["redis"])
    first.commit({"gate": "1"}, [alert(i) for i in range(3)])
    first.end_run()
    first.close()
    second = RunStore(path, "b", ["redis"])
    assert second.abandoned() == {}
    second.commit({}, [alert(3), notice()])
    assert second.alerts("redis").counts == AlertCounts(carried_over=3, emitted=2)
    taken = drain(second)
    assert numbers(taken[:4]) == [0, 1, 2, 3]
    assert '"camera_offline"' in taken[4]
    assert second.alerts("redis").counts == AlertCounts(carried_over=3, emitted=2, delivered=5)
    second.close()
    third = RunStore(path, "b", ["redis"])
    assert third.alerts("redis").counts == AlertCounts(
        carried_over=3, emitted=2, delivered=5
    )  # a run outlives its processes
    third.close()
    assert RunStore(path, "c", ["redis"]).alerts("redis").counts == AlertCounts()


def test_a_closed_store_hands_out_nothing_since_it_could_not_remember_it(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", ["redis"])
    store.commit({}, [alert(0)])
    queue = store.alerts("redis")
    taken = queue.take()
    store.close()
    store.close()
    assert len(taken) == 1
    assert queue.take() == []
    assert queue.take_next() is None
    assert not queue.keep_receipts({taken[0].serial: "1-0"}, "1-0")


def test_the_file_and_its_log_are_private(tmp_path):
    store = RunStore(tmp_path / "deep" / "run.sqlite", "a", ["redis"])
    store.commit({"gate": "1"}, [])
    files = list((tmp_path / "deep").iterdir())
    assert {path.name for path in files} == {"run.sqlite", "run.sqlite-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_store_has_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(run_database, "_LOCK_WITHIN_S", 0.1)
    store = RunStore(tmp_path / "run.sqlite", "a", ["redis"])
    with pytest.raises(RunError, match="another process uses it"):
        RunStore(tmp_path / "run.sqlite", "a", ["redis"])
    store.close()
    RunStore(tmp_path / "run.sqlite", "a", ["redis"]).close()


def good_file(folder) -> bytes:
    store = RunStore(folder / "good.sqlite", "a", ["redis"])
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
    store = RunStore(path, "a", ["redis"])
    assert store.states() == {}
    assert store.trouble is None
    store.commit({"gate": "1"}, [alert(0)])
    store.close()
    assert RunStore(path, "a", ["redis"]).states() == {"gate": "1"}
    (aside,) = tmp_path.glob("run.sqlite.damaged-*")
    assert aside.read_bytes() == content
    assert len(caplog.records) == 1
    assert "is damaged" in caplog.text


def test_a_file_of_a_later_version_is_left_alone(tmp_path):
    path = tmp_path / "run.sqlite"
    RunStore(path, "a", ["redis"]).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(RunError, match="of layout 3, got 99"):
        RunStore(path, "a", ["redis"])


def test_a_commit_is_cheap(tmp_path):
    # 64 cameras' states of 2 kB and an alert: 0.1 ms (median; 5 ms at worst) where this was written.
    store = RunStore(tmp_path / "run.sqlite", "a", ["redis"])
    states = {f"camera-{i}": "x" * 2000 for i in range(64)}
    before = os.times()
    for i in range(200):
        store.commit(states, [alert(i)])
    used_s = sum(os.times()[:2]) - sum(before[:2])
    assert used_s < 4.0
