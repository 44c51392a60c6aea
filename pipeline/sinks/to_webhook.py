"""Alerts by HTTP: one POST each, signed, in order per camera, again and again until somebody takes it.

One daemon thread sends. A camera whose alert is refused or not answered waits for its next try alone; where nobody
answers at all, or the receiver asks for a pause, all wait. The receiver knows a repeated alert by ``Idempotency-Key``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import Field, SecretStr, field_validator

from pipeline.addresses import server_error, split_address
from pipeline.backoff import Backoff
from pipeline.errors import SinkError
from pipeline.redaction import redact
from pipeline.sinks.alert_outbox import AlertCounts, AlertQueue, QueuedAlert
from pipeline.sinks.base import Outage, Reason, Sink, SinkContext, SinkSettings
from pipeline.sinks.http_client import HttpClient
from pipeline.types import Trouble

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_RETRY_AFTER_S = 600.0  # a receiver that asks for a longer pause is asked again after this one
_ANSWER_BYTES = 2**16  # of an answer's body that are read, to use the connection again
_JOIN_S = 0.1


class WebhookSinkSettings(SinkSettings):
    """A receiver of alerts. Proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY``).

    Attributes:
        url: ``https://`` or ``http://`` address; a secret, it may hold a password or a token.
        secret: shared with the receiver, who checks the signature with it.
        ca_file: certificates (PEM) of whom to trust in the place of the usual authorities.
        timeout_s: longest wait for the connection and, apart from it, for the answer; no request takes longer than
            twice that.
        retry_max_s: longest pause between two tries of an alert.
    """

    kind: str = "webhook"
    url: SecretStr
    secret: Annotated[SecretStr, Field(min_length=16)]
    ca_file: Path | None = None
    timeout_s: Annotated[float, Field(gt=0.0, le=600.0)] = 10.0
    retry_max_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 60.0

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: SecretStr) -> SecretStr:
        address = value.get_secret_value()
        expected = "expected an address that begins with https:// or http:// and names a host, got something else"
        parts = split_address(address)
        if parts is None or parts.scheme not in {"http", "https"} or not address.isprintable() or " " in address:
            raise ValueError(expected)
        if (wrong := server_error(parts)) is not None:
            raise ValueError(wrong)
        try:
            httpx.URL(address).host.encode("idna")
        except (ValueError, httpx.InvalidURL):  # whose words may show the address
            raise ValueError(expected) from None
        return value

    @field_validator("ca_file")
    @classmethod
    def _holds_certificates(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                ssl.create_default_context(cafile=value)
            except OSError as error:  # ssl's errors are such
                raise ValueError(f"expected a file of certificates (PEM; {error.strerror or error})") from None
        return None if value is None else value.resolve()  # the scorer's working folder is another

    def open(self, context: SinkContext) -> WebhookSink:
        """Make the sink."""
        assert context.alerts is not None
        return WebhookSink(self, context.alerts)

    def check(self) -> str:
        """Connect, with TLS where the address says so, and ask for nothing (``HEAD``).

        Raises:
            SinkError: nobody answers, or it is not to be trusted.
        """
        try:
            with (
                closing(self.client()) as client,
                client.request("HEAD", self.url.get_secret_value()) as answer,
            ):
                return f"{self.redacted_url}: answers HEAD with {answer.status_code}"
        except (httpx.HTTPError, SinkError) as error:
            raise SinkError(f"{self.redacted_url}: {_explain(error)}") from error

    @property
    def redacted_url(self) -> str:
        """The address without user, password, path and query, in which tokens often are."""
        parts = split_address(self.url.get_secret_value())
        assert parts is not None
        return f"{parts.scheme}://{parts.server}"

    def client(self) -> HttpClient:
        """What makes the requests.

        Raises:
            SinkError: the certificates cannot be read, or the environment's proxies are none.
        """
        return HttpClient(self.ca_file, self.timeout_s)


class WebhookSink(Sink):
    """Sends alerts as docs/alerts.md describes. Its methods may be called by any thread.

    Args:
        settings: the receiver.
        alerts: where alerts come from; what is left there when this closes waits for the next run.
    """

    def __init__(self, settings: WebhookSinkSettings, alerts: AlertQueue) -> None:
        self._settings = settings
        self._alerts = alerts
        self._label = f"Webhook {settings.redacted_url}"
        self._client: HttpClient | None = None  # the writer's: what it needs may be missing, which is trouble as any
        self._changed = threading.Condition()  # guards everything below
        self._receiver = _Tries(self._label, settings.retry_max_s)
        self._cameras: dict[str | None, _Tries] = {}  # those whose oldest alert was refused
        self._idle = False
        self._closing = False
        self._writer = threading.Thread(target=self._run, name="webhook-writer", daemon=True)
        self._writer.start()

    @property
    def trouble(self) -> Trouble | None:
        """Why alerts wait at present, without credentials; None when all is well."""
        with self._changed:
            tries = [self._receiver, *self._cameras.values()]
            return next((each.outage.trouble for each in tries if each.outage.trouble is not None), None)

    @property
    def alert_counts(self) -> AlertCounts:
        """What became of the alerts."""
        return self._alerts.counts

    def wake(self) -> None:
        """Say that the outbox has new alerts."""
        with self._changed:
            self._idle = False
            self._changed.notify_all()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until the receiver has every alert; whether it has.

        Args:
            timeout_s: longest wait.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._alerts.counts.waiting == 0, timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Try once more what waits, as far as there is time, then stop.

        Args:
            timeout_s: longest time for it. A request that is on its way then may arrive, and is repeated by the next
                run, under the same key.
        """
        if not self._writer.is_alive():
            return
        with self._changed:
            for tries in (self._receiver, *self._cameras.values()):
                tries.not_before = 0.0
            self._idle = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._idle, timeout_s)
            self._closing = True
            self._changed.notify_all()
        self._writer.join(_JOIN_S)
        for line in self.unwritten():
            _log.error("%s", line)
        if not self._writer.is_alive() and self._client is not None:
            self._client.close()

    def unwritten(self) -> list[str]:
        """One line per thing that could not be written so far."""
        counts = self._alerts.counts
        lines: list[str] = []
        if counts.dropped:
            lines.append(f"{self._label}: dropped {counts.dropped} alerts")
        if counts.waiting:
            trouble = self.trouble
            why = f"{self._label}: still on their way" if trouble is None else trouble.text
            lines.append(f"{why}: {counts.waiting} alerts were not delivered; the next run delivers them")
        return lines

    # The writer thread.

    def _run(self) -> None:
        while (alert := self._next()) is not None:
            try:
                self._send(alert)
            except Exception as error:  # whatever it is: a writer that ended would lose every alert after it
                self._failed(alert, error)

    def _next(self) -> QueuedAlert | None:
        """Wait for an alert that may be tried; None once the sink closes."""
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                paused = {camera_id: tries for camera_id, tries in self._cameras.items() if tries.not_before > now}
                if self._receiver.not_before <= now and (alert := self._alerts.take_next(paused)) is not None:
                    return alert
                if self._alerts.counts.waiting == 0:
                    self._cameras.clear()  # what was refused was evicted from a full queue
                self._idle = True
                self._changed.notify_all()  # whoever closes
                later = [each.not_before for each in (self._receiver, *paused.values()) if each.not_before > now]
                self._changed.wait(min(later) - now if later else None)
            return None

    def _send(self, alert: QueuedAlert) -> None:
        """Try an alert once.

        Raises:
            httpx.HTTPError: nobody answered.
            SinkError: nobody can be asked.
        """
        if self._client is None:
            self._client = self._settings.client()
        body = alert.text.encode()
        secret = self._settings.secret.get_secret_value()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "cflow-stream",
            "Idempotency-Key": idempotency_key(alert.text),
            "X-Cflow-Signature": signature(secret, round(time.time()), body),
        }
        url = self._settings.url.get_secret_value()
        with self._client.request("POST", url, content=body, headers=headers) as answer:
            status, pause_s = answer.status_code, _retry_after_s(answer.headers)
            _read_a_little(answer, time.monotonic() + self._settings.timeout_s)
        with self._changed:
            if answer.is_success:
                self._delivered(alert)
            elif status == 429 or (status == 503 and pause_s is not None):
                self._receiver.failed(Reason(f"asks for a pause with {status}"), pause_s)
            else:
                redirected = ", a redirect, which is not followed" if answer.is_redirect else ""
                self._rejected(alert, Reason(f"refused with {status}{redirected}"), pause_s)

    def _delivered(self, alert: QueuedAlert) -> None:
        self._alerts.ack([alert])
        self._receiver.succeeded()
        if (tries := self._cameras.pop(alert.camera_id, None)) is not None:
            tries.succeeded()
        self._changed.notify_all()  # whoever flushes

    def _failed(self, alert: QueuedAlert, error: Exception) -> None:
        """Nobody there: all wait. An answer that did not come: may be the alert's doing, and others are tried."""
        with self._changed:
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError | SinkError):
                self._receiver.failed(_explain(error))
            else:
                self._rejected(alert, _explain(error))

    def _rejected(self, alert: QueuedAlert, reason: Reason, pause_s: float | None = None) -> None:
        self._receiver.succeeded()
        whose = "the run" if alert.camera_id is None else f"camera {alert.camera_id}"
        tries = self._cameras.get(alert.camera_id)
        if tries is None:
            label = f"{self._label}: alerts of {whose}"
            tries = self._cameras[alert.camera_id] = _Tries(label, self._settings.retry_max_s)
        tries.failed(reason, pause_s)


class _Tries:
    """When to try again, and why not sooner.

    Attributes:
        not_before: monotonic, seconds.
        outage: why the last try failed.
    """

    def __init__(self, label: str, longest_s: float) -> None:
        self.not_before = 0.0
        self.outage = Outage(label)
        self._backoff = Backoff(min(_FIRST_PAUSE_S, longest_s), longest_s)

    def failed(self, reason: Reason, pause_s: float | None = None) -> None:
        """Wait longer than last time, and as long as the receiver asked for."""
        self.outage.report(reason)
        asked_s = min(pause_s or 0.0, _LONGEST_RETRY_AFTER_S)
        self.not_before = time.monotonic() + max(self._backoff.failed(), asked_s)

    def succeeded(self) -> None:
        self.outage.report(None)
        self.not_before = 0.0
        self._backoff.succeeded()


def idempotency_key(text: str) -> str:
    """``<event_id>:<kind>:<digest>``: the same whenever an alert is repeated, another for every other alert.

    Args:
        text: the alert's JSON. Updates of one event have one id and kind, so a digest of the whole tells them apart.
    """
    said = json.loads(text)
    return f"{said['event_id']}:{said['kind']}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def signature(secret: str, at_s: int, body: bytes) -> str:
    """``t=<Unix seconds>,v1=<hex>``: HMAC-SHA256 of ``<t>.<body>``.

    Args:
        secret: shared with the receiver.
        at_s: when the request is made, so that the receiver can refuse a request that somebody recorded.
        body: of the request.
    """
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait; None where it does not."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _read_a_little(answer: httpx.Response, deadline: float) -> None:
    """Read an answer's body, which says nothing that is needed, so that the connection can be used again."""
    size = 0
    with suppress(httpx.HTTPError):  # the status said all
        for part in answer.iter_raw():
            size += len(part)
            if size > _ANSWER_BYTES or time.monotonic() > deadline:
                return


def _explain(error: Exception) -> Reason:
    """What went wrong, without credentials."""
    if isinstance(error, SinkError):
        return Reason(str(error))
    text = redact("".join(c if c.isprintable() else " " for c in str(error)))
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Reason("its certificate is not to be trusted", text)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return Reason("nobody answers there", text)
    if isinstance(error, httpx.TimeoutException):
        return Reason("no answer in time", text)
    return Reason(f"no answer: {type(error).__name__}", text)
