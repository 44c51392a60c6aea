"""HTTP for sinks: whom it talks to is verified, and no request outlasts its time, however slowly an answer trickles."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.request import getproxies

import httpx

from pipeline.addresses import server_error, split_address
from pipeline.errors import SinkError
from pipeline.time_limit import TimeLimit

_NO_PROXIES = (
    "expected addresses of proxies with http:// or https:// in HTTP_PROXY, HTTPS_PROXY and ALL_PROXY (special "
    "characters of user and password percent-encoded), got something else"
)


class HttpClient:
    """Makes one request at a time, through the proxies of the environment, and follows no redirect.

    A request whose time is up finds its connection shut.

    Args:
        ca_file: certificates (PEM) of whom to trust in the place of the usual authorities.
        timeout_s: longest wait for the connection and for every read; no request takes longer than twice that.

    Raises:
        SinkError: the certificates cannot be read, or the environment's proxies are none.
    """

    def __init__(self, ca_file: Path | None, timeout_s: float) -> None:
        for library in ("httpx", "httpcore"):  # they would log addresses with passwords, and signatures
            logging.getLogger(library).setLevel(logging.WARNING)
        self._longest_s = 2 * timeout_s
        self._limit = TimeLimit()
        _check_proxies()
        try:
            self._client = httpx.Client(
                verify=True if ca_file is None else ssl.create_default_context(cafile=ca_file),
                timeout=timeout_s,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=1),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # nobody's are kept
            )
        except OSError as error:  # ssl's errors are such
            raise SinkError(f"expected certificates (PEM), got: {error.strerror or error}") from error
        except (httpx.InvalidURL, ValueError, ImportError):  # whose words may show a proxy's password
            raise SinkError(_NO_PROXIES) from None

    @contextmanager
    def request(
        self, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Generator[httpx.Response, None, None]:
        """Make a request; its answer's body is there to be read.

        Raises:
            httpx.HTTPError: nobody answers, or not in time.
        """
        extensions = {"trace": self._limit.watch}
        try:
            with (
                self._limit.within(self._longest_s),
                self._client.stream(method, url, content=content, headers=headers, extensions=extensions) as answer,
            ):
                yield answer
        except httpx.HTTPError as error:
            if self._limit.is_over:
                raise httpx.ReadTimeout(f"its answer was not over after {self._longest_s:g} s") from error
            raise

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _check_proxies() -> None:
    """Make sure that proxies are where their addresses seem to say.

    Raises:
        SinkError: user or password could be taken for a host.
    """
    proxies = getproxies()
    for address in filter(None, map(proxies.get, ("http", "https", "all"))):
        parts = split_address(address if "://" in address else f"http://{address}")
        if parts is None or server_error(parts) is not None:
            raise SinkError(_NO_PROXIES)
