"""What an MQTT sink may be told, and what it remembers of what it shows."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.alerts import Digest
from pipeline.sinks.mqtt_messages import Shown, Topics, mark_of
from pipeline.sinks.schema import alert_object
from pipeline.sinks.to_mqtt import MqttSinkSettings
from tests.sinks.made import START_S, alert, notice

DOCUMENT = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://hunter2@example.org"},
        {"url": "mqtt://"},
        {"url": "mqtt://user:57#hunter2@broker"},
        {"url": "mqtt://broker/path"},
        {"url": "mqtt://broker", "topic": "a/#"},
        {"url": "mqtt://broker", "topic": "/a"},
        {"url": "mqtt://broker", "only": {"kinds": ["new"]}},
    ],
)
def test_settings_that_mean_nothing_are_refused_without_being_shown(wrong):
    with pytest.raises(ValidationError) as raised:
        MqttSinkSettings(**wrong)
    assert "hunter2" not in " ".join(error["msg"] for error in raised.value.errors())


def test_where_a_broker_is_and_how_to_be_let_in_is_read_off_its_address():
    broker = MqttSinkSettings(url="mqtts://a%40b:p%23w@[::1]:1234").broker()
    assert (broker.host, broker.port, broker.username, broker.password) == ("::1", 1234, "a@b", "p#w")
    broker = MqttSinkSettings(url="mqtt://broker").broker()
    assert (broker.host, broker.port, broker.username, broker.is_secure) == ("broker", 1883, None, False)


def test_what_is_shown_outlives_the_process_and_problems_do_not_outlive_the_run():
    shown = {"gate": Shown(True, {"a": "camera_dark"}), "yard": Shown()}
    mark = mark_of(shown, "run")
    assert Shown.all_of(mark, "run") == {"gate": shown["gate"]}
    assert Shown.all_of(mark, "next") == {"gate": Shown(True)}
    for strange in ("", "[]", "{}", "1-0", '["gate-1"]', '{"run": 1, "cameras": {"gate": 1}}'):
        assert Shown.all_of(strange, "run") == {}


def test_the_document_names_every_topic():
    topics = Topics("cflow", 0)
    said = alert_object(alert(0)), alert_object(notice(camera_id=None))
    messages = [topics.availability("online"), topics.of_picture("gate", b""), *topics.of_shown("gate", Shown())]
    messages += [message for one in said for message in topics.of_alert(one, json.dumps(one))]
    for message in messages:
        topic = message.topic.replace("gate", "CAMERA").replace("scorer/0", "scorer/N")
        assert f"| `{topic}` | {'yes' if message.retain else 'no'} |" in DOCUMENT


def test_a_digest_changes_no_alarm_and_the_document_names_its_keys():
    digest = alert_object(Digest("gate-digest-1", "gate", 2, START_S, START_S + 60, alert(0).event, START_S + 60))
    assert Shown(True).after(digest) == Shown(True)
    assert [message.topic for message in Topics("cflow", 0).of_alert(digest, "")] == ["cflow/alerts/gate"]
    for key in digest:
        assert f"`{key}`" in DOCUMENT
