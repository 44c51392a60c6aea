"""Alerts to an MQTT broker: each alert as it is, and what every camera shows, which Home Assistant finds by itself.

An alert is acknowledged once the broker has said of all that follows from it that it has it (PUBACK). What is retained
is published again whenever a connection begins: a broker may have forgotten it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import Field, SecretStr, field_validator, model_validator

from pipeline.addresses import AddressParts, server_error, split_address
from pipeline.errors import SinkError
from pipeline.sinks.alert_queue import AlertQueue, QueuedAlert
from pipeline.sinks.alert_sender import AlertSender, AwayError, NotSentError, RefusedError
from pipeline.sinks.base import CaFile, Reason, RuledSinkSettings, SinkContext
from pipeline.sinks.mqtt_client import Broker, MqttConnection
from pipeline.sinks.mqtt_messages import OFFLINE, ONLINE, Shown, Topics, mark_of
from pipeline.types import Score, Trouble

_log = logging.getLogger(__name__)

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_EXPECTED = (
    "expected an address as mqtt://host:1883 or mqtts://user:password@host:8883 (special characters of user and "
    "password percent-encoded), got something else"
)
_PORT = re.compile(r":[0-9]*$")

Topic = Annotated[str, Field(pattern=r"^[^/+#$\s\x00][^/+#\s\x00]*(/[^/+#\s\x00]+)*$", max_length=200)]


class MqttSinkSettings(RuledSinkSettings):
    """A broker that speaks MQTT 5.

    Attributes:
        url: ``mqtts://`` (TLS) or ``mqtt://`` address; a secret, it may hold user and password.
        ca_file: certificates (PEM) of whom to trust in the place of the usual authorities.
        topic: what all topics begin with; runs that share a broker need one each.
        discovery: where Home Assistant looks for devices; None announces none.
        timeout_s: longest wait for the connection, and for an answer.
        retry_max_s: longest pause between two tries.
    """

    kind: str = "mqtt"
    url: SecretStr
    ca_file: CaFile | None = None
    topic: Topic = "cflow"
    discovery: Topic | None = "homeassistant"
    timeout_s: Annotated[float, Field(gt=0.0, le=600.0)] = 10.0
    retry_max_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 60.0

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: SecretStr) -> SecretStr:
        address = value.get_secret_value()
        parts = split_address(address)
        if parts is None or parts.scheme not in _PORTS or not address.isprintable() or " " in address:
            raise ValueError(_EXPECTED)
        if (wrong := server_error(parts)) is not None:
            raise ValueError(wrong)
        if parts.rest.strip("/") or "," in parts.server:
            raise ValueError(_EXPECTED)
        return value

    @model_validator(mode="after")
    def _alarms_end(self) -> MqttSinkSettings:
        kinds = self.only.kinds
        if kinds is not None and not {"new", "end"} <= set(kinds):
            raise ValueError("only.kinds: expected new and end among them, or an alarm would never begin or end")
        return self

    def open(self, context: SinkContext) -> MqttSink:
        """Make the sink."""
        assert context.alerts is not None
        return MqttSink(self, context, context.alerts)

    def check(self) -> str:
        """Connect, and publish nothing.

        Raises:
            SinkError: nobody answers, is not to be trusted, or lets us not in.
        """
        try:
            MqttConnection(self.broker()).close()
        except AwayError as error:
            raise SinkError(f"{self.redacted_url}: {error.reason}") from error
        return f"{self.redacted_url}: lets us in"

    @property
    def redacted_url(self) -> str:
        """The address without user and password."""
        return f"{self._parts.scheme}://{self._parts.server}"

    def broker(self) -> Broker:
        """Where it is, and how to be let in."""
        parts = self._parts
        host, _, port = parts.server.rpartition(":") if _PORT.search(parts.server) else (parts.server, "", "")
        user, _, password = (parts.user_info or "").partition(":")
        return Broker(
            host=host.strip("[]"),
            port=int(port or _PORTS[parts.scheme]),
            username=unquote(user) if user else None,
            password=unquote(password) if password else None,
            is_secure=parts.scheme == "mqtts",
            ca_file=self.ca_file,
            timeout_s=self.timeout_s,
        )

    @property
    def _parts(self) -> AddressParts:
        parts = split_address(self.url.get_secret_value())
        assert parts is not None
        return parts


class MqttSink(AlertSender):
    """Publishes as docs/delivery.md describes. Its methods may be called by any thread.

    Args:
        settings: the broker.
        context: the run.
        alerts: where alerts come from; what is left there when this closes waits for the next run.
    """

    def __init__(self, settings: MqttSinkSettings, context: SinkContext, alerts: AlertQueue) -> None:
        super().__init__(f"MQTT {settings.redacted_url}", alerts, settings.retry_max_s)
        self._settings = settings
        self._run_name = context.run
        self._folder = context.folder
        self._announces = not context.is_left
        self._topics = Topics(settings.topic, context.scorer)
        self._connection: MqttConnection | None = None  # the writer's
        self._shown = Shown.all_of(alerts.mark, context.run)  # the writer's
        self._seen = set(self._shown)  # cameras that are announced, or to be
        self._new: set[str] = set()  # those not announced over this connection
        self._not_announced: Trouble | None = None
        self._begin()

    def write(self, scores: Sequence[Score]) -> None:
        """Learn which cameras there are: one without an event is shown, too."""
        cameras = {score.header.camera_id for score in scores} - self._seen
        if wanted := {camera_id for camera_id in cameras if self._settings.only.wants_camera(camera_id)}:
            with self._changed:
                self._new |= wanted
                self._seen |= wanted
                self._changed.notify_all()

    @property
    def trouble(self) -> Trouble | None:
        """Why alerts wait, or a camera is not announced, without credentials; None when all is well."""
        return super().trouble or self._not_announced

    # The writer thread.

    def _needs_upkeep(self) -> bool:
        return self._connection is None or not self._connection.is_open or (self._announces and bool(self._new))

    def _upkeep(self) -> None:
        if self._connection is None or not self._connection.is_open:
            self._connect()
        with self._changed:
            new, self._new = sorted(self._new), set()
        for camera_id in new if self._announces else ():
            try:
                self._announce(camera_id)
            except RefusedError as error:  # it holds up nothing, and is tried again with the next connection
                text = f"{self._label}: camera {camera_id} is not announced: {error.reason}"
                _log.warning("%s", text)
                with self._changed:
                    self._not_announced = Trouble(f"{self._label}: not announced", text)

    def _connect(self) -> None:
        will = self._topics.availability(OFFLINE) if self._announces else None
        self._connection = None
        self._connection = MqttConnection(self._settings.broker(), will, self._wake_writer)
        if self._announces:
            with self._changed:
                self._new = set(self._seen)
                self._not_announced = None
            self._connection.publish([self._topics.availability(ONLINE)])

    def _announce(self, camera_id: str) -> None:
        """Publish what is retained of a camera, of which the broker may know nothing."""
        assert self._connection is not None
        self._connection.publish(self._topics.of_shown(camera_id, self._shown.get(camera_id, Shown())))
        if self._settings.discovery is not None:
            self._connection.publish(self._topics.discovery(camera_id, self._settings.discovery))

    def _send(self, alert: QueuedAlert) -> Sequence[QueuedAlert]:
        if self._connection is None or not self._connection.is_open:
            raise AwayError(Reason("the connection ended"))
        said = json.loads(alert.text)
        messages = self._topics.of_alert(said, alert.text)
        if alert.camera_id is not None:
            messages += self._topics.of_shown(alert.camera_id, self._show(alert.camera_id, said))
        self._connection.publish(messages)
        if said["kind"] == "evidence" and said["picture"]:
            self._publish_picture(alert.camera_id or "", self._folder / said["picture"])
        return [alert]

    def _show(self, camera_id: str, said: Mapping[str, Any]) -> Shown:
        """What is shown of a camera from now on; remembered before anybody sees it."""
        before = self._shown.get(camera_id, Shown())
        shown = self._shown[camera_id] = before.after(said)
        if shown != before and not self._alerts.keep_receipts({}, mark_of(self._shown, self._run_name)):
            raise AwayError(Reason("the run's store is closed"))
        with self._changed:
            if camera_id not in self._seen:
                self._seen.add(camera_id)
                self._new.add(camera_id)
        return shown

    def _publish_picture(self, camera_id: str, path: Path) -> None:
        """Show a picture, if the broker takes it: the alert does not wait for it."""
        assert self._connection is not None
        try:
            message = self._topics.of_picture(camera_id, path.read_bytes())
            if not self._connection.takes(message):
                raise RefusedError(Reason("takes no message as large as the picture"))
            self._connection.publish([message])
        except (OSError, RefusedError) as error:
            _log.warning("%s: %s is not shown there: %s", self._label, path, error)

    def _wake_writer(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _release(self) -> None:
        if self._connection is None or not self._connection.is_open:
            return
        with contextlib.suppress(NotSentError):
            if self._announces:
                self._connection.publish([self._topics.availability(OFFLINE)])
        self._connection.close()
