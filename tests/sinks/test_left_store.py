"""What a scorer left that the next run has no longer: delivered once where it lies, whoever dies meanwhile."""

import contextlib
import sqlite3
from dataclasses import replace

import pytest

from pipeline.errors import RunError
from pipeline.sinks.left_store import LeftStore
from pipeline.sinks.redis_reader import read_alerts
from pipeline.sinks.redis_stream import RedisSinkSettings
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.to_webhook import WebhookSinkSettings
from tests.sinks.made import alert, as_killed, wait_until
from tests.sinks.receiver import SECRET, Receiver


@pytest.fixture
def path(tmp_path):
    """The store of a run that was killed: an alert waits, and an event of one camera is open."""
    store = RunStore(tmp_path / "run-2.sqlite", "before", ["redis"])
    store.commit({"gate": "open"}, [alert(0)])
    return as_killed(tmp_path / "run-2.sqlite", tmp_path / "killed")


def ends(states):
    return [alert(9, "end", camera_id=camera) for camera, text in states.items() if text == "open"]


def left(path, url):
    return LeftStore(path, "next", [RedisSinkSettings(url=url)], ends)


def numbers(url):
    return [entry["peak_index"] for entry in read_alerts(url)]


def test_it_is_delivered_with_the_ends_of_its_events_and_deleted(server, path):
    store = left(path, server.url)
    wait_until(lambda: store.maintain() or not store.is_open)
    assert numbers(server.url) == [0, 9]
    assert list(path.parent.iterdir()) == []
    store.close(timeout_s=1.0)  # once more, as a run that ends does


def test_while_redis_is_away_it_waits_and_who_takes_it_over_says_nothing_twice(server, path, tmp_path):
    server.kill()
    for number in (1, 2):  # killed twice
        store = left(path, server.url)
        store.maintain()
        assert store.is_open
        copied = as_killed(path, tmp_path / f"killed-{number}")
        store.close(timeout_s=0.0)
        assert path.exists()
        path = copied
    server.start()
    store = left(path, server.url)
    store.close(timeout_s=60.0)
    assert numbers(server.url) == [0, 9]
    assert not path.exists()


def test_events_that_were_withheld_for_a_digest_are_told_though_their_scorer_is_no_more(server, tmp_path):
    receiver = Receiver().start()
    pager = WebhookSinkSettings(url=receiver.url, secret=SECRET, name="pager", digest_s=3600.0)
    store = RunStore(tmp_path / "run-2.sqlite", "before", ["redis", "pager"], {"pager": pager})
    for number in range(3):
        made = alert(number, "new")
        store.commit({}, [replace(made, event=replace(made.event, event_id=f"gate-{number}"))])
    store.close()
    following = LeftStore(tmp_path / "run-2.sqlite", "next", [RedisSinkSettings(url=server.url), pager], ends)
    wait_until(lambda: following.maintain() or not following.is_open)
    assert [(said["kind"], said.get("events")) for said in receiver.taken] == [("new", None), ("digest", 2)]
    assert numbers(server.url) == [0, 1, 2]
    receiver.stop()


def test_a_store_of_another_version_is_refused_and_stays(server, path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(RunError, match="expected a run store of layout"):
        left(path, server.url)
    assert path.exists()
