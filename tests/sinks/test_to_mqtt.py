"""Alerts by MQTT to a real broker: in order per camera, each until it is acknowledged, and shown by Home Assistant."""

import json
import logging
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import SinkError
from pipeline.sinks.alert_queue import AlertCounts
from pipeline.sinks.base import SinkContext
from pipeline.sinks.run_store import RunStore
from pipeline.sinks.schema import alert_object
from pipeline.sinks.to_mqtt import MqttSink, MqttSinkSettings
from tests.sinks.broker import PASSWORD, Listener, MqttBroker
from tests.sinks.made import START_S, WithStore, alert, notice, score, wait_until
from tests.sinks.receiver import self_made_certificate

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.server


@pytest.fixture
def broker_of(tmp_path):
    """Makes brokers that end with the test."""
    brokers = []

    def make(*arguments):
        brokers.append(MqttBroker(tmp_path / f"broker-{len(brokers)}", *arguments))
        return brokers[-1]

    yield make
    for each in brokers:
        each.stop()


@pytest.fixture
def broker(broker_of):
    return broker_of().start()


@pytest.fixture
def listener(broker):
    listening = Listener(broker)
    yield listening
    listening.close()


class Publishing(WithStore, MqttSink):
    """A sink and its store."""

    def __init__(self, url, folder, *, run="run", **settings) -> None:
        settings = MqttSinkSettings(url=url, **{"retry_max_s": 0.2, "timeout_s": 5.0, **settings})
        self.store = RunStore(folder / "run.sqlite", run, ["mqtt"], {"mqtt": settings})
        super().__init__(
            settings, SinkContext(run, {}, self.store.alerts("mqtt"), folder=folder), self.store.alerts("mqtt")
        )


@pytest.fixture
def sink(broker, tmp_path):
    publishing = Publishing(broker.url, tmp_path)
    yield publishing
    publishing.close(5.0)


def indices(listener, camera_id="gate") -> list[int]:
    return [said["peak_index"] for said in listener.alerts(camera_id)]


def test_an_alert_is_published_as_it_stands_in_redis_and_what_its_camera_shows_is_retained(sink, listener, broker):
    sink.send(alert(0, "new"), alert(1), notice("run_started", camera_id=None))
    assert sink.flush()
    wait_until(lambda: listener.last("cflow/alerts") is not None)
    assert listener.alerts() == [alert_object(alert(0, "new")), alert_object(alert(1))]
    assert json.loads(listener.last("cflow/alerts"))["kind"] == "run_started"
    assert listener.last("cflow/camera/gate/alarm") == "ON"
    sink.send(alert(2, "end"))
    assert sink.flush()
    late = Listener(broker)
    wait_until(lambda: late.last("cflow/camera/gate/alarm") == "OFF")
    wait_until(lambda: late.last("cflow/camera/gate/event") is not None)
    assert json.loads(late.last("cflow/camera/gate/event"))["kind"] == "end"
    assert late.last("cflow/camera/gate/last_event") == "2023-11-14T22:13:20.000+00:00"
    assert late.last("cflow/scorer/0") == "online"
    assert late.alerts() == []  # what happened is not said again to whoever comes later
    late.close()
    assert sink.alert_counts == AlertCounts(emitted=4, delivered=4)
    assert sink.trouble is None


def test_home_assistant_finds_every_camera_that_is_scored_with_topics_that_are_published(sink, listener):
    sink.write([score(0), score(0, camera_id="yard.2")])
    wait_until(lambda: listener.last("cflow/camera/yard.2/available") == "online")
    wait_until(lambda: sum("/config" in topic for topic, _, _ in list(listener.heard)) == 8)
    retained = {topic: payload for topic, payload, _ in list(listener.heard)}
    found = {topic: json.loads(payload) for topic, payload in retained.items() if topic.endswith("/config")}
    assert {topic.split("/")[1] for topic in found} == {"binary_sensor", "sensor", "image"}
    assert len({config["unique_id"] for config in found.values()}) == 8
    alarm = found["homeassistant/binary_sensor/cflow_gate/alarm/config"]
    assert retained[alarm["state_topic"]] == b"OFF"
    assert [retained[each["topic"]] for each in alarm["availability"]] == [b"online", b"online"]
    assert alarm["device"]["name"] == "gate"
    assert not any("." in topic.split("/")[2] for topic in found)  # as Home Assistant wants ids in topics


def test_problems_of_a_camera_are_shown_and_its_alarm_is_not_to_be_had_while_it_is_offline(sink, listener):
    sink.send(notice("camera_dark"), notice("camera_offline"))
    assert sink.flush()
    wait_until(lambda: listener.last("cflow/camera/gate/available") == "offline")
    wait_until(lambda: listener.last("cflow/camera/gate/problem") == "ON")
    assert json.loads(listener.last("cflow/camera/gate/problems")) == {"problems": ["camera_dark", "camera_offline"]}
    offline = notice("camera_offline")
    sink.send(replace(offline, kind="camera_online", until_at_s=START_S), notice("camera_dark", until_at_s=START_S))
    wait_until(lambda: listener.last("cflow/camera/gate/problem") == "OFF")
    assert listener.last("cflow/camera/gate/available") == "online"


def test_a_broker_that_is_killed_and_comes_back_empty_gets_what_it_missed_in_order_and_all_that_is_shown(
    broker, sink, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    sink.write([score(0), score(0, camera_id="yard")])
    sink.send(alert(0, "new"))
    assert sink.flush()
    broker.stop(signal.SIGKILL)
    sink.send(*(alert(number) for number in range(1, 50)))
    wait_until(lambda: "nobody answers there" in str(sink.trouble))
    assert not sink.flush(0.3)
    broker.rights.write_text("user cflow\ntopic read #\n")  # nobody publishes before somebody listens
    broker.start()
    listener = Listener(broker)
    wait_until(lambda: "refuses" in str(sink.trouble))
    broker.rights.write_text("user cflow\ntopic readwrite #\n")
    broker.reload()
    assert sink.flush(60.0)
    wait_until(lambda: len(indices(listener)) >= 49)
    assert list(dict.fromkeys(indices(listener))) == list(range(1, 50))
    assert listener.last("cflow/camera/gate/alarm") == "ON"
    listener.close()
    wait_until(lambda: sink.trouble is None)
    assert sink.alert_counts == AlertCounts(emitted=50, delivered=50)
    assert caplog.text.count("nobody answers there") == 1


def test_what_a_broker_forgot_is_shown_again_though_nothing_happens(broker, sink):
    sink.write([score(0), score(0, camera_id="yard")])
    sink.send(alert(0, "new"))
    assert sink.flush()
    broker.stop(signal.SIGKILL)
    wait_until(lambda: sink.trouble is not None)
    broker.start()
    listener = Listener(broker)
    wait_until(lambda: listener.last("cflow/camera/gate/alarm") == "ON")
    wait_until(lambda: listener.last("cflow/camera/yard/alarm") == "OFF")
    wait_until(lambda: listener.last("homeassistant/binary_sensor/cflow_yard/alarm/config") is not None)
    assert listener.last("cflow/scorer/0") == "online"
    listener.close()


def test_a_wrong_password_is_one_line_that_does_not_show_it_and_the_right_one_later_delivers_all(
    broker_of, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    broker = broker_of()
    broker.set_password("another")
    broker.start()
    sink = Publishing(broker.url, tmp_path)
    sink.send(alert(0, "new"))
    wait_until(lambda: "lets us not in: Not authorized" in str(sink.trouble))
    with pytest.raises(SinkError, match=r"^mqtt://127.0.0.1:\d+: lets us not in: Not authorized$"):
        MqttSinkSettings(url=broker.url).check()
    said = [str(sink.trouble), *sink.unwritten(), repr(MqttSinkSettings(url=broker.url))]
    broker.set_password(PASSWORD)
    broker.reload()
    assert sink.flush(60.0)
    sink.close()
    assert not any("hunter2" in line for line in [*said, caplog.text])
    assert caplog.text.count("lets us not in") == 1


def test_a_camera_that_the_broker_refuses_holds_up_no_other(broker_of, tmp_path, caplog):
    broker = broker_of()
    allowed = ("read #", "write cflow/scorer/0", "write cflow/camera/yard/#", "write cflow/alerts/yard")
    broker.rights.write_text("\n".join(["user cflow", *(f"topic {each}" for each in allowed)]) + "\n")
    listener, sink = Listener(broker.start()), Publishing(broker.url, tmp_path)
    for number in range(3):
        sink.send(alert(number), alert(number, camera_id="yard"))
    wait_until(lambda: indices(listener, "yard") == [0, 1, 2])
    assert "refuses what is published under cflow/alerts/gate: Not authorized" in str(sink.trouble)
    assert "alerts of camera gate" in str(sink.trouble)
    wait_until(lambda: sink.alert_counts.waiting == 3)
    assert "camera yard is not announced: refuses what is published under homeassistant" in caplog.text
    broker.rights.write_text("user cflow\ntopic readwrite #\n")
    broker.reload()
    assert sink.flush(60.0)
    wait_until(lambda: list(dict.fromkeys(indices(listener))) == [0, 1, 2])
    sink.close()
    listener.close()


def test_a_run_that_ends_is_offline_and_so_is_one_that_dies_and_the_next_goes_on_showing_what_it_showed(
    broker, listener, tmp_path
):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.sinks.made import WithStore, alert, score\n"
        "from tests.sinks.test_to_mqtt import Publishing\n"
        "sink = Publishing(sys.argv[1], Path(sys.argv[2]))\n"
        "sink.write([score(0)])\n"
        "sink.send(alert(0, 'new'))\n"
        "assert sink.flush(60.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, broker.url, str(tmp_path)], cwd=ROOT, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: listener.last("cflow/scorer/0") == "offline")
    assert listener.last("cflow/camera/gate/alarm") == "ON"
    following = Publishing(broker.url, tmp_path)
    wait_until(lambda: listener.last("cflow/scorer/0") == "online")
    following.write([score(1)])
    following.send(notice("camera_dark"))
    wait_until(lambda: listener.last("cflow/camera/gate/problem") == "ON")
    assert listener.last("cflow/camera/gate/alarm") == "ON"
    following.close()
    wait_until(lambda: listener.last("cflow/scorer/0") == "offline")
    assert following.unwritten() == []


def test_a_picture_that_came_with_evidence_is_shown_and_one_that_is_gone_or_too_large_stops_nothing(
    broker_of, tmp_path, caplog
):
    broker = broker_of(None, "max_packet_size 4000").start()
    listener = Listener(broker)
    sink = Publishing(broker.url, tmp_path)
    (tmp_path / "small.jpg").write_bytes(b"\xff\xd8 small")
    (tmp_path / "large.jpg").write_bytes(b"\xff\xd8" + b"x" * 5000)
    for number, name in enumerate(["small.jpg", "large.jpg", "gone.jpg"]):
        made = alert(number, "evidence")
        sink.send(replace(made, event=replace(made.event, picture=name)))
    assert sink.flush()
    wait_until(lambda: len(indices(listener)) == 3)
    assert [payload for topic, payload, _ in listener.heard if topic.endswith("/picture")] == [b"\xff\xd8 small"]
    assert "large.jpg is not shown there: takes no message as large as the picture" in caplog.text
    assert "gone.jpg is not shown there" in caplog.text
    sink.close()
    listener.close()


def test_with_tls_the_broker_must_be_one_that_is_trusted(broker_of, tmp_path):
    certificate = self_made_certificate(tmp_path)
    broker = broker_of(certificate).start()
    with pytest.raises(SinkError, match="its certificate is not to be trusted"):
        MqttSinkSettings(url=broker.url).check()
    with pytest.raises(SinkError, match="does not answer as an MQTT 5 broker"):
        MqttSinkSettings(url=broker.url.replace("mqtts", "mqtt"), timeout_s=2.0).check()
    assert MqttSinkSettings(url=broker.url, ca_file=certificate[0]).check().endswith("lets us in")
    sink = Publishing(broker.url, tmp_path, ca_file=certificate[0])
    sink.send(alert(0, "new"))
    assert sink.flush()
    sink.close()
    broker.stop()
    with pytest.raises(SinkError, match="nobody answers there"):
        MqttSinkSettings(url=broker.url, ca_file=certificate[0]).check()
