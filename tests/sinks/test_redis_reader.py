import re
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import RedisError
from pipeline.sinks.redis_reader import read_alerts, read_scores, read_statuses
from pipeline.sinks.run_status import RunStatusWriter, read_run
from tests.sinks.made import alert, score, wait_until


class Follower:
    """Reads alerts in a thread of its own."""

    def __init__(self, url, **arguments):
        self.seen, self.error = [], None
        self.stop = threading.Event()
        self.alerts = read_alerts(url, follow=True, stop=self.stop, **arguments)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for entry in self.alerts:
                self.seen.append(entry["peak_index"])
        except RedisError as error:
            self.error = error

    def end(self):
        self.stop.set()
        self.thread.join(5)
        assert not self.thread.is_alive()


def is_waiting(server) -> bool:
    """Whether a client is blocked in XREAD, by Redis's own list."""
    return any(client["cmd"] == "xread" for client in server.client().client_list())


def test_following_shows_old_alerts_then_new_ones_as_they_come(server, sink_of):
    sink = sink_of(server.url)
    sink.write([], [alert(i) for i in range(1200)])
    assert sink.flush()
    follower = Follower(server.url)
    wait_until(lambda: len(follower.seen) == 1200)
    sink.write([], [alert(1200)])
    wait_until(lambda: len(follower.seen) == 1201)
    follower.end()
    assert follower.seen == list(range(1201))


def test_following_from_now_leaves_out_the_past(server, sink_of):
    sink = sink_of(server.url)
    sink.write([], [alert(0)])
    assert sink.flush()
    follower = Follower(server.url, since="now")
    wait_until(lambda: is_waiting(server))  # only then is it past looking up what "now" is
    sink.write([], [alert(1)])
    wait_until(lambda: follower.seen)
    follower.end()
    assert follower.seen == [1]


def test_reading_can_go_on_after_a_known_entry(server, sink_of):
    sink = sink_of(server.url)
    sink.write([], [alert(i) for i in range(5)])
    assert sink.flush()
    known = list(read_alerts(server.url))[2]["id"]
    assert [entry["peak_index"] for entry in read_alerts(server.url, since=known)] == [3, 4]


def test_following_outlives_a_redis_that_goes_and_comes_back(server, sink_of, caplog):
    sink = sink_of(server.url)
    sink.write([], [alert(0)])
    follower = Follower(server.url)
    wait_until(lambda: follower.seen == [0])
    server.kill()
    wait_until(lambda: "waiting for it" in caplog.text)
    sink.write([], [alert(1), alert(2)])
    server.start()
    wait_until(lambda: len(follower.seen) == 3)
    follower.end()
    assert follower.seen == [0, 1, 2]
    assert follower.error is None


def test_following_ends_soon_after_it_is_told_to(server):
    follower = Follower(server.url)
    started = time.monotonic()
    follower.end()
    assert time.monotonic() - started < 15.0


def allows(server, *rules):
    server.client().execute_command("ACL", "SETUSER", "reader", "on", ">hunter2secret", "resetkeys", *rules)
    return server.url.replace("unix://", "unix://reader:hunter2secret@")


def no_command(server):
    url = allows(server, "~cflow:*", "+@all", "-xread")
    return url, lambda: allows(server, "~cflow:*", "+@all")


def no_key(server):
    url = allows(server, "~other", "+@all")
    return url, lambda: allows(server, "~cflow:*", "+@all")


def other_type(server):
    server.client().set("cflow:alerts", "mine")
    return server.url, lambda: server.client().delete("cflow:alerts")


def check_goes_on(follower, server):
    """See that the next alert is followed, and end the following."""
    wait_until(lambda: is_waiting(server))
    add_alert(server, 1)
    wait_until(lambda: follower.seen == [1])
    follower.end()


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        (no_command, "(cflow:alerts; docs/operations.md lists what its user must be allowed)"),
        (no_key, "(cflow:alerts; docs/operations.md"),
        (
            other_type,
            "WRONGTYPE Operation against a key holding the wrong kind of value (cflow:alerts; somebody else's",
        ),
    ],
)
@pytest.mark.parametrize("since", ["0", "now"])
def test_following_waits_while_redis_refuses_and_goes_on_once_it_does_not(server, caplog, refuse, said, since):
    url, mend = refuse(server)
    follower = Follower(url, since=since)
    wait_until(lambda: "waiting for it" in caplog.text)
    mend()
    check_goes_on(follower, server)
    assert (follower.error, said in caplog.text) == (None, True), caplog.text
    assert caplog.text.count("waiting for it") == 1
    assert "hunter2" not in caplog.text


def test_following_outlives_a_password_that_is_changed_and_changed_back(server, caplog):
    follower = Follower(server.url)
    wait_until(lambda: is_waiting(server))
    mend = locked(server)
    wait_until(lambda: "refuses the password" in caplog.text)
    mend()
    check_goes_on(follower, server)


def locked(server):
    admin = server.client()
    admin.config_set("requirepass", "right")
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return lambda: admin.config_set("requirepass", "")


def add_alert(server, number):
    text = f'{{"kind": "new", "event_id": "x", "emitted_at_s": 1, "peak_index": {number}}}'
    server.client().xadd("cflow:alerts", {"json": text})


def test_a_redis_that_is_not_there_is_said_at_once(tmp_path):
    url = f"unix://{tmp_path}/none.sock"
    for read in (
        lambda: list(read_alerts(url, follow=True)),
        lambda: read_statuses(url),
        lambda: read_scores(url, "a"),
    ):
        with pytest.raises(RedisError, match="nobody answers there"):
            read()


def test_the_newest_scores_come_oldest_first(server, sink_of):
    sink = sink_of(server.url)
    sink.write([score(i) for i in range(300)], [])
    assert sink.flush()
    assert [entry["index"] for entry in read_scores(server.url, "gate", count=10)] == list(range(290, 300))
    assert read_scores(server.url, "nobody") == []


@pytest.mark.parametrize("text", ["not json", "[1]", "", b"\xff"])
def test_what_others_wrote_under_our_keys_is_named_and_not_taken_for_ours(server, text, caplog):
    client = server.client()
    client.xadd("cflow:alerts", {"json": text}, id="5-0")
    client.xadd("cflow:alerts", {"other": "1"}, id="5-1")
    client.hset("cflow:cameras", "gate", text)
    add_alert(server, 7)
    assert [alert["peak_index"] for alert in read_alerts(server.url)] == [7]
    ((*_, said),) = caplog.record_tuples
    assert "entry 5-0: expected a JSON object" in said
    client.hset("cflow:cameras", "yard", '{"camera_id": "yard"}')
    assert read_statuses(server.url) == {"yard": {"camera_id": "yard"}}
    assert "cflow:cameras: 'gate': expected a JSON object" in caplog.text


def test_a_key_of_another_type_is_named(server):
    server.client().set("cflow:alerts", "mine")
    with pytest.raises(RedisError, match="WRONGTYPE"):
        list(read_alerts(server.url))


def test_a_user_who_may_send_what_the_document_says_can_read_all_that_readers_read(server):
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    sentence = re.search(r"`status` and `alerts` send (.*?)\. ", page, re.DOTALL).group(1)
    may = [f"+{command.lower()}" for command in re.findall(r"`([A-Z]+)`", sentence)]
    server.client().execute_command("ACL", "SETUSER", "reader", "on", ">hunter2secret", "~cflow:*", *may)
    url = server.url.replace("unix://", "unix://reader:hunter2secret@")
    with RunStatusWriter(server.url, "run-1") as told:
        told.write("ended", {}, {"gate": {"camera_id": "gate", "state": "finished"}})
    server.client().xadd("cflow:alerts", {"json": '{"kind": "new", "event_id": "x", "emitted_at_s": 1}'})
    assert read_run(url)["state"] == "ended"
    assert set(read_statuses(url)) == {"gate"}
    assert [alert["kind"] for alert in read_alerts(url)] == ["new"]
    assert list(read_alerts(url, since="now")) == []
