"""A real MQTT broker (mosquitto), and somebody who listens to it."""

import json
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.sinks.made import wait_until

USER, PASSWORD = "cflow", "hunter2 with a blank"


def find_mosquitto() -> str:
    """The program; Debian keeps it where only root looks. Skips the test where there is none."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("needs mosquitto (a broker): apt-get install mosquitto")
    return found


class MqttBroker:
    """The broker, at one port whatever happens to it; it asks for user and password, and forgets all when it ends.

    Args:
        folder: for its files.
        certificate: (certificate, key) with which it speaks TLS; None where it does not.
        options: further lines of its configuration.
    """

    def __init__(self, folder: Path, certificate: tuple[Path, Path] | None = None, *options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.program = find_mosquitto()
        self.certificate = certificate
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.passwords, self.rights, self.config = folder / "passwords", folder / "rights", folder / "mosquitto.conf"
        self.rights.write_text("user cflow\ntopic readwrite #\n")
        self.set_password(PASSWORD)
        lines = [f"listener {self.port} 127.0.0.1", f"password_file {self.passwords}", f"acl_file {self.rights}"]
        lines += ["user root", "log_dest none", *options]
        if certificate is not None:
            lines += [f"certfile {certificate[0]}", f"keyfile {certificate[1]}"]
        self.config.write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        scheme = "mqtts" if self.certificate else "mqtt"
        return f"{scheme}://{USER}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}"

    def set_password(self, password: str) -> None:
        made = [f"{self.program}_passwd"] if Path(f"{self.program}_passwd").exists() else ["mosquitto_passwd"]
        self.passwords.write_text("")
        subprocess.run([*made, "-b", str(self.passwords), USER, password], check=True, capture_output=True, timeout=60)

    def start(self) -> "MqttBroker":
        self.process = subprocess.Popen([self.program, "-c", str(self.config)], stderr=subprocess.DEVNULL)
        wait_until(self._answers)
        return self

    def stop(self, kind: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(kind)
            self.process.wait(30)
            self.process = None

    def reload(self) -> None:
        """Read passwords and rights again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True


class Listener:
    """Subscribes to everything, from now on and what is retained.

    Attributes:
        heard: (topic, payload, whether it was retained), in order.
    """

    def __init__(self, broker: MqttBroker) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.username_pw_set(USER, PASSWORD)
        if broker.certificate is not None:
            self._client.tls_set(str(broker.certificate[0]))
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, m: self.heard.append((m.topic, m.payload, m.retain))
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._subscribed.wait(60)

    def alerts(self, camera_id: str = "gate") -> list[dict]:
        """What was said of a camera, without what is retained."""
        return [json.loads(payload) for topic, payload, _ in list(self.heard) if topic == f"cflow/alerts/{camera_id}"]

    def last(self, topic: str) -> str | None:
        """The newest payload under a topic."""
        found = [payload for name, payload, _ in list(self.heard) if name == topic]
        return found[-1].decode() if found else None

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
