"""One connection to an MQTT broker, from beginning to end: what is published counts once the broker has said so.

MQTT 5, for only there a broker says what it does not let a client publish. A connection that ended never begins again
by itself, or messages that were given up would be sent by it later, out of their order.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from pipeline.sinks.alert_sender import AwayError, RefusedError
from pipeline.sinks.base import Reason

_AT_ONCE = 20  # messages on their way; as many as brokers commonly allow
_KEEPALIVE_S = 20
_GOODBYE_S = 1.0
_FAILURE = 0x80  # reason codes from here on say that something was not done


@dataclass(frozen=True, slots=True)
class Message:
    """What is published, with quality of service 1.

    Attributes:
        topic: where.
        payload: what.
        retain: whether whoever subscribes later gets it, too.
    """

    topic: str
    payload: str | bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is, and how to be let in.

    Attributes:
        host: name or address.
        port: of TCP.
        username: None where it asks for none.
        password: likewise.
        is_secure: whether to speak TLS.
        ca_file: certificates (PEM) of whom to trust in the place of the usual authorities.
        timeout_s: longest wait for the connection, and for an answer.
    """

    host: str
    port: int
    username: str | None
    password: str | None
    is_secure: bool
    ca_file: Path | None
    timeout_s: float


class MqttConnection:
    """The connection. For one thread; ``is_open`` may be asked by any.

    Args:
        broker: whom to connect to.
        will: what the broker is to publish once the connection has ended without a word.
        on_end: called, in another thread, when it has ended by itself.

    Raises:
        AwayError: nobody answers, is not to be trusted, or does not let us in.
    """

    def __init__(self, broker: Broker, will: Message | None = None, on_end: Callable[[], None] = lambda: None) -> None:
        self._timeout_s = broker.timeout_s
        self._on_end = on_end
        self._changed = threading.Condition()
        self._connected: Any = None  # the answer to CONNECT
        self._ended: str | None = None
        self._answers: dict[int, Any] = {}
        self._largest: int | None = None
        self._client = self._make_client(broker, will)
        try:
            self._client.connect(broker.host, broker.port, _KEEPALIVE_S, clean_start=True)
        except (OSError, ValueError) as error:  # ssl's errors are such, and a host that is none
            raise AwayError(_explain(error)) from error
        self._client.loop_start()
        try:
            self._wait_until_let_in()
        except AwayError:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self._ended is None

    def takes(self, message: Message) -> bool:
        """Whether a message is small enough for the broker."""
        size = len(message.payload) + len(message.topic) + 64
        return self._largest is None or size <= self._largest

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages in order; the broker has them all when this returns.

        Raises:
            RefusedError: it does not take one of them.
            AwayError: it did not answer; the connection has ended.
        """
        for first in range(0, len(messages), _AT_ONCE):
            self._publish_together(messages[first : first + _AT_ONCE])

    def close(self) -> None:
        """End it: with a word, and without where the broker does not listen. A second call does nothing."""
        self._client.disconnect()
        with self._changed:
            self._changed.wait_for(lambda: self._ended is not None, _GOODBYE_S)
            self._ended = self._ended or "closed"
        connected = cast("socket.socket | None", self._client.socket())
        if connected is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                connected.shutdown(socket.SHUT_RDWR)  # or paho's thread would go on trying to send
        self._client.loop_stop()

    def _make_client(self, broker: Broker, will: Message | None) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"cflow-{secrets.token_hex(6)}",
            protocol=mqtt.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = broker.timeout_s
        client.max_inflight_messages_set(_AT_ONCE)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.is_secure:
            try:
                client.tls_set_context(ssl.create_default_context(cafile=broker.ca_file))  # pyright: ignore[reportUnknownMemberType]
            except OSError as error:
                reason = Reason("expected certificates (PEM)", str(error.strerror or error))
                raise AwayError(reason) from error
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        client.on_connect, client.on_disconnect, client.on_publish = self._let_in, self._end, self._published
        return client

    def _wait_until_let_in(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._connected is not None or self._ended is not None, self._timeout_s)
            if self._connected is None:
                raise AwayError(Reason("does not answer as an MQTT 5 broker", self._ended or "no answer in time"))
            if self._connected.value >= _FAILURE:
                raise AwayError(Reason(f"lets us not in: {self._connected}"))

    def _publish_together(self, messages: Sequence[Message]) -> None:
        sent: dict[int, Message] = {}
        for message in messages:
            info = self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
            sent[info.mid] = message
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended is not None or sent.keys() <= self._answers.keys(), self._timeout_s
            )
            answers = {mid: self._answers.pop(mid) for mid in sent if mid in self._answers}
        ended = self._ended
        if len(answers) < len(sent):
            self.close()  # or answers that come late would be taken for those of others, once ids begin again
        refused = next(((sent[mid], code) for mid, code in answers.items() if code.value >= _FAILURE), None)
        if refused is not None:
            raise RefusedError(Reason(f"refuses what is published under {refused[0].topic}: {refused[1]}"))
        if len(answers) < len(sent):
            raise AwayError(Reason("no answer in time") if ended is None else Reason("the connection ended", ended))

    # Called by paho, in its thread.

    def _let_in(self, client: Any, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        with self._changed:
            self._connected = code
            self._largest = getattr(properties, "MaximumPacketSize", None)
            self._changed.notify_all()

    def _end(self, client: Any, userdata: Any, flags: Any, code: Any, properties: Any) -> None:
        with self._changed:
            self._ended = self._ended or str(code)
            self._changed.notify_all()
        self._on_end()

    def _published(self, client: Any, userdata: Any, mid: int, code: Any, properties: Any) -> None:
        with self._changed:
            self._answers[mid] = code
            self._changed.notify_all()


def _explain(error: Exception) -> Reason:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Reason("its certificate is not to be trusted", error.verify_message)
    if isinstance(error, ssl.SSLError):
        return Reason("does not speak TLS there", str(error.reason))
    return Reason("nobody answers there", str(getattr(error, "strerror", None) or type(error).__name__))
