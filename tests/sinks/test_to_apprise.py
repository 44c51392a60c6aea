"""Alerts to people by apprise: real mails to a real server, with pictures, each until it is taken."""

import logging
import pickle
import time
from dataclasses import replace

import pytest
from pydantic import ValidationError

from pipeline.errors import SinkError
from pipeline.sinks.alert_queue import AlertCounts
from pipeline.sinks.base import SinkContext
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.to_apprise import AppriseSink, AppriseSinkSettings, service_of, without_secrets
from tests.sinks.made import START_S, WithStore, alert, notice, wait_until
from tests.sinks.mail_server import PASSWORD, MailServer, attached, text

PICTURE = b"\xff\xd8\xff\xe0 a picture"


@pytest.fixture
def server():
    running = MailServer().start()
    yield running
    running.stop()


class Mailing(WithStore, AppriseSink):
    """A sink and its store; by default events wait for no picture."""

    def __init__(self, url, folder, **settings) -> None:
        settings = AppriseSinkSettings(url=url, **{"retry_max_s": 0.2, "picture_wait_s": 0.0, **settings})
        (folder / "gate").mkdir(exist_ok=True)
        (folder / "gate" / "picture.jpg").write_bytes(PICTURE)
        self.store = RunStore(folder / "run.sqlite", "run", ["apprise"], {"apprise": settings})
        alerts = self.store.alerts("apprise")
        super().__init__(settings, SinkContext("run", {}, alerts, folder=folder), alerts)


@pytest.fixture
def sink_of(server, tmp_path):
    """Makes sinks that end with the test, one after the other."""
    sinks = []

    def make(**settings):
        sinks.append(Mailing(server.url, tmp_path, **settings))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close(0.0)


def of_event(number, kind="new", *, picture=None, at_s=None, **changes):
    made = alert(number, kind, emitted_at_s=at_s)
    changes = {"event_id": f"gate-{number}", "picture": picture, **changes}
    return replace(made, event=replace(made.event, **changes))


def evidence(number):
    return of_event(number, "evidence", picture="gate/picture.jpg")


def test_a_person_reads_where_what_and_how_unusual_and_is_not_told_of_all_the_rest(server, sink_of):
    sink = sink_of()
    said = {"zone": "yard", "channel": "motion", "once_in_h": 216.0, "started_local": "2026-11-26T14:03:12+01:00"}
    sink.send(of_event(0, provisional=False, **said), of_event(0, "update"), of_event(0, "end"), notice())
    assert sink.flush()
    assert server.subjects() == ["gate: motion at the bottom, zone yard, once in 9 days", "gate: camera offline"]
    first = text(server.taken[0])
    assert "Began 2026-11-26T14:03:12+01:00" in first
    assert first.strip().endswith("If it was nothing: cflow-stream alerts dismiss gate-0")
    assert "no frame for 10 s" in text(server.taken[1])
    assert server.taken[0]["To"] == "guard@example.org"
    assert sink.alert_counts == AlertCounts(emitted=4, delivered=2, withheld=2)


def test_an_event_waits_for_its_picture_and_goes_out_with_it_in_one_message(server, sink_of):
    sink = sink_of(picture_wait_s=600.0)
    sink.send(of_event(0, at_s=time.time()), notice(camera_id=None))
    wait_until(lambda: server.subjects() == ["run: camera offline"])  # nobody else waits
    sink.send(evidence(0))
    assert sink.flush()
    assert len(server.taken) == 2
    assert attached(server.taken[1]) == [PICTURE]
    sink.send(evidence(0))  # with the clip, when the event is over
    assert sink.flush()
    assert len(server.taken) == 2
    assert sink.alert_counts == AlertCounts(emitted=4, delivered=4)


def test_a_picture_that_comes_too_late_has_a_message_of_its_own_and_only_one_also_after_a_restart(server, sink_of):
    sink = sink_of(picture_wait_s=0.2)
    sink.send(of_event(0, at_s=time.time()))
    assert sink.flush()
    assert attached(server.taken[0]) == []
    sink.send(evidence(0))
    assert sink.flush()
    assert attached(server.taken[1]) == [PICTURE]
    assert server.subjects()[1].startswith("gate: picture: ")
    sink.close()
    again = sink_of()
    again.send(evidence(0), of_event(1), evidence(1))
    assert again.flush()
    assert [attached(message) for message in server.taken] == [[], [PICTURE], [PICTURE]]


def test_whoever_ends_waits_for_no_picture(server, sink_of):
    sink = sink_of(picture_wait_s=600.0)
    sink.send(of_event(0, at_s=time.time()))
    sink.close()
    assert len(server.taken) == 1
    assert sink.unwritten() == []


def test_a_server_that_is_away_gets_everything_in_order_when_it_is_back(server, sink_of, caplog):
    caplog.set_level(logging.DEBUG)
    sink = sink_of()
    server.stop()
    sink.send(*(of_event(number, once_in_h=float(number + 2)) for number in range(5)))
    wait_until(lambda: "does not take it" in str(sink.trouble))
    assert sink.alert_counts.waiting == 5
    server.start()
    assert sink.flush(60.0)
    assert [subject.split("once in ")[1] for subject in server.subjects()] == [f"{n} hours" for n in range(2, 7)]
    wait_until(lambda: sink.trouble is None)
    assert caplog.text.count("does not take it") == 1


def test_a_picture_that_is_not_taken_is_left_out_rather_than_holding_up_its_camera(server, sink_of):
    server.refuses = lambda message: bool(attached(message))
    sink = sink_of()
    sink.send(of_event(0, picture="gate/picture.jpg"), of_event(1, picture="gate/gone.jpg"))
    assert sink.flush(60.0)
    assert [attached(message) for message in server.taken] == [[], []]


def test_a_digest_says_how_many_when_and_what_was_most_unusual(server, sink_of):
    sink = sink_of(digest_s=3600.0)
    local = {"started_local": "2023-11-14T23:13:20+01:00"}
    sink.send(of_event(0))
    for number in range(1, 4):
        sink.send(of_event(number, at_s=START_S + 60 * number, once_in_h=24.0 * number, zone="yard", **local))
    assert sink.store.emit_digests(START_S + 4000)
    sink.wake()
    assert sink.flush()
    assert server.subjects()[1] == "gate: 3 more events, motion at the bottom, zone yard, perhaps once in 3 days"
    told = text(server.taken[1])
    assert "3 more events on gate between 23:13 and 00:13." in told
    assert "once in 3 days" in told


@pytest.fixture
def logged():
    """What anybody logs, as whoever runs this would see it at the lowest level there is."""
    records: list[str] = []
    handler = logging.Handler(1)
    handler.emit = lambda record: records.append(record.getMessage())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield records
    root.setLevel(level)
    root.removeHandler(handler)


def test_neither_password_nor_address_is_ever_shown(server, tmp_path, logged):
    url = server.url.replace(PASSWORD, "wrong-hunter2")
    sink = Mailing(url, tmp_path)
    sink.send(of_event(0))
    wait_until(lambda: sink.trouble is not None)
    said = [str(sink.trouble), *sink.unwritten(), repr(AppriseSinkSettings(url=url))]
    sink.close(0.0)
    assert "mailto" in str(said)
    assert not any(secret in line for secret in ("hunter2", "guard@") for line in [*said, *logged])
    assert any("does not take it (Connection error while submitting email to" in line for line in logged)
    assert pickle.loads(pickle.dumps(AppriseSinkSettings(url=url))).url.get_secret_value() == url


def test_why_a_mail_was_not_taken_is_said_of_an_address_as_the_document_shows_it_and_kept_where_it_holds_a_secret():
    url = "mailtos://alarm:hunter2@example.org?smtp=smtp.example.org&from=alarm@example.org&to=guard@example.net"
    refused = "Connection error while submitting email to smtp.example.org from here"
    assert without_secrets(refused, url, service_of(url)) == refused
    for secret in ("hunter2", "alarm", "guard@example.net"):
        assert without_secrets(f"{refused}: {secret}", url, service_of(url)) == ""
    url = "json://example.org/tok%2Fen?+X-Key=hunter2&word-alone"
    assert without_secrets("example.org refuses it", url, service_of(url)) == "example.org refuses it"
    for secret in ("tok%2Fen", "tok/en", "hunter2", "word-alone"):
        assert without_secrets(f"refused: {secret}", url, service_of(url)) == ""
    url = "ntfys://hunter2-topic"
    assert without_secrets("topic hunter2-topic is unknown", url, service_of(url)) == ""


def test_checking_sends_nothing(server):
    settings = AppriseSinkSettings(url=server.url)
    assert f"127.0.0.1:{server.port} answers" in settings.check()
    assert server.taken == []
    server.stop()
    with pytest.raises(SinkError, match=rf"^apprise mailto: nobody answers at 127.0.0.1:{server.port} "):
        settings.check()
    assert "known to apprise" in AppriseSinkSettings(url="ntfys://hunter2-topic").check()


def test_what_another_kind_of_sink_remembered_under_the_same_name_is_nothing_to_it(server, tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "run", ["apprise"])
    store.alerts("apprise").keep_receipts({}, '{"run": "a", "cameras": {}}')
    store.close()
    sink = Mailing(server.url, tmp_path)
    sink.send(of_event(0), evidence(0))
    assert sink.flush()
    assert [attached(message) for message in server.taken] in ([[PICTURE]], [[], [PICTURE]])
    sink.close()


@pytest.mark.parametrize("url", ["", "hunter2", "nobody://hunter2", "mailto://", "json://hunter2\n"])
def test_an_address_that_apprise_does_not_know_is_refused_without_being_shown(url, logged):
    with pytest.raises(ValidationError) as raised:
        AppriseSinkSettings(url=url)
    assert [error["loc"] for error in raised.value.errors()] == [("url",)]
    assert "hunter2" not in " ".join([raised.value.errors()[0]["msg"], *logged])


def test_kinds_that_are_not_said_are_the_beginning_and_the_picture(server):
    assert AppriseSinkSettings(url=server.url, only={"cameras": ["gate"]}).only.kinds == ("new", "evidence")
    assert AppriseSinkSettings(url=server.url, only={"kinds": ["end"]}).only.kinds == ("end",)
