"""Which ids alerts get when an attempt before this one may have arrived."""

import pytest

from pipeline.sinks.redis_alerts import AlertStream
from pipeline.sinks.redis_reader import read_alerts
from pipeline.sinks.redis_servers import RedisServers
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.schema import ALERTS_KEY, FIELD
from tests.sinks.made import alert, as_killed


class Died(Exception):
    """In the place of a process that is killed."""


@pytest.fixture
def left(server, tmp_path):
    """What a process leaves that was killed once it had chosen ids, and those ids."""
    store = RunStore(tmp_path / "run.sqlite", "a", ["redis"])
    store.commit({}, [alert(0), alert(1)])
    queue = store.alerts("redis")
    queue.ack = die
    with pytest.raises(Died):
        AlertStream(queue, 100).deliver(RedisServers(server.url))
    ids = [queue.receipt(entry) for entry in queue.take()]
    return RunStore(as_killed(tmp_path / "run.sqlite", tmp_path / "killed"), "a", ["redis"]).alerts("redis"), ids


def die(_):
    raise Died


def told(server) -> list[tuple[str, int]]:
    return [(entry["id"], entry["peak_index"]) for entry in read_alerts(server.url)]


def test_alerts_that_arrived_are_counted_and_not_sent_again(server, left):
    queue, ids = left
    AlertStream(queue, 100).deliver(RedisServers(server.url))
    assert told(server) == list(zip(ids, [0, 1], strict=True))
    assert queue.counts.delivered == 2


def test_alerts_that_did_not_arrive_are_sent_under_the_ids_that_were_chosen(server, left):
    queue, ids = left
    server.client().delete(ALERTS_KEY)
    AlertStream(queue, 100).deliver(RedisServers(server.url))
    assert told(server) == list(zip(ids, [0, 1], strict=True))


def test_ids_that_the_stream_has_passed_meanwhile_are_chosen_anew_above_its_top(server, left):
    queue, _ = left
    client = server.client()
    client.delete(ALERTS_KEY)
    client.xadd(ALERTS_KEY, {FIELD: '{"version": 1, "kind": "other"}'}, id="1800000000000-5")
    AlertStream(queue, 100).deliver(RedisServers(server.url))
    assert [entry_id for entry_id, _ in client.xrange(ALERTS_KEY)] == [f"1800000000000-{n}" for n in (5, 6, 7)]
    assert queue.mark == "1800000000000-7"


def test_alerts_that_arrived_below_those_of_another_scorer_are_not_sent_again_and_others_get_ids_above(
    server, left, tmp_path
):
    queue, ids = left
    other = RunStore(tmp_path / "run-1.sqlite", "a", ["redis"])
    other.commit({}, [alert(7), alert(8)])
    AlertStream(other.alerts("redis"), 100).deliver(RedisServers(server.url))
    AlertStream(queue, 100).deliver(RedisServers(server.url))
    first, second = told(server)[:2], told(server)[2:]
    assert first == list(zip(ids, [0, 1], strict=True))
    assert [number for _, number in second] == [7, 8]
    assert queue.counts.waiting == other.alerts("redis").counts.waiting == 0


def test_an_id_that_another_scorer_took_first_is_chosen_anew(server, left, tmp_path):
    """Both would like the millisecond in which their alert was emitted."""
    queue, ids = left
    server.client().delete(ALERTS_KEY)
    other = RunStore(tmp_path / "run-1.sqlite", "a", ["redis"])
    other.commit({}, [alert(7), alert(8)])
    AlertStream(other.alerts("redis"), 100).deliver(RedisServers(server.url))
    assert [entry_id for entry_id, _ in told(server)] == ids
    AlertStream(queue, 100).deliver(RedisServers(server.url))
    assert [number for _, number in told(server)] == [7, 8, 0, 1]


def test_once_the_store_is_closed_nothing_is_sent(server, tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "a", ["redis"])
    store.commit({}, [alert(0)])
    store.close()
    AlertStream(store.alerts("redis"), 100).deliver(RedisServers(server.url))
    assert not server.client().exists(ALERTS_KEY)
