"""HTTP to cameras: their passwords, their certificates, and what to say when they fail."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import unquote_to_bytes

import httpx

from pipeline.addresses import server_error, split_address
from pipeline.errors import RefusedError, VideoError
from pipeline.redaction import redact
from pipeline.time_limit import TimeLimit

_MOST_REDIRECTS = 8
_OP_LEGACY_SERVER_CONNECT = 0x4  # ``ssl`` names it from Python 3.12 on: a server that cannot renegotiate safely
_KIND = re.compile(r"[a-z0-9.+_-]{1,60}/[a-z0-9.+_-]{1,60}")
_HEAD = re.compile(rb"(?!\s*--).{16}|\s*--[^\r\n]{0,200}[\r\n]|.{256}", re.DOTALL)  # enough to know a body by


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a camera answers.

    Attributes:
        kind: its content type, in lower case and without parameters; empty where there is none.
        length: of its body in bytes, where that is known.
        head: how its body begins, enough to know it by; empty where there is none.
        body: what comes after that, as it comes.
    """

    kind: str
    length: int | None
    head: bytes
    body: Generator[bytes, None, None]


class CameraClient:
    """Asks one address, with the user and password in it; one thread uses it.

    Whoever answers is not verified, since cameras sign their own certificates. A redirect is followed; to another
    server it takes no password along.

    Args:
        url: ``http://`` or ``https://`` address.
        label: what errors call the camera, redacted.
        open_timeout_s: longest wait for the connection.
        read_timeout_s: half the longest wait for what comes next, as with FFmpeg.

    Raises:
        ValueError: httpx cannot read the address.
        VideoError: the address of the environment's proxy can be read in two ways.
    """

    def __init__(self, url: str, label: str, *, open_timeout_s: float, read_timeout_s: float) -> None:
        for library in ("httpx", "httpcore"):  # they would log addresses with passwords
            logging.getLogger(library).setLevel(logging.WARNING)
        self._label = label
        self._limit = TimeLimit()
        parts = split_address(url)
        if parts is None:
            raise ValueError("no address")
        user, _, password = (parts.user_info or "").partition(":")
        # Not decoded by httpx, which knows no password but UTF-8, and takes no control character in an address.
        self._auth = _CameraAuth(unquote_to_bytes(user), unquote_to_bytes(password)) if parts.user_info else None
        try:
            self._url = httpx.URL(f"{parts.scheme}://{parts.server}{parts.rest}")
            self._client = httpx.Client(
                headers={"User-Agent": "cflow-stream", "Accept-Encoding": "identity", "Cache-Control": "no-cache"},
                verify=_any_tls(),
                follow_redirects=False,
                timeout=httpx.Timeout(2 * read_timeout_s, connect=open_timeout_s),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # nobody's are kept
                proxy=_proxy(self._url.host, label),
                trust_env=False,
            )
        except httpx.InvalidURL as error:  # whose words may show a password
            raise ValueError(error.__class__.__name__) from None

    def ask(self, within_s: float) -> HttpAnswer:
        """Its answer; to be read to its end, or closed (``body``), before it is asked again.

        Args:
            within_s: after which nothing more is waited for, until the head of the body is there.

        Raises:
            RefusedError: access is refused, or there is no such stream.
            VideoError: nobody answers in time, or not with a stream.
            httpx.ProtocolError: the answer is malformed.
        """
        with self._limit.within(within_s):
            try:
                answer = self._followed()
            except httpx.HTTPError as error:
                if isinstance(error, httpx.ProtocolError) and not self._limit.is_over:
                    raise
                raise VideoError(f"{self._label}: expected a video stream, got {self._said(error)}") from None
            if answer.status_code != httpx.codes.OK:
                answer.close()
                raise self._refusal(answer.status_code, answer.url)
            body, head = self._body(answer), b""
            while not _HEAD.match(head) and (chunk := next(body, None)) is not None:
                head += chunk
        length = answer.headers.get("content-length", "")
        kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
        known = int(length) if length.isdecimal() else None
        return HttpAnswer(kind if _KIND.fullmatch(kind) else "", known, head, body)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _followed(self) -> httpx.Response:
        """The answer at the end of all redirects."""
        url = self._url
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._answered(url)
            if answer.next_request is None:
                return answer
            answer.close()
            url = answer.next_request.url
        raise VideoError(f"{self._label}: expected a video stream, got more than {_MOST_REDIRECTS} redirects")

    def _answered(self, url: httpx.URL) -> httpx.Response:
        """One address's answer, to the password if it asks for one. httpx itself would read refusals to their end."""
        request = self._client.build_request("GET", url, extensions={"trace": self._limit.watch})
        if self._auth is None or not self._is_home(url):
            return self._client.send(request, stream=True)
        flow = self._auth.auth_flow(request)
        answer = self._client.send(next(flow), stream=True, auth=None)
        with contextlib.suppress(StopIteration):
            while True:
                request = flow.send(answer)
                answer.close()
                answer = self._client.send(request, stream=True, auth=None)
        return answer

    def _is_home(self, url: httpx.URL) -> bool:
        """Whether this is the server that user and password are for; another port or scheme is another server."""
        return (url.scheme, url.host, url.port) == (self._url.scheme, self._url.host, self._url.port)

    def _refusal(self, code: int, url: httpx.URL) -> VideoError:
        expected = f"{self._label}: expected a video stream, got"
        refused = code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
        if refused and self._auth is not None and not self._is_home(url):
            home = _server(self._url)
            return RefusedError(
                f"{expected} a redirect to {url.scheme}://{_server(url)}; user and password are for {home} alone: "
                "write the new address into the config if they are for both"
            )
        if refused:
            return RefusedError(f"{expected}: access is refused ({code}): check user and password")
        if code == httpx.codes.NOT_FOUND:
            return RefusedError(f"{expected}: no such stream ({code})")
        return VideoError(f"{expected}: {httpx.codes.get_reason_phrase(code) or 'an unknown answer'} ({code})")

    def _body(self, answer: httpx.Response) -> Generator[bytes, None, None]:
        try:
            yield from answer.iter_bytes()
        except httpx.HTTPError as error:
            raise VideoError(f"{self._label}: expected more packets, got {self._said(error)}") from None
        finally:
            answer.close()

    def _said(self, error: httpx.HTTPError) -> str:
        return "no answer in time" if self._limit.is_over else _said(error)


class _CameraAuth(httpx.Auth):
    """Basic or digest, as the camera asks for; what it asked for last is sent without being asked again."""

    def __init__(self, user: bytes, password: bytes) -> None:
        self._basic, self._digest = httpx.BasicAuth(user, password), httpx.DigestAuth(user, password)
        self._chosen: httpx.Auth | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if self._chosen is not None:
            yield from self._chosen.auth_flow(request)
            return
        answer = yield request
        if answer.status_code != httpx.codes.UNAUTHORIZED:
            return
        challenges = [line.lower() for line in answer.headers.get_list("www-authenticate")]
        if any(challenge.startswith("digest") for challenge in challenges):
            flow = self._digest.auth_flow(request)
            next(flow)
            try:
                answered = flow.send(answer)
            except (StopIteration, NotImplementedError, LookupError, ValueError, httpx.ProtocolError):
                pass  # a digest that nobody knows
            else:
                self._chosen = self._digest
                yield answered
                return
        if not challenges or any(challenge.startswith("basic") for challenge in challenges):
            self._chosen = self._basic
            yield next(self._basic.auth_flow(request))


def _proxy(host: str, label: str) -> str | None:
    """The proxy on the way to a host, as FFmpeg finds it: what is in ``HTTP_PROXY`` or ``ALL_PROXY`` is no camera's.

    Raises:
        VideoError: nobody can tell where it is.
    """
    proxy = os.environ.get("http_proxy", "")
    direct = [name for name in re.split(r"[\s,]+", os.environ.get("no_proxy", "")) if name]
    is_direct = any(name == "*" or f".{host}".endswith(f".{name.lstrip('*.')}") for name in direct)
    if is_direct or not proxy.startswith("http://"):
        return None
    parts = split_address(proxy)
    if parts is None or server_error(parts) is not None:
        raise VideoError(
            f"{label}: expected the address of a proxy in http_proxy (special characters of user and password "
            "percent-encoded), got something else"
        )
    return proxy


def _any_tls() -> ssl.SSLContext:
    """TLS as FFmpeg speaks it: cameras sign their own certificates, and old ones know only what is out of use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.options |= _OP_LEGACY_SERVER_CONNECT | ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_ciphers("ALL:!aNULL:!eNULL:@SECLEVEL=0")
    return context


def _said(error: httpx.HTTPError) -> str:
    """What went wrong, in a few words that show no address."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.UnsupportedProtocol):
        return "a redirect to an address that is not HTTP"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"no TLS ({' '.join(str(cause.reason or cause.strerror).lower().replace('_', ' ').split())})"
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return " ".join(redact(error).split()) or error.__class__.__name__


def _server(url: httpx.URL) -> str:
    """Host and port to show; the rest of an address may hold secrets."""
    return url.netloc.decode("ascii", "replace")
