"""Alerts to people: e-mail, push, chat and whatever else apprise knows, with the event's picture where there is one.

apprise waits for whom it talks to; so does this sink's thread. What it logs is kept from the log, for it may hold what
its address holds: tokens and passwords.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import unquote

from pydantic import Field, SecretStr, field_validator

from pipeline.addresses import scheme_of, split_address
from pipeline.alerts import AlertKind
from pipeline.errors import SinkError
from pipeline.sinks.alert_letter import text_of, title_of
from pipeline.sinks.alert_queue import AlertQueue, QueuedAlert
from pipeline.sinks.alert_sender import AlertSender, AwayError, NotYetError, RefusedError
from pipeline.sinks.base import Reason, RuledSinkSettings, SinkContext
from pipeline.sinks.delivery_rules import OnlySettings

_EXPECTED = "expected the address of a service as apprise writes it (mailtos://user:password@example.org), got another"
_PICTURED = 100  # newest events whose picture was sent, which are remembered
_LONGEST_S = 60.0  # that a service may take
_SHORTEST_SECRET = 4  # parts of an address shorter than that are in any text
_BETWEEN_PARTS = re.compile(r"[/:@?&=,#]+")
# Of others, what stands where a host would is a token.
_HAVE_HOSTS = ("json", "jsons", "xml", "xmls", "form", "forms")
_HAVE_MAIL_HOSTS = ("mailto", "mailtos")


class OnlyForPeople(OnlySettings):
    """As others have it; of an event, by default, its beginning and its picture."""

    kinds: Annotated[tuple[AlertKind, ...], Field(min_length=1)] | None = ("new", "evidence")


class AppriseSinkSettings(RuledSinkSettings):
    """A service that apprise knows, and whom it tells there.

    Attributes:
        url: as https://github.com/caronc/apprise/wiki lists them; a secret.
        only: what is told.
        picture_wait_s: for how long the beginning of an event waits for its picture; 0 sends it without.
        retry_max_s: longest pause between two tries of an alert.
    """

    kind: str = "apprise"
    url: SecretStr
    only: OnlySettings = OnlyForPeople()
    picture_wait_s: Annotated[float, Field(ge=0.0, le=600.0)] = 20.0
    retry_max_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 300.0

    @field_validator("only", mode="before")
    @classmethod
    def _fill_kinds(cls, value: Any) -> Any:
        return OnlyForPeople.model_validate(value) if isinstance(value, Mapping) else value

    @field_validator("url")
    @classmethod
    def _is_known(cls, value: SecretStr) -> SecretStr:
        address = value.get_secret_value()
        if not address.isprintable() or split_address(address) is None or service_of(address) is None:
            raise ValueError(_EXPECTED)
        return value

    def open(self, context: SinkContext) -> AppriseSink:
        """Make the sink."""
        assert context.alerts is not None
        return AppriseSink(self, context, context.alerts)

    def check(self) -> str:
        """Connect to the server, where the address names one; nothing is sent.

        Raises:
            SinkError: nobody answers there.
        """
        service = service_of(self.url.get_secret_value())
        host, port = self._server(service)
        if host is None:
            return f"{self.label}: known to apprise; whether it takes messages is seen with the first one"
        try:
            socket.create_connection((host, port), timeout=10.0).close()
        except OSError as error:
            raise SinkError(f"{self.label}: nobody answers at {host}:{port} ({error.strerror or error})") from error
        return f"{self.label}: {host}:{port} answers; whether it takes messages is seen with the first one"

    @property
    def label(self) -> str:
        """What is shown of the address: its scheme."""
        return f"apprise {scheme_of(self.url.get_secret_value())}"

    def _server(self, service: Any) -> tuple[str | None, int]:
        scheme = scheme_of(self.url.get_secret_value())
        if scheme in _HAVE_MAIL_HOSTS:
            return service.smtp_host, service.port or 25
        if scheme in _HAVE_HOSTS:
            return service.host, service.port or (443 if scheme.endswith("s") else 80)
        return None, 0


class AppriseSink(AlertSender):
    """Tells people. Its methods may be called by any thread.

    Args:
        settings: the service.
        context: the run.
        alerts: where alerts come from; what is left there when this closes waits for the next run.
    """

    def __init__(self, settings: AppriseSinkSettings, context: SinkContext, alerts: AlertQueue) -> None:
        label = settings.label if settings.name is None else f"{settings.label} ({settings.name})"
        super().__init__(label, alerts, settings.retry_max_s)
        self._settings = settings
        self._folder = context.folder
        self._waits = settings.picture_wait_s if context.keeps_pictures and _wants_pictures(settings) else 0.0
        self._pictured = _pictured(alerts.mark)  # the newest events whose picture was sent
        self._failed_once: int | None = None  # serial of an alert that was not taken with its picture
        self._begin()

    # The writer thread.

    def _send(self, alert: QueuedAlert) -> Sequence[QueuedAlert]:
        said = json.loads(alert.text)
        event_id, kind = said["event_id"], said["kind"]
        if kind == "evidence" and (event_id in self._pictured or not said["picture"]):
            return [alert]  # its picture was sent before; what is new is a clip
        with_it: list[QueuedAlert] = []
        path = said.get("picture")
        if path is None and kind == "new":
            evidence = self._evidence_of(alert.camera_id, event_id)
            if evidence is None:
                self._wait_for_picture(said)
            else:
                path, with_it = json.loads(evidence.text)["picture"], [evidence]
        picture = None if path is None else self._folder / path
        if self._tell(alert, said, picture) and not self._remember(event_id):
            raise AwayError(Reason("the run's store is closed"))
        return [alert, *with_it]

    def _evidence_of(self, camera_id: str | None, event_id: str) -> QueuedAlert | None:
        """The alert that brings an event's picture, if it has come."""
        for other in self._alerts.held_of(camera_id):
            said = json.loads(other.text)
            if said["event_id"] == event_id and said["kind"] == "evidence" and said["picture"]:
                return other
        return None

    def _wait_for_picture(self, said: Mapping[str, Any]) -> None:
        waited_s = time.time() - said["emitted_at_s"]
        if 0.0 <= waited_s < self._waits and not self._is_last_try:
            raise NotYetError(self._waits - waited_s)

    def _tell(self, alert: QueuedAlert, said: Mapping[str, Any], picture: Path | None) -> bool:
        """Send it; whether with its picture. One that is not taken with it is, when tried again, tried without, too."""
        if picture is not None and not picture.is_file():
            picture = None
        tries = [picture] if picture is None or alert.serial != self._failed_once else [picture, None]
        why = ""
        for attached in tries:
            why = self._notify(said, attached)
            if not why:
                self._failed_once = None
                return attached is not None
        self._failed_once = alert.serial
        raise RefusedError(Reason("does not take it", why))

    def _notify(self, said: Mapping[str, Any], picture: Path | None) -> str:
        """Have apprise tell it; what went wrong, if anything did."""
        import apprise
        from apprise.attachment.file import AttachFile

        address = self._settings.url.get_secret_value()
        warnings: list[str] = []

        def note(entry: Any, _service: Any) -> None:
            warnings.append(str(entry.message))

        service = service_of(address)
        teller = cast("Any", apprise.Apprise(service))
        is_event = "start_s" in said and said["kind"] != "end"
        done = teller.notify(
            title=title_of(said),
            body=text_of(said),
            notify_type=apprise.NotifyType.WARNING if is_event else apprise.NotifyType.INFO,
            body_format=apprise.NotifyFormat.TEXT,
            attach=None if picture is None else AttachFile(path=str(picture)),
            log_callback=note,
            log_level=logging.WARNING,
            timeout=_LONGEST_S,
        )
        return "" if done else (without_secrets(" ".join(warnings), address, service) or "apprise does not say why")

    def _remember(self, event_id: str) -> bool:
        self._pictured = [*self._pictured, event_id][-_PICTURED:]
        return self._alerts.keep_receipts({}, json.dumps(self._pictured))


def _pictured(mark: str) -> list[str]:
    """What ``_remember`` wrote; nothing of what another kind of sink did, which had the name before."""
    with contextlib.suppress(ValueError):
        kept: Any = json.loads(mark)
        if isinstance(kept, list):
            return [str(event_id) for event_id in cast("list[Any]", kept)]
    return []


def _wants_pictures(settings: AppriseSinkSettings) -> bool:
    return settings.only.kinds is None or "evidence" in settings.only.kinds


def service_of(address: str) -> Any:
    """What apprise makes of an address; None where it knows no such service."""
    logger = logging.getLogger("apprise")  # it logs whole addresses
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    import apprise

    asset = apprise.AppriseAsset(storage_mode="memory", app_id="cflow-stream", app_desc="cflow-stream")
    return cast("Any", apprise.Apprise).instantiate(address, asset=asset)


def without_secrets(text: str, address: str, service: Any) -> str:
    """A text in one line; nothing of it where it holds a part of an address that may be secret.

    Args:
        text: what apprise said.
        address: the whole address, as the settings hold it.
        service: what ``service_of`` makes of it.
    """
    parts = split_address(address)
    assert parts is not None
    path, _, query = parts.rest.partition("?")
    hidden = [parts.user_info or "", path, *map(_value, query.split("&"))]
    shown = {getattr(service, "smtp_host", "")}
    if parts.scheme in (*_HAVE_HOSTS, *_HAVE_MAIL_HOSTS):
        shown.update(_BETWEEN_PARTS.split(parts.server))
    else:
        hidden.append(parts.server)
    secrets = {part for each in hidden for part in _BETWEEN_PARTS.split(each) if len(part) >= _SHORTEST_SECRET} - shown
    line = " ".join(text.split())
    return "" if any(form in line for part in secrets for form in (part, unquote(part))) else line


def _value(item: str) -> str:
    """What an item of a query may hide: its name (``from``, ``smtp``) is a word of any text."""
    name, is_named, value = item.partition("=")
    return value if is_named else name
