"""How a sink goes on while whoever it sends to is away."""

import logging
import threading

from pipeline.sinks.alert_sender import AlertSender, NotYetError, Tries
from pipeline.sinks.base import Reason
from pipeline.sinks.run_store import RunStore
from tests.sinks.made import alert


def test_a_receiver_away_for_an_hour_is_tried_all_the_time_seldom_and_said_to_be_once(caplog):
    caplog.set_level(logging.INFO)
    now_s = [1000.0]
    tries = Tries("Webhook https://example.org", 60.0, lambda: now_s[0])
    pauses = []
    while now_s[0] < 1000.0 + 3600.0:
        tries.failed(Reason("nobody answers there", f"attempt {len(pauses)}"))
        pauses.append(tries.not_before - now_s[0])
        now_s[0] = tries.not_before
    assert max(pauses) <= 60.0  # so that whoever is back has everything a minute later
    assert 60 <= len(pauses) <= 400
    tries.succeeded()
    assert tries.not_before == 0.0
    assert [record.getMessage().split(": ")[1].split(" (")[0] for record in caplog.records] == [
        "nobody answers there",
        "delivering again",
    ]


def test_a_pause_that_is_asked_for_is_kept_up_to_ten_minutes():
    tries = Tries("Webhook https://example.org", 60.0, lambda: 0.0)
    tries.failed(Reason("asks for a pause"), 120.0)
    assert 120.0 <= tries.not_before <= 180.0
    tries.failed(Reason("asks for a pause"), 1e9)
    assert tries.not_before <= 660.0


class Undecided(AlertSender):
    """Has an alert wait for an hour when it first sees it, and decides so only when it is let."""

    def __init__(self, alerts) -> None:
        super().__init__("Receiver", alerts, 1.0)
        self.looks, self.decides = threading.Event(), threading.Event()
        self.seen = 0
        self._begin()

    def _send(self, alert):
        self.seen += 1
        if self.seen > 1:
            return [alert]
        self.looks.set()
        assert self.decides.wait(60.0)
        raise NotYetError(3600.0)


def test_what_comes_while_it_is_decided_that_an_alert_is_to_wait_ends_the_wait(tmp_path):
    store = RunStore(tmp_path / "run.sqlite", "run", ["receiver"])
    sender = Undecided(store.alerts("receiver"))
    store.commit({}, [alert(0)])
    sender.wake()
    assert sender.looks.wait(60.0)
    sender.wake()
    sender.decides.set()
    assert sender.flush(60.0)
    assert sender.seen == 2
    sender.close()
    store.close()
