"""Whatever stands under our keys in Redis: entries, or RedisError in one line."""

import pytest
import redis
from hypothesis import given, settings

from pipeline.console.alert_lines import alert_line
from pipeline.console.tables import cameras_table
from pipeline.errors import RedisError
from pipeline.sinks.redis_client import check_redis as check_answers
from pipeline.sinks.redis_reader import read_alerts, read_statuses
from tests.fuzz.targets import SECRET, check_redis, redis_fields, redis_values
from tests.sinks.made import Server

pytestmark = [pytest.mark.server, pytest.mark.redis]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.remove()


@pytest.fixture(scope="module")
def client(url):
    return redis.Redis.from_url(url)  # bytes in, bytes out


@settings(max_examples=250)
@given(field=redis_fields, value=redis_values)
def test_whatever_others_wrote_is_shown_or_named_in_one_line(client, url, field, value):
    check_redis(client, url, field, value)


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 100_000,
        b'{"kind":"new","event_id":"x","emitted_at_s":NaN}',
        b'{"kind":"new","event_id":"x","emitted_at_s":1e999}',
        b'{"kind":"new","event_id":"x","emitted_at_s":' + b"9" * 400 + b"}",
        b'{"kind":["new"],"event_id":"x","emitted_at_s":1}',
        b'{"kind":"new","event_id":"x","emitted_at_s":"soon"}',
        b'{"event_id":"x","emitted_at_s":1}',
        b"\xff\xfe",
    ],
)
def test_entries_that_no_table_could_show_are_named_and_passed_over(client, url, value, caplog):
    client.flushall()
    client.xadd("cflow:alerts", {"json": value}, id="5-0")
    assert list(read_alerts(url)) == []
    ((*_, said),) = caplog.record_tuples
    assert "docs/alerts.md" in said
    assert said.isprintable()


def test_a_status_that_lacks_keys_is_shown_all_the_same(client, url):
    client.flushall()
    client.hset("cflow:cameras", "gate", '{"camera_id": "gate", "state": "streaming"}')
    cameras_table(read_statuses(url).values(), "cameras")


def test_an_alert_without_its_threshold_is_shown_all_the_same():
    alert_line({"kind": "new", "event_id": "x", "camera_id": "gate", "peak_score": 1.0})


@pytest.mark.parametrize("character", "#?/")
def test_a_password_that_is_no_address_is_not_shown(character):
    with pytest.raises(RedisError) as caught:
        check_answers(f"redis://user:{SECRET}{character}x@127.0.0.1:1/0")
    assert SECRET not in str(caught.value)


def test_an_address_with_an_unknown_option_is_refused():
    with pytest.raises(RedisError):
        check_answers("redis://127.0.0.1:1/0?foo=1")
