"""Alerts by HTTP: one POST each, signed, in order per camera, again and again until somebody takes it.

The receiver knows a repeated alert by ``Idempotency-Key``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from typing import Annotated

import httpx
from pydantic import Field, SecretStr, field_validator

from pipeline.addresses import server_error, split_address
from pipeline.errors import SinkError
from pipeline.redaction import redact
from pipeline.sinks.alert_queue import AlertQueue, QueuedAlert
from pipeline.sinks.alert_sender import AlertSender, AwayError, RefusedError
from pipeline.sinks.base import CaFile, Reason, RuledSinkSettings, SinkContext
from pipeline.sinks.http_client import HttpClient

_ANSWER_BYTES = 2**16  # of an answer's body that are read, to use the connection again


class WebhookSinkSettings(RuledSinkSettings):
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
    ca_file: CaFile | None = None
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


class WebhookSink(AlertSender):
    """Sends alerts as docs/delivery.md describes. Its methods may be called by any thread.

    Args:
        settings: the receiver.
        alerts: where alerts come from; what is left there when this closes waits for the next run.
    """

    def __init__(self, settings: WebhookSinkSettings, alerts: AlertQueue) -> None:
        super().__init__(f"Webhook {settings.redacted_url}", alerts, settings.retry_max_s)
        self._settings = settings
        self._client: HttpClient | None = None  # the writer's: what it needs may be missing, which is trouble as any
        self._begin()

    def _send(self, alert: QueuedAlert) -> Sequence[QueuedAlert]:
        try:
            self._post(alert)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, SinkError) as error:
            raise AwayError(_explain(error)) from error
        except httpx.HTTPError as error:  # an answer that did not come: may be the alert's doing
            raise RefusedError(_explain(error)) from error
        return [alert]

    def _post(self, alert: QueuedAlert) -> None:
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
        if status == 429 or (status == 503 and pause_s is not None):
            raise AwayError(Reason(f"asks for a pause with {status}"), pause_s)
        if not answer.is_success:
            redirected = ", a redirect, which is not followed" if answer.is_redirect else ""
            raise RefusedError(Reason(f"refused with {status}{redirected}"), pause_s)

    def _release(self) -> None:
        if self._client is not None:
            self._client.close()


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
