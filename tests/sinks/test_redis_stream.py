"""What readers find in Redis: every score and alert once, in order, as documented."""

import json

import pytest
import redis

from pipeline.errors import RedisError
from pipeline.sinks.redis_reader import read_alerts, read_scores
from tests.sinks.made import START_S, alert, notice, score, wait_until
from tests.sinks.streams import indices, numbers, stats


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


def test_two_writers_share_the_alerts_stream_and_each_keeps_its_order(server, sink_of):
    sinks = {camera_id: sink_of(server.url) for camera_id in ("gate", "yard")}
    for i in range(300):
        for camera_id, sink in sinks.items():
            sink.write([], [alert(i, camera_id=camera_id, emitted_at_s=START_S + i / 1000)])
    assert all(sink.flush() for sink in sinks.values())
    for camera_id in sinks:
        entries = list(read_alerts(server.url))
        assert [entry["peak_index"] for entry in entries if entry["camera_id"] == camera_id] == list(range(300))


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
