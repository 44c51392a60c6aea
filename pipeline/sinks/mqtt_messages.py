"""What an MQTT sink publishes, and what Home Assistant makes of it: pure.

Every camera is a device there, with an alarm, a problem, the time of its newest event and the picture of it; it appears
by itself, by Home Assistant's discovery (https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from pipeline.sinks.mqtt_client import Message
from pipeline.version import VERSION

ONLINE, OFFLINE = "online", "offline"
_ALARMING: Mapping[str, bool] = {"new": True, "update": True, "end": False}


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a camera.

    Attributes:
        alarm: whether an event is open.
        problems: what is out of order, as kinds of notices, by their ids.
    """

    alarm: bool = False
    problems: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_available(self) -> bool:
        """Whether frames come from it."""
        return "camera_offline" not in self.problems.values()

    def after(self, said: Mapping[str, Any]) -> Shown:
        """After an alert or a notice of the camera; the same again where it is repeated."""
        if "until_at_s" not in said:
            return replace(self, alarm=_ALARMING.get(said["kind"], self.alarm))
        if said["kind"] == "digest":
            return self
        problems = {key: kind for key, kind in self.problems.items() if key != said["event_id"]}
        if said["until_at_s"] is None:
            problems[said["event_id"]] = said["kind"]
        return replace(self, problems=problems)

    @classmethod
    def all_of(cls, mark: str, run: str) -> dict[str, Self]:
        """By camera, what ``mark_of`` wrote; nothing of what another kind of sink did, which had the name before.

        Problems of another run are nobody's any more.
        """
        try:
            kept = json.loads(mark)
            is_ours = kept["run"] == run
            return {
                camera_id: cls(one["alarm"], one["problems"] if is_ours else {})
                for camera_id, one in kept["cameras"].items()
            }
        except (ValueError, TypeError, KeyError):
            return {}


def mark_of(all_shown: Mapping[str, Shown], run: str) -> str:
    """What must outlive the process of what is shown: of cameras where something is.

    Args:
        all_shown: by camera.
        run: name of the run.
    """
    kept = {
        camera_id: {"alarm": shown.alarm, "problems": shown.problems}
        for camera_id, shown in all_shown.items()
        if shown != Shown()
    }
    return json.dumps({"run": run, "cameras": kept})


@dataclass(frozen=True, slots=True)
class Topics:
    """Where things are published.

    Attributes:
        prefix: of all topics.
        scorer: number of the scorer that publishes.
    """

    prefix: str
    scorer: int

    def availability(self, state: str) -> Message:
        """Whether the scorer is there."""
        return Message(f"{self.prefix}/scorer/{self.scorer}", state, retain=True)

    def of_alert(self, said: Mapping[str, Any], text: str) -> list[Message]:
        """An alert, a notice or a digest as it is, and its event as the newest of its camera."""
        camera_id = said["camera_id"]
        messages = [Message(f"{self.prefix}/alerts/{camera_id}" if camera_id else f"{self.prefix}/alerts", text)]
        if "start_s" in said:
            at = datetime.fromtimestamp(said["started_at_s"], UTC).isoformat(timespec="milliseconds")
            messages += [self._of(camera_id, "event", text), self._of(camera_id, "last_event", at)]
        return messages

    def of_shown(self, camera_id: str, shown: Shown) -> list[Message]:
        """What is shown of a camera."""
        problems = json.dumps({"problems": sorted(set(shown.problems.values()))})
        return [
            self._of(camera_id, "alarm", _on(shown.alarm)),
            self._of(camera_id, "problem", _on(bool(shown.problems))),
            self._of(camera_id, "problems", problems),
            self._of(camera_id, "available", ONLINE if shown.is_available else OFFLINE),
        ]

    def of_picture(self, camera_id: str, picture: bytes) -> Message:
        """The picture of a camera's newest event, a JPEG."""
        return self._of(camera_id, "picture", picture)

    def discovery(self, camera_id: str, under: str) -> list[Message]:
        """What makes a camera appear in Home Assistant.

        Args:
            camera_id: the camera.
            under: the prefix under which Home Assistant looks.
        """
        identity = self._identity(camera_id)
        device: dict[str, Any] = {
            "identifiers": [identity],
            "name": camera_id,
            "manufacturer": "cflow-stream",
            "sw_version": VERSION,
        }
        is_there = [{"topic": self.availability("").topic}]
        sends = [*is_there, {"topic": self._of(camera_id, "available", "").topic}]
        alarm = self._entity(camera_id, "alarm") | {
            "device_class": "safety",
            "json_attributes_topic": self._of(camera_id, "event", "").topic,
        }
        problem = self._entity(camera_id, "problem") | {
            "device_class": "problem",
            "entity_category": "diagnostic",
            "json_attributes_topic": self._of(camera_id, "problems", "").topic,
        }
        last_event = self._entity(camera_id, "last_event") | {"device_class": "timestamp"}
        picture = self._entity(camera_id, "picture", "image_topic") | {"content_type": "image/jpeg"}
        common: dict[str, Any] = {"device": device, "origin": {"name": "cflow-stream"}, "availability_mode": "all"}
        return [
            Message(f"{under}/{component}/{identity}/{name}/config", json.dumps(entity | common), retain=True)
            for component, name, entity in (
                ("binary_sensor", "alarm", alarm | {"availability": sends}),
                ("binary_sensor", "problem", problem | {"availability": is_there}),
                ("sensor", "last_event", last_event | {"availability": is_there}),
                ("image", "picture", picture | {"availability": is_there}),
            )
        ]

    def _entity(self, camera_id: str, name: str, topic_key: str = "state_topic") -> dict[str, Any]:
        return {
            "name": name.replace("_", " ").capitalize(),
            "unique_id": f"{self._identity(camera_id)}_{name}",
            topic_key: self._of(camera_id, name, "").topic,
        }

    def _identity(self, camera_id: str) -> str:
        return _object_id(f"{self.prefix}_{camera_id}")

    def _of(self, camera_id: str, what: str, payload: str | bytes) -> Message:
        return Message(f"{self.prefix}/camera/{camera_id}/{what}", payload, retain=True)


def _on(is_so: bool) -> str:
    return "ON" if is_so else "OFF"


def _object_id(text: str) -> str:
    """As discovery topics may hold it: letters, digits, ``_`` and ``-``; of two texts never the same."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return plain if plain == text else f"{plain}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"
