import json
import logging
import random
import socket
import threading
import time

import pytest
import redis

from pipeline.errors import RedisError
from pipeline.sinks.redis_alerts import AlertStream
from pipeline.sinks.redis_reader import read_alerts, read_scores
from pipeline.sinks.redis_stream import RedisStats
from tests.sinks.made import START_S, alert, notice, score, wait_until


def numbers(url) -> list[int]:
    """Numbers of the alerts that arrived, in the stream's order."""
    return [entry["peak_index"] for entry in read_alerts(url)]


def indices(url, camera_id="gate") -> list[int]:
    return [entry["index"] for entry in read_scores(url, camera_id, count=100_000)]


def stats(scores_delivered=0, alerts_delivered=0, *, scores_dropped=0) -> RedisStats:
    """All that was written and not dropped was delivered."""
    return RedisStats(
        scores_delivered=scores_delivered,
        scores_dropped=scores_dropped,
        scores_waiting=0,
        alerts_carried_over=0,
        alerts_emitted=alerts_delivered,
        alerts_delivered=alerts_delivered,
        alerts_dropped=0,
        alerts_waiting=0,
    )


def test_a_reader_that_comes_late_finds_everything_as_documented(server, sink_of):
    sink = sink_of(server.url)
    sink.write([score(i) for i in range(250)], [alert(0, "new"), alert(1), alert(2, "end")])
    sink.close()
    assert sink.unwritten() == []
    assert sink.stats() == stats(250, 3)
    entries = read_scores(server.url, "gate", count=1000)
    assert entries[7] == {
        "id": "1700000000700-7",
        "version": 1,
        "camera_id": "gate",
        "session": 0,
        "index": 7,
        "pts": 63_000,
        "media_time_s": 0.7,
        "captured_at_s": START_S + 0.7,
        "scored_at_s": START_S + 0.7 + 0.125,
        "latency_s": (START_S + 0.7 + 0.125) - (START_S + 0.7),
        "anomaly_score": 7.1,
        "smoothed_score": 50.0,
        "p_value": 1 / 8,
        "threshold": 50.5,
        "is_anomalous": False,
        "paired": True,
        "common_surprise": 1.75,
        "model": "abc",
        "thresholds": "",
        "suppressed": "",
    }
    assert [entry["index"] for entry in entries] == list(range(250))
    alerts = list(read_alerts(server.url))
    assert [entry["kind"] for entry in alerts] == ["new", "update", "end"]
    assert alerts[2] == {
        "id": "1700000000000-2",
        "version": 1,
        "kind": "end",
        "emitted_at_s": START_S,
        "event_id": "gate-1700000000000-0-0",
        "camera_id": "gate",
        "session": 0,
        "start_s": 1.5,
        "end_s": 9.5,
        "started_at_s": START_S,
        "peak_score": 2.0,
        "peak_at_s": START_S + 1,
        "peak_index": 2,
        "threshold": 50.5,
        "region": {"left": 0.25, "top": 0.5, "right": 0.75, "bottom": 1.0},
        "started_local": "2023-11-14T23:13:20+01:00",
        "peak_p_value": 0.125,
        "peak_smoothed": 51.5,
        "thresholds": "0123456789ab",
        "expected_per_hour": 0.5,
        "provisional": True,
        "once_in_h": 24.0,
        "severity": "medium",
        "zone": "yard",
        "channel": "motion",
        "stretches": 2,
        "ended": "over",
        "picture": None,
        "clip": None,
        "withheld": [],
    }


def test_the_same_frame_written_twice_gives_one_entry(server, sink_of):
    sink = sink_of(server.url)
    for _ in range(2):
        sink.write([score(i) for i in range(5)], [])
    assert sink.flush()
    assert indices(server.url) == list(range(5))


def test_a_frame_scored_again_by_the_next_process_gives_one_entry(server, sink_of):
    first = sink_of(server.url)
    first.write([score(i) for i in range(50)], [])
    assert first.flush()
    second = sink_of(server.url)
    second.write([score(i, scored_at_s=START_S + 500) for i in range(40, 60)], [])
    assert second.flush()
    assert indices(server.url) == list(range(60))
    assert second.stats().scores_delivered == 20


def test_a_new_run_of_the_camera_that_counts_from_zero_is_kept(server, sink_of):
    sink = sink_of(server.url)
    sink.write([score(i) for i in range(5)], [])
    sink.write([score(i, captured_at_s=START_S + 3600 + i) for i in range(3)], [])
    assert sink.flush()
    assert indices(server.url) == [0, 1, 2, 3, 4, 0, 1, 2]


def test_streams_are_trimmed_to_about_their_length(server, sink_of):
    sink = sink_of(server.url, scores_maxlen=200, alerts_maxlen=100)
    for start in range(0, 2000, 100):
        sink.write([score(i) for i in range(start, start + 100)], [alert(i) for i in range(start, start + 100)])
    assert sink.flush()
    assert 200 <= server.client().xlen("cflow:scores:gate") <= 300
    assert 100 <= server.client().xlen("cflow:alerts") <= 200
    assert indices(server.url)[-1] == numbers(server.url)[-1] == 1999


def test_a_clock_that_went_back_loses_nothing_and_ids_still_rise(server, sink_of):
    for run, at_s in enumerate((START_S + 3600, START_S)):
        sink = sink_of(server.url)
        sink.write(
            [score(i, session=run, captured_at_s=at_s + i / 1000) for i in range(20)],
            [alert(20 * run + i, emitted_at_s=at_s) for i in range(20)],
        )
        assert sink.flush()
    assert indices(server.url) == [*range(20), *range(20)]
    assert numbers(server.url) == list(range(40))


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


def test_two_writers_share_the_alerts_stream_and_each_keeps_its_order(server, sink_of):
    sinks = {camera_id: sink_of(server.url) for camera_id in ("gate", "yard")}
    for i in range(300):
        for camera_id, sink in sinks.items():
            sink.write([], [alert(i, camera_id=camera_id, emitted_at_s=START_S + i / 1000)])
    assert all(sink.flush() for sink in sinks.values())
    for camera_id in sinks:
        entries = list(read_alerts(server.url))
        assert [entry["peak_index"] for entry in entries if entry["camera_id"] == camera_id] == list(range(300))


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


def test_a_score_stream_with_another_writer_still_takes_every_score_once(server, sink_of):
    sink = sink_of(server.url)
    sink.write([score(0)], [])
    assert sink.flush()
    server.client().xadd("cflow:scores:gate", {"json": "{}"}, id=f"{int(START_S * 1000) + 10_000_000}-0")
    sink.write([score(i) for i in range(1, 10)], [])
    assert sink.flush()
    entries = server.client().xrange("cflow:scores:gate")
    assert [json.loads(fields["json"]).get("index") for _, fields in entries] == [0, None, *range(1, 10)]


def test_a_key_that_is_no_stream_costs_only_its_own_scores(server, sink_of, caplog):
    server.client().set("cflow:scores:yard", "mine")
    sink = sink_of(server.url)
    sink.write([score(i, camera_id=c) for i in range(150) for c in ("gate", "yard")], [alert(0)])
    assert sink.flush()
    assert indices(server.url) == list(range(150))
    assert numbers(server.url) == [0]
    assert sink.stats() == stats(150, 1, scores_dropped=150)
    assert caplog.text.count("cflow:scores:yard is not a stream") == 1


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


def test_a_wrong_password_is_said_once_and_never_shown(server, sink_of, caplog):
    server.client().execute_command("CONFIG", "SET", "requirepass", "right")
    sink = sink_of(server.url.replace("unix://", "unix://user:hunter2@"))
    sink.write([], [alert(0)])
    wait_until(lambda: "refuses the password" in caplog.text)
    for i in range(1, 20):
        sink.write([], [alert(i)])
        sink.flush(0.05)
    assert caplog.text.count("refuses the password") == 1
    assert "hunter2" not in caplog.text
    assert sink.stats().alerts_waiting == 20


def test_what_is_no_address_is_refused_at_once(sink_of):
    with pytest.raises(RedisError, match="expected redis://, rediss://, unix://"):
        sink_of("http://user:hunter2@host")


def test_a_redis_that_comes_back_empty_does_not_bring_back_ids_that_readers_have_passed(server, sink_of):
    sink = sink_of(server.url)
    sink.write([], [alert(0), alert(1)])
    assert sink.flush()
    server.client().flushall()  # ids that readers have left behind them must not come again
    sink.write([], [alert(2)])
    assert sink.flush()
    assert [entry["id"] for entry in read_alerts(server.url)] == ["1700000000000-2"]


def test_notices_go_the_way_of_alerts(server, sink_of):
    sink = sink_of(server.url)
    sink.write(
        [], [alert(0), notice(), notice("camera_online", until_at_s=START_S), notice("storage_failing", camera_id=None)]
    )
    assert sink.flush()
    entries = list(read_alerts(server.url))
    assert [entry["kind"] for entry in entries] == ["update", "camera_offline", "camera_online", "storage_failing"]
    assert entries[1] == {
        "id": "1700000000000-1",
        "version": 1,
        "withheld": [],
        "kind": "camera_offline",
        "event_id": "gate-camera_offline-1700000000000",
        "camera_id": "gate",
        "reason": "no frame for 10 s",
        "since_at_s": START_S - 10,
        "until_at_s": None,
        "emitted_at_s": START_S,
    }
    assert entries[2]["until_at_s"] == START_S
    assert entries[3]["camera_id"] is None


def test_the_stream_can_be_read_by_any_redis_client(server, sink_of):
    sink = sink_of(server.url)
    sink.write([], [alert(3, "new")])
    assert sink.flush()
    ((_, ((entry_id, fields),)),) = redis.Redis.from_url(server.url).xread({"cflow:alerts": "0"})
    assert entry_id == b"1700000000000-0"
    assert list(fields) == [b"json"]
    assert json.loads(fields[b"json"])["kind"] == "new"
