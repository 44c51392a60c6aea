"""What an MQTT sink may be told, and what it remembers of what it shows."""

import pytest
from pydantic import ValidationError

from pipeline.sinks.mqtt_messages import Shown, mark_of
from pipeline.sinks.to_mqtt import MqttSinkSettings


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
    assert Shown.all_of("", "run") == {}
