"""Alerts by HTTP to a real receiver: signed, in order per camera, each until it is taken."""

import hashlib
import hmac
import http.client
import json
import logging
import pickle
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import SinkError
from pipeline.sinks.alert_queue import AlertCounts
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.to_webhook import WebhookSink, WebhookSinkSettings, idempotency_key, signature
from tests.sinks.made import WithStore, alert, notice, wait_until
from tests.sinks.receiver import SECRET, Receiver, self_made_certificate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def receiver():
    running = Receiver().start()
    yield running
    running.stop()


class Sending(WithStore, WebhookSink):
    """A sink and its store."""

    def __init__(self, url: str, folder: Path, *, run: str = "run", **settings) -> None:
        self.store = RunStore(folder / "run.sqlite", run, ["webhook"])
        settings = {"retry_max_s": 0.2, "timeout_s": 5.0, "secret": SECRET, **settings}
        super().__init__(WebhookSinkSettings(url=url, **settings), self.store.alerts("webhook"))


@pytest.fixture
def sending(receiver, tmp_path):
    sink = Sending(receiver.url, tmp_path)
    yield sink
    sink.close(0.0)


def test_an_alert_is_posted_as_it_stands_in_redis_signed_and_with_a_key_of_its_own(receiver, sending):
    alerts = [alert(0, "new"), alert(1), alert(2), alert(3, "end"), notice(), notice("run_started", camera_id=None)]
    sending.send(*alerts)
    assert sending.flush()
    assert [said["kind"] for said in receiver.taken] == [
        *("new", "update", "update", "end", "camera_offline", "run_started")
    ]
    headers, first, _ = receiver.requests[0]
    assert set(first) >= {"version", "kind", "event_id", "camera_id", "emitted_at_s", "peak_score", "region"}
    assert headers["Content-Type"] == "application/json"
    keys = [headers["Idempotency-Key"] for headers, _, _ in receiver.requests]
    assert len(set(keys)) == len(alerts)  # also of two updates of one event, emitted at the same moment
    assert keys[0].startswith("gate-1700000000000-0-0:new:")
    assert sending.alert_counts == AlertCounts(emitted=6, delivered=6)
    assert sending.trouble is None
    assert sending.unwritten() == []


def test_the_signature_is_the_one_that_the_documentation_describes():
    made = signature("s" * 16, 1_700_000_000, b'{"version": 1}')
    expected = hmac.new(b"s" * 16, b'1700000000.{"version": 1}', hashlib.sha256).hexdigest()
    assert made == f"t=1700000000,v1={expected}"


def test_the_check_that_the_documentation_shows_takes_ours_and_neither_another_body_nor_another_time():
    shown = (ROOT / "docs/delivery.md").read_text().split("## Webhook")[1].split("```python\n")[1].split("```")[0]
    documented: dict = {}
    exec(shown, documented)
    is_ours, body, now_s = documented["is_ours"], b'{"version": 1}', round(time.time())
    assert is_ours(signature(SECRET, now_s, body), body, SECRET)
    assert not is_ours(signature(SECRET, now_s, body), body + b" ", SECRET)
    assert not is_ours(signature(SECRET + "x", now_s, body), body, SECRET)
    assert not is_ours(signature(SECRET, now_s - 600, body), body, SECRET)


def test_the_same_alert_has_the_same_key_again_and_another_alert_another():
    text = json.dumps({"event_id": "gate-1", "kind": "update", "peak_score": 1.0})
    assert idempotency_key(text) == idempotency_key(text)
    assert idempotency_key(text) != idempotency_key(text.replace("1.0", "2.0"))


@pytest.mark.parametrize("status", [500, 404, 302, 410])
def test_a_camera_whose_alert_is_refused_holds_up_no_other_and_keeps_its_order(receiver, sending, caplog, status):
    refusing = threading.Event()
    refusing.set()

    def answer(said):
        refused = refusing.is_set() and said["camera_id"] == "gate" and said["peak_index"] == 1
        return (status, {"Location": receiver.url} if status == 302 else {}) if refused else (200, {})

    receiver.answer = answer
    for number in range(4):
        sending.send(alert(number), alert(number, camera_id="yard"))
    sending.send(notice("run_started", camera_id=None))
    wait_until(lambda: len(receiver.taken) == 6)
    wait_until(lambda: len(receiver.requests) > 9)  # tried again and again
    assert [said["peak_index"] for said in receiver.taken if said["camera_id"] == "yard"] == [0, 1, 2, 3]
    assert [said["peak_index"] for said in receiver.taken if said["camera_id"] == "gate"] == [0]
    assert f"refused with {status}" in str(sending.trouble)
    assert "camera gate" in str(sending.trouble)
    assert sending.alert_counts.waiting == 3
    refusing.clear()
    assert sending.flush()
    assert [said["peak_index"] for said in receiver.taken if said["camera_id"] == "gate"] == [0, 1, 2, 3]
    wait_until(lambda: sending.trouble is None)
    assert caplog.text.count(f"refused with {status}") == 1  # not at every attempt


def test_a_receiver_that_is_away_gets_everything_in_order_when_it_is_back(receiver, sending, caplog):
    sending.send(alert(0))
    assert sending.flush()
    receiver.stop()
    sending.send(*(alert(number) for number in range(1, 50)))
    wait_until(lambda: "nobody answers there" in str(sending.trouble))
    assert not sending.flush(0.5)
    receiver.start()
    assert sending.flush()
    assert receiver.numbers() == list(range(50))
    assert sending.alert_counts == AlertCounts(emitted=50, delivered=50)
    wait_until(lambda: sending.trouble is None)
    assert caplog.text.count("nobody answers there") == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_receiver_that_asks_for_a_pause_gets_it(receiver, sending, form):
    asked_at: list[float] = []

    def answer(said):
        if asked_at:
            return 200, {}
        asked_at.append(time.time())
        return 429, {"Retry-After": "2" if form == "seconds" else formatdate(time.time() + 3, usegmt=True)}

    receiver.answer = answer
    sending.send(alert(0), alert(0, camera_id="yard"))
    wait_until(lambda: "asks for a pause with 429" in str(sending.trouble))
    assert sending.flush()
    assert all(at_s - asked_at[0] >= 1.9 for _, _, at_s in receiver.requests[1:])
    assert len(receiver.requests) == 3


def test_an_answer_that_does_not_come_is_given_up_and_the_alert_is_known_when_it_comes_again(receiver, tmp_path):
    sink = Sending(receiver.url, tmp_path, timeout_s=0.3)
    release = threading.Event()
    slow = [alert(0)]

    def answer(said):
        if said["camera_id"] == "gate" and slow:
            slow.pop()
            release.wait(10)
        return 200, {}

    receiver.answer = answer
    sink.send(alert(0), alert(1), alert(0, camera_id="yard"))
    assert sink.flush()
    release.set()
    wait_until(lambda: len(receiver.requests) == 4)
    assert receiver.numbers("gate") == [0, 1]
    assert receiver.numbers("yard") == [0]
    sink.close()


def test_what_was_not_taken_before_the_end_is_delivered_first_by_the_next_run(receiver, tmp_path):
    receiver.stop()
    sink = Sending(receiver.url, tmp_path)
    sink.send(*(alert(number) for number in range(5)))
    started = time.monotonic()
    sink.close()
    assert time.monotonic() - started < 15.0
    (fault,) = sink.unwritten()
    assert "nobody answers there" in fault
    assert "5 alerts were not delivered; the next run delivers them" in fault
    receiver.start()
    following = Sending(receiver.url, tmp_path, run="the next")
    following.send(alert(5))
    following.close()
    assert receiver.numbers() == list(range(6))
    assert following.alert_counts == AlertCounts(carried_over=5, emitted=1, delivered=6)


def test_closing_tries_once_more_what_was_refused_without_waiting_for_its_turn(receiver, tmp_path):
    receiver.answer = lambda said: (500, {})
    sink = Sending(receiver.url, tmp_path, retry_max_s=600.0)
    for number in range(3):
        sink.send(alert(number))
    wait_until(lambda: sink.trouble is not None)  # or the refusal could come after closing began
    receiver.answer = lambda said: (200, {})
    sink.close()
    assert receiver.numbers() == [0, 1, 2]


def test_a_process_killed_between_sending_and_settling_repeats_the_alert_under_its_key(receiver, tmp_path):
    code = (
        "import os, signal, sys, threading\n"
        "from pathlib import Path\n"
        "from tests.sinks.made import WithStore, alert\n"
        "from tests.sinks.test_to_webhook import Sending\n"
        "sink = Sending(sys.argv[1], Path(sys.argv[2]))\n"
        "sink.store.alerts('webhook').ack = lambda alerts: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sink.send(alert(0), alert(1))\n"
        "threading.Event().wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, receiver.url, str(tmp_path)], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -9
    assert receiver.numbers() == [0]
    again = Sending(receiver.url, tmp_path)
    assert again.flush()
    again.close()
    keys = [headers["Idempotency-Key"] for headers, _, _ in receiver.requests]
    assert keys[0] == keys[1] != keys[2]
    assert receiver.numbers() == [0, 1]
    assert again.alert_counts == AlertCounts(emitted=2, delivered=2)


def test_with_tls_the_receiver_must_be_one_that_is_trusted(tmp_path):
    certificate = self_made_certificate(tmp_path)
    receiver = Receiver(certificate).start()
    stranger = Sending(receiver.url, tmp_path / "a")
    stranger.send(alert(0))
    wait_until(lambda: "its certificate is not to be trusted" in str(stranger.trouble))
    stranger.close(0.0)
    assert receiver.requests == []
    known = Sending(receiver.url, tmp_path / "b", ca_file=certificate[0])
    known.send(alert(0))
    assert known.flush()
    known.close()
    settings = {"url": receiver.url, "secret": SECRET}
    assert WebhookSinkSettings(**settings, ca_file=certificate[0]).check().endswith("answers HEAD with 405")
    with pytest.raises(SinkError, match="its certificate is not to be trusted"):
        WebhookSinkSettings(**settings).check()
    receiver.stop()


def test_checking_sends_no_alert_and_says_in_one_line_that_nobody_is_there(receiver):
    settings = WebhookSinkSettings(url=receiver.url, secret=SECRET)
    assert settings.check() == f"http://127.0.0.1:{receiver.port}: answers HEAD with 405"
    assert receiver.methods == ["HEAD"]
    receiver.stop()
    with pytest.raises(SinkError, match=f"^http://127.0.0.1:{receiver.port}: nobody answers there") as raised:
        settings.check()
    assert len(str(raised.value).splitlines()) == 1


def test_neither_password_nor_token_nor_secret_is_ever_shown(receiver, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    url = receiver.url.replace("://", "://user:hunter2@")
    sink = Sending(url, tmp_path)
    sink.send(alert(0))
    assert sink.flush()
    receiver.stop()
    sink.send(alert(1))
    wait_until(lambda: sink.trouble is not None)
    said = [caplog.text, str(sink.trouble), *sink.unwritten(), repr(WebhookSinkSettings(url=url, secret=SECRET))]
    sink.close(0.0)
    assert not any("hunter2" in line or SECRET in line for line in [*said, caplog.text, *sink.unwritten()])
    headers, _, _ = receiver.requests[0]
    assert headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "example.org/hook",
        "ftp://example.org",
        "https://",
        "http://a b",
        "https://x:99999/",
        "https://x\n/",
        "https://x..y",
    ],
)
def test_an_address_that_is_none_is_refused_without_being_shown(address):
    with pytest.raises(ValidationError, match=r"expected (an address that begins with https:|a host)") as raised:
        WebhookSinkSettings(url=address, secret=SECRET)
    assert [error["loc"] for error in raised.value.errors()] == [("url",)]


def test_settings_travel_to_the_scorer_with_their_secrets():
    settings = WebhookSinkSettings(url="https://example.org/hook", secret=SECRET, name="pager")
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert again.sink_name == "pager"
    assert again.secret.get_secret_value() == SECRET


def test_a_server_that_speaks_no_http_is_trouble_and_stops_nothing(tmp_path, receiver):
    sink = Sending(receiver.url, tmp_path)
    garbage = threading.Event()

    def answer(said):
        if not garbage.is_set():
            garbage.set()
            raise http.client.BadStatusLine("the connection ends without an answer")
        return 200, {}

    receiver.answer = answer
    sink.send(alert(0))
    assert sink.flush()
    assert receiver.numbers() == [0]
    sink.close()


def test_an_answer_that_breaks_off_after_its_status_counts_and_one_of_endless_length_holds_nothing_up(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 2**20,
    ]
    requests: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection, suppress(OSError):  # the client may have read enough
                requests.append(connection.recv(2**16))
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    sink = Sending(f"http://127.0.0.1:{listener.getsockname()[1]}/", tmp_path)
    sink.send(alert(0), alert(1))
    assert sink.flush()
    assert len(requests) == 2
    sink.close()
    listener.close()


def test_what_is_needed_to_ask_may_be_missing_for_a_while(receiver, tmp_path, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "ftp://user:hunter2@127.0.0.1:1")
    with pytest.raises(SinkError, match=f"^http://127.0.0.1:{receiver.port}: expected addresses of proxies"):
        WebhookSinkSettings(url=receiver.url, secret=SECRET).check()
    sink = Sending(receiver.url, tmp_path)  # as a scorer that is started again would
    sink.send(alert(0))
    wait_until(lambda: "expected addresses of proxies" in str(sink.trouble))
    assert "hunter2" not in str(sink.trouble)
    monkeypatch.delenv("ALL_PROXY")
    assert sink.flush()
    sink.close()


def test_a_proxy_of_the_environment_is_used_and_its_password_is_not_shown(receiver, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HTTP_PROXY", f"http://user:hunter2@127.0.0.1:{receiver.port}")
    receiver.answer = lambda said: (200 if receiver.requests else 407, {})
    sink = Sending("http://receiver.invalid/hook", tmp_path)
    sink.send(alert(0))
    assert sink.flush()
    sink.close()
    assert [headers["Host"] for headers, _, _ in receiver.requests] == ["receiver.invalid"] * 2
    assert receiver.requests[0][0]["Proxy-Authorization"].startswith("Basic ")
    assert "refused with 407" in caplog.text
    assert "hunter2" not in caplog.text


def test_certificates_are_found_from_any_working_folder(tmp_path, monkeypatch):
    certificate, _ = self_made_certificate(tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = WebhookSinkSettings(url="https://example.org", secret=SECRET, ca_file=Path(certificate.name))
    assert settings.ca_file == certificate
