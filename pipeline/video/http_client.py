"""HTTP to cameras: their passwords, their certificates, and what to say when they fail."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import unquote_to_bytes

import httpx

from pipeline.addresses import split_address
from pipeline.errors import RefusedError, VideoError
from pipeline.redaction import redact

_MOST_REDIRECTS = 8


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a camera answers.

    Attributes:
        kind: its content type, in lower case and without parameters; empty where there is none.
        length: of its body in bytes, where that is known.
        body: what comes, as it comes.
    """

    kind: str
    length: int | None
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
        ValueError: httpx cannot read the address, or those of the environment's proxies.
    """

    def __init__(self, url: str, label: str, *, open_timeout_s: float, read_timeout_s: float) -> None:
        for library in ("httpx", "httpcore"):  # they would log addresses with passwords
            logging.getLogger(library).setLevel(logging.WARNING)
        self._label = label
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
                verify=False,
                follow_redirects=False,
                timeout=httpx.Timeout(2 * read_timeout_s, connect=open_timeout_s),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # nobody's are kept
            )
        except (httpx.InvalidURL, ImportError) as error:  # whose words may show a password
            raise ValueError(error.__class__.__name__) from None

    def ask(self) -> HttpAnswer:
        """Its answer; to be read to its end, or closed (``body``), before it is asked again.

        Raises:
            RefusedError: access is refused, or there is no such stream.
            VideoError: nobody answers in time, or not with a stream.
            httpx.ProtocolError: the answer is malformed.
        """
        try:
            answer = self._followed()
        except httpx.ProtocolError:
            raise
        except httpx.HTTPError as error:
            raise VideoError(f"{self._label}: expected a video stream, got {_said(error)}") from None
        if answer.status_code != httpx.codes.OK:
            answer.close()
            raise self._refusal(answer.status_code, answer.url)
        length = answer.headers.get("content-length", "")
        kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
        return HttpAnswer(kind, int(length) if length.isdecimal() else None, self._body(answer))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _followed(self) -> httpx.Response:
        """The answer at the end of all redirects."""
        request = self._client.build_request("GET", self._url)
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._client.send(request, stream=True, auth=self._auth if self._is_home(request.url) else None)
            if answer.next_request is None:
                return answer
            answer.close()
            request = self._client.build_request("GET", answer.next_request.url)
        raise VideoError(f"{self._label}: expected a video stream, got more than {_MOST_REDIRECTS} redirects")

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
                " write the new address into the config if they are for both"
            )
        if refused:
            return RefusedError(f"{expected}: access is refused ({code}): check user and password")
        if code == httpx.codes.NOT_FOUND:
            return RefusedError(f"{expected}: no such stream ({code})")
        return VideoError(f"{expected}: {httpx.codes.get_reason_phrase(code) or 'an unknown answer'} ({code})")

    def _body(self, answer: httpx.Response) -> Generator[bytes, None, None]:
        try:
            yield from answer.iter_raw()
        except httpx.HTTPError as error:
            raise VideoError(f"{self._label}: expected more packets, got {_said(error)}") from None
        finally:
            answer.close()


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


def _said(error: httpx.HTTPError) -> str:
    """What went wrong, in a few words that show no address."""
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.UnsupportedProtocol):
        return "a redirect to an address that is not HTTP"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return " ".join(redact(error).split()) or error.__class__.__name__


def _server(url: httpx.URL) -> str:
    """Host and port to show; the rest of an address may hold secrets."""
    return url.netloc.decode("ascii", "replace")
