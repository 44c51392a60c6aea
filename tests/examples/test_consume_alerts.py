import subprocess
import sys
from pathlib import Path

import pytest
import redis

from pipeline.sinks.embedded_redis import EmbeddedRedis
from tests.sinks.made import SinkWithStore, alert, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "consume_alerts.py"


class Consumer:
    """The example, running."""

    def __init__(self, errors, url, name, *more):
        self._errors = errors
        with errors.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(EXAMPLE), url, name, *more], stdout=subprocess.PIPE, stderr=file, text=True
            )
        assert self.process.stdout is not None
        self.lines = self.process.stdout

    def errors(self):
        """The lines that it has written to standard error so far."""
        return self._errors.read_text().splitlines()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.lines.close()


@pytest.fixture
def consumer_of(tmp_path):
    running = []

    def make(url, name, *more):
        running.append(Consumer(tmp_path / f"errors-{len(running)}.txt", url, name, *more))
        return running[-1]

    yield make
    for consumer in running:
        consumer.kill()


def client_of(url):
    return redis.Redis.from_url(url, decode_responses=True)


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
    wait_until(lambda: client_of(url).exists("cflow:alerts"))
    sink.write([], [alert(1)])
    assert consumer.lines.readline().startswith("update gate")
    client_of(url).flushall()
    sink.write([], [alert(2)])
    assert consumer.lines.readline().endswith(" 2.0\n")


def test_of_two_consumers_of_the_group_each_alert_goes_to_one(redis_and_sink, consumer_of):
    url, sink = redis_and_sink
    consumers = [consumer_of(url, name) for name in ("one", "two")]
    wait_until(lambda: client_of(url).exists("cflow:alerts"))
    wait_until(lambda: client_of(url).xinfo_groups("cflow:alerts")[0]["consumers"] == 2)
    for i in range(20):
        sink.write([], [alert(i)])
    wait_until(lambda: client_of(url).xinfo_groups("cflow:alerts")[0]["last-delivered-id"].endswith("-19"))
    wait_until(lambda: client_of(url).xinfo_groups("cflow:alerts")[0]["pending"] == 0)
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
    client_of(url).xgroup_create("cflow:alerts", "my-alarm-desk", id="0")
    client_of(url).xreadgroup("my-alarm-desk", "one", {"cflow:alerts": ">"}, count=2)
    consumer = consumer_of(url, "one")
    assert [consumer.lines.readline().split()[-1] for _ in range(3)] == ["0.0", "1.0", "2.0"]


def test_what_a_consumer_that_never_returns_was_given_goes_to_another_one(redis_and_sink, consumer_of):
    url, sink = redis_and_sink
    sink.write([], [alert(i) for i in range(4)])
    assert sink.flush()
    client = client_of(url)

    def pending():
        return client.xinfo_groups("cflow:alerts")[0]["pending"]

    client.xgroup_create("cflow:alerts", "my-alarm-desk", id="0")
    given = client.xreadgroup("my-alarm-desk", "dead", {"cflow:alerts": ">"}, count=3)
    client.xdel("cflow:alerts", given[0][1][0][0])  # one is trimmed away before anybody looks
    patient = consumer_of(url, "patient", "3600")
    assert patient.lines.readline().split()[-1] == "3.0"  # what is new; it leaves the others to whoever works on them
    wait_until(lambda: pending() in (2, 3))  # Redis 7 forgets the trimmed one at once
    consumer = consumer_of(url, "one", "0.1")
    assert [consumer.lines.readline().split()[-1] for _ in range(2)] == ["1.0", "2.0"]
    wait_until(lambda: pending() <= 1)  # the trimmed one, of which Redis 6 does not say which it was


def test_what_was_trimmed_away_before_it_was_acknowledged_does_not_end_a_consumer(redis_and_sink, consumer_of):
    url, sink = redis_and_sink
    sink.write([], [alert(i) for i in range(2)])
    assert sink.flush()
    client_of(url).xgroup_create("cflow:alerts", "my-alarm-desk", id="0")
    given = client_of(url).xreadgroup("my-alarm-desk", "one", {"cflow:alerts": ">"}, count=1)
    client_of(url).xdel("cflow:alerts", given[0][1][0][0])
    assert consumer_of(url, "one").lines.readline().split()[-1] == "1.0"


def pending_at(server):
    return server.client().xinfo_groups("cflow:alerts")[0]["pending"]


def test_it_waits_for_a_redis_that_is_killed_and_started_again_and_misses_nothing(server, sink_of, consumer_of):
    sink = sink_of(server.url)
    consumer = consumer_of(server.url, "one")
    for number in range(3):
        sink.write([], [alert(number)])
        assert consumer.lines.readline().split()[-1] == f"{number}.0"
        wait_until(lambda: pending_at(server) == 0)  # or it would be given again, as the next test has it
        known = len(consumer.errors())
        server.kill()
        wait_until(lambda: len(consumer.errors()) > known)  # noqa: B023  # its blocking read was cut off
        assert "waiting for Redis" in consumer.errors()[known]
        sink.write([], [alert(number + 100)])
        server.start()
        assert consumer.lines.readline().split()[-1] == f"{number + 100}.0"
    assert sink.flush()
    wait_until(lambda: pending_at(server) == 0)
    assert consumer.process.poll() is None


def test_what_it_was_given_when_redis_was_killed_before_it_was_acknowledged_comes_again(server, sink_of, consumer_of):
    sink = sink_of(server.url)
    sink.write([], [alert(0)])
    assert sink.flush()
    consumer = consumer_of(server.url, "one")
    assert consumer.lines.readline().split()[-1] == "0.0"
    wait_until(lambda: pending_at(server) == 0)
    sink.write([], [alert(1)])
    assert consumer.lines.readline().split()[-1] == "1.0"
    wait_until(lambda: pending_at(server) == 0)
    # An answer that was lost on its way: Redis has noted the entry as given to this consumer, who never saw it.
    server.client().xgroup_setid("cflow:alerts", "my-alarm-desk", "0")
    server.client().xreadgroup("my-alarm-desk", "one", {"cflow:alerts": ">"}, count=1)
    server.kill()
    server.start()
    assert consumer.lines.readline().split()[-1] == "0.0"


def test_it_waits_for_a_redis_that_is_not_there_yet_and_for_one_that_hangs(server, sink_of, consumer_of):
    server.kill()
    consumer = consumer_of(server.url, "one")
    wait_until(lambda: any("waiting for Redis" in line for line in consumer.errors()))
    server.start()
    sink = sink_of(server.url)
    sink.write([], [alert(1)])
    assert consumer.lines.readline().split()[-1] == "1.0"
    server.freeze()
    wait_until(lambda: any("Timeout" in line for line in consumer.errors()), timeout_s=30.0)
    server.thaw()
    sink.write([], [alert(2)])
    assert consumer.lines.readline().split()[-1] == "2.0"


def test_a_wrong_password_ends_it(server, consumer_of):
    server.client().config_set("requirepass", "right")
    consumer = consumer_of(server.url.replace("unix://", "unix://:wrong@"), "one")
    assert consumer.process.wait(20) == 1
    (line,) = consumer.errors()
    assert "invalid username-password pair" in line


def test_what_is_no_stream_ends_it_in_one_line(server, consumer_of):
    server.client().set("cflow:alerts", "mine")
    consumer = consumer_of(server.url, "one")
    assert consumer.process.wait(20) == 1
    (line,) = consumer.errors()
    assert line.startswith("cflow:alerts: WRONGTYPE")


def test_a_user_who_may_make_no_group_is_told_so_in_one_line(server, consumer_of, sink_of):
    server.client().execute_command("ACL", "SETUSER", "reader", "on", ">right", "~*", "+@all", "-xgroup")
    consumer = consumer_of(server.url.replace("unix://", "unix://reader:right@"), "one")
    assert consumer.process.wait(20) == 1
    (line,) = consumer.errors()
    assert line.startswith("cflow:alerts: ")
    assert "permissions" in line
    assert "xgroup" in line
    server.client().xgroup_create("cflow:alerts", "my-alarm-desk", id="0", mkstream=True)  # who may makes it
    sink_of(server.url).write([], [alert(1)])
    consumer = consumer_of(server.url.replace("unix://", "unix://reader:right@"), "one")
    assert consumer.lines.readline().split()[-1] == "1.0"


def test_it_waits_for_a_redis_that_is_full_when_it_begins(server, consumer_of, sink_of):
    server.client().config_set("maxmemory", 1)
    consumer = consumer_of(server.url, "one")
    wait_until(lambda: any("waiting for Redis" in line for line in consumer.errors()))
    server.client().config_set("maxmemory", 0)
    sink_of(server.url).write([], [alert(1)])
    assert consumer.lines.readline().split()[-1] == "1.0"


def test_it_is_short_and_needs_redis_py_alone():
    text = EXAMPLE.read_text(encoding="utf-8")
    code = text.split('"""', 2)[2].split("\n")
    assert sum(bool(line.strip()) for line in code) <= 53
    assert "pipeline" not in text


@pytest.mark.parametrize("words", [["redis://:secret/x@127.0.0.1:1"], [], [""]])
def test_a_password_that_would_be_read_as_a_host_is_refused_unseen_wherever_it_comes_from(words):
    command = [sys.executable, str(EXAMPLE), *words]
    environment = {"REDIS_URL": "redis://127.0.0.1:1" if any(words) else "redis://:secret/x@127.0.0.1:1"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60.0, env=environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("REDIS_URL: expected special characters of user and password percent-encoded")
    assert "sec" not in ended.stderr
