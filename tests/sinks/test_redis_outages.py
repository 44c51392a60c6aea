"""Redis away, killed, frozen, refusing or emptied: what waits, what is lost when queues are full, and what is said."""

import logging
import random
import socket
import threading
import time

import redis

from pipeline.sinks.redis_alerts import AlertStream
from pipeline.sinks.redis_reader import read_alerts
from tests.sinks.made import START_S, alert, score, wait_until
from tests.sinks.streams import indices, numbers, stats


def test_alerts_of_an_outage_arrive_once_and_in_order_when_redis_is_back(server, sink_of, caplog):
    caplog.set_level(logging.INFO)
    sink = sink_of(server.url)
    sink.write([score(0)], [alert(0)])
    assert sink.flush()
    server.kill()
    for i in range(1, 300):
        sink.write([score(i)], [alert(i)])
    wait_until(lambda: "nobody answers" in caplog.text)
    assert (sink.stats().scores_waiting, sink.stats().alerts_waiting) == (299, 299)
    assert not sink.flush(0.0)
    assert "299 scores were not delivered (nobody answers" in sink.unwritten()[0]
    assert "299 alerts were not delivered (nobody answers" in sink.unwritten()[1]
    assert sink.unwritten()[1].endswith("the next run delivers them")
    assert "nobody answers there" in str(sink.trouble)
    assert sink.trouble.key == f"Redis {server.url}: nobody answers there: is Redis running?"  # no detail that changes
    server.start()
    assert sink.flush()
    assert numbers(server.url) == indices(server.url) == list(range(300))
    wait_until(lambda: "delivering again" in caplog.text)
    assert caplog.text.count("nobody answers") == 1
    assert sink.stats() == stats(300, 300)
    assert sink.trouble is None


def test_redis_killed_again_and_again_in_the_middle_of_writing_loses_and_doubles_no_alert(server, sink_of):
    sink = sink_of(server.url)
    total, chaos = 3000, random.Random(0)
    done = threading.Event()

    def write():
        for i in range(total):
            sink.write([score(i)], [alert(i)])
            if i % 10 == 0:
                time.sleep(0.002)
        done.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    kills = 0
    while not done.wait(chaos.uniform(0.02, 0.1)):
        server.kill()
        kills += 1
        server.start()
    assert sink.flush(30.0)
    assert kills >= 2
    assert numbers(server.url) == list(range(total))
    assert indices(server.url) == list(range(total))


def test_a_frozen_redis_whose_answers_came_too_late_stores_nothing_twice(server, sink_of, caplog):
    sink = sink_of(server.url)
    sink.write([score(0)], [alert(0)])
    assert sink.flush()
    server.freeze()
    sink.write([score(i) for i in range(1, 50)], [alert(i) for i in range(1, 50)])
    wait_until(lambda: "no answer from Redis in time" in caplog.text)
    server.thaw()
    assert sink.flush()
    assert numbers(server.url) == indices(server.url) == list(range(50))


def test_scores_refused_for_now_while_alerts_pass_are_stored_once_later(server, sink_of, caplog):
    # Another kind of refusal: only the scores' keys are forbidden.
    server.client().execute_command("ACL", "SETUSER", "default", "resetkeys", "~cflow:alerts")
    sink = sink_of(server.url)
    sink.write([score(i) for i in range(20)], [alert(i) for i in range(20)])
    wait_until(lambda: "Redis refuses" in caplog.text)
    wait_until(lambda: sink.stats().alerts_delivered == 20)
    server.client().execute_command("ACL", "SETUSER", "default", "allkeys")
    assert sink.flush()
    assert numbers(server.url) == indices(server.url) == list(range(20))


def test_a_redis_that_comes_back_empty_gets_what_waits(server, sink_of):
    sink = sink_of(server.url)
    sink.write([score(i) for i in range(10)], [alert(i) for i in range(10)])
    assert sink.flush()
    server.client().flushall()
    sink.write([score(i) for i in range(10, 20)], [alert(i) for i in range(10, 20)])
    assert sink.flush()
    assert numbers(server.url) == indices(server.url) == list(range(10, 20))


def test_writers_whose_answers_get_lost_while_redis_dies_append_every_alert_once_in_their_own_order_and_ids_rise(
    server, sink_of, monkeypatch
):
    lost, chaos, append = [], random.Random(1), AlertStream._append_all

    def append_and_lose(*arguments, **named):
        count = append(*arguments, **named)
        if chaos.random() < 0.3:
            lost.append(count)
            raise redis.ConnectionError("Connection closed by server.")
        return count

    monkeypatch.setattr(AlertStream, "_append_all", append_and_lose)
    sinks = {name: sink_of(server.url) for name in ("gate", "yard", "door")}
    count = 600

    def write(name, sink):
        for number in range(count):
            sink.write([], [alert(number, camera_id=name, emitted_at_s=START_S + number / 1000)])
            if number % 10 == 0:
                time.sleep(0.002)

    writers = [threading.Thread(target=write, args=of, daemon=True) for of in sinks.items()]
    for writer in writers:
        writer.start()
    for kills in range(3):
        wait_until(lambda least=kills: len(lost) > least or not any(w.is_alive() for w in writers))
        server.kill()
        server.start()
    for writer in writers:
        writer.join()
    assert all(sink.flush(60.0) for sink in sinks.values())
    assert len(lost) > 3
    entries = list(read_alerts(server.url))
    for name in sinks:
        assert [entry["peak_index"] for entry in entries if entry["camera_id"] == name] == list(range(count))
    ids = [tuple(map(int, entry["id"].split("-"))) for entry in entries]
    assert ids == sorted(set(ids))


def nobodys_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"redis://user:hunter2@127.0.0.1:{free.getsockname()[1]}/0"


def test_in_a_full_queue_the_oldest_scores_give_way_and_no_alert_does(server, sink_of):
    server.kill()
    sink = sink_of(server.url, capacity=500)
    sink.write([], [alert(i) for i in range(200)])
    for i in range(2000):
        sink.write([score(i)], [])
    assert sink.stats().scores_waiting == 500
    server.start()
    assert sink.flush()
    assert numbers(server.url) == list(range(200))
    kept = indices(server.url)
    # Up to a batch was in flight when room was made; the rest are the newest.
    assert kept == sorted(kept)
    assert kept[-400:] == list(range(1600, 2000))
    assert sink.stats() == stats(500, 200, scores_dropped=1500)
    assert sink.unwritten() == [f"Redis {server.url}: dropped 0 alerts and 1500 scores"]


def test_a_store_full_of_alerts_gives_up_the_oldest_and_says_so_once(server, sink_of, caplog):
    server.kill()
    sink = sink_of(server.url, alerts_capacity=300)
    for i in range(1000):
        sink.write([], [alert(i)])
    before = sink.stats()
    assert (before.alerts_emitted, before.alerts_waiting, before.alerts_dropped) == (1000, 300, 700)
    assert caplog.text.count("the oldest are lost from now on") == 1
    server.start()
    assert sink.flush()
    kept = numbers(server.url)
    assert len(kept) == 300
    assert kept == sorted(kept)
    assert kept[-200:] == list(range(800, 1000))


def test_nobody_answering_neither_blocks_writing_nor_hangs_closing(sink_of, caplog):
    sink = sink_of(nobodys_url())
    started = time.monotonic()
    sink.write([score(i) for i in range(100)], [alert(0)])
    assert time.monotonic() - started < 5.0
    sink.close()
    sink.close()
    assert time.monotonic() - started < 15.0
    assert "100 scores were not delivered" in caplog.text
    assert "1 alerts were not delivered" in caplog.text
    assert "hunter2" not in caplog.text + "".join(sink.unwritten())


def test_a_redis_that_comes_back_empty_does_not_bring_back_ids_that_readers_have_passed(server, sink_of):
    sink = sink_of(server.url)
    sink.write([], [alert(0), alert(1)])
    assert sink.flush()
    server.client().flushall()  # ids that readers have left behind them must not come again
    sink.write([], [alert(2)])
    assert sink.flush()
    assert [entry["id"] for entry in read_alerts(server.url)] == ["1700000000000-2"]
