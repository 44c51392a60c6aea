import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.sinks.embedded_redis import EmbeddedRedis
from tests.sinks.made import SinkWithStore, alert, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "consume_alerts.py"


class Consumer:
    """The example, running."""

    def __init__(self, url, name):
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), url, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.lines = self.process.stdout

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def consumer_of():
    running = []

    def make(url, name):
        running.append(Consumer(url, name))
        return running[-1]

    yield make
    for consumer in running:
        consumer.kill()


@pytest.fixture
def redis_and_sink(tmp_path):
    server = EmbeddedRedis(tmp_path)
    url = server.start()
    sink = SinkWithStore(url, tmp_path / "store")
    yield url, sink
    sink.close()
    server.stop()


def test_it_prints_alerts_from_before_its_start_and_as_they_come(redis_and_sink, consumer_of):
    url, sink = redis_and_sink
    sink.write([], [alert(1, "new")])
    assert sink.flush()
    consumer = consumer_of(url, "one")
    assert consumer.lines.readline() == "new gate gate-1700000000000-0-0 1.0\n"
    sink.write([], [alert(2, "end")])
    assert consumer.lines.readline() == "end gate gate-1700000000000-0-0 2.0\n"


def test_it_starts_before_any_run_wrote_and_outlives_a_redis_that_was_emptied(redis_and_sink, consumer_of):
    url, sink = redis_and_sink
    consumer = consumer_of(url, "one")
    wait_until(lambda: sink._client.exists("cflow:alerts"))
    sink.write([], [alert(1)])
    assert consumer.lines.readline().startswith("update gate")
    sink._client.flushall()
    sink.write([], [alert(2)])
    assert consumer.lines.readline().endswith(" 2.0\n")


def test_of_two_consumers_of_the_group_each_alert_goes_to_one(redis_and_sink, consumer_of):
    url, sink = redis_and_sink
    consumers = [consumer_of(url, name) for name in ("one", "two")]
    wait_until(lambda: sink._client.exists("cflow:alerts"))
    wait_until(lambda: sink._client.xinfo_groups("cflow:alerts")[0]["consumers"] == 2)
    for i in range(20):
        sink.write([], [alert(i)])
    wait_until(lambda: sink._client.xinfo_groups("cflow:alerts")[0]["last-delivered-id"].endswith("-19"))
    wait_until(lambda: sink._client.xinfo_groups("cflow:alerts")[0]["pending"] == 0)
    seen = []
    for consumer in consumers:
        consumer.process.kill()
        seen += [int(float(line.split()[-1])) for line in consumer.process.communicate()[0].splitlines()]
    assert sorted(seen) == list(range(20))


def test_what_a_consumer_was_given_and_did_not_acknowledge_comes_again(redis_and_sink, consumer_of):
    url, sink = redis_and_sink
    sink.write([], [alert(i) for i in range(3)])
    assert sink.flush()
    # A consumer of that name took two alerts and died before it acknowledged them.
    sink._client.xgroup_create("cflow:alerts", "my-alarm-desk", id="0")
    sink._client.xreadgroup("my-alarm-desk", "one", {"cflow:alerts": ">"}, count=2)
    consumer = consumer_of(url, "one")
    assert [consumer.lines.readline().split()[-1] for _ in range(3)] == ["0.0", "1.0", "2.0"]


def test_it_is_about_twenty_lines_and_needs_redis_py_alone():
    text = EXAMPLE.read_text(encoding="utf-8")
    code = text.split('"""')[2].split("\n")
    assert sum(bool(line.strip()) for line in code) <= 30
    assert "pipeline" not in text
