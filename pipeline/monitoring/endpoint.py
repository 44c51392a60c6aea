"""``/metrics`` for Prometheus and ``/health`` for probes, at an address of the process that holds the supervisor."""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from pipeline.config import MetricsSettings
from pipeline.errors import BadInputError
from pipeline.monitoring.run_watch import RunWatch

_log = logging.getLogger(__name__)

_ANSWER_WITHIN_S = 10.0  # whoever connects and says nothing holds a thread for no longer
_LOOK_EVERY_S = 0.1  # whether it is to end
_OK, _NOT_FOUND, _UNAVAILABLE = "200 OK", "404 Not Found", "503 Service Unavailable"


@contextmanager
def served_metrics(settings: MetricsSettings, watch: RunWatch) -> Iterator[None]:
    """Answer whoever asks while the block lasts; nothing is done where no port is set.

    Args:
        settings: where.
        watch: how the run stands.

    Raises:
        BadInputError: nobody can listen there.
    """
    if settings.port is None:
        yield
        return
    from pipeline.monitoring.collector import metrics_app  # whoever wants no metrics need not pay for the library

    server = _listening(settings, settings.port)
    answer_metrics = metrics_app(watch.look)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            return answer_metrics(environ, start_response)
        unhealthy = watch.look().unhealthy
        code, line = (_OK, "running") if unhealthy is None else (_UNAVAILABLE, unhealthy)
        if path != "/health":
            code, line = _NOT_FOUND, "expected /metrics or /health"
        body = f"{line}\n".encode()
        start_response(code, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
        return [body]

    server.set_app(answer)
    threading.Thread(target=server.serve_forever, args=(_LOOK_EVERY_S,), name="metrics", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def check_address(settings: MetricsSettings) -> None:
    """See whether the metrics' address can be listened at; nothing stays there.

    Raises:
        BadInputError: it cannot.
    """
    if settings.port is not None:
        _listening(settings, settings.port).server_close()


def _listening(settings: MetricsSettings, port: int) -> _Server:
    where = f"metrics: {settings.host}, port {port}"
    try:
        found = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return _Server(family, (str(address[0]), port))
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "a name that is none"
        raise BadInputError(f"{where}: expected a free port at an address of this machine, got: {why}") from None


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A thread per request."""

    daemon_threads = True

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int]) -> None:
        self.address_family = family
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """As ever, but for the look-up of this machine's name, which may take seconds and which nobody needs."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone, which is no matter of the run's."""
        _log.debug("a request was not answered", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _ANSWER_WITHIN_S

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: Prometheus asks every few seconds."""
