"""A real receiver of alerts: an HTTP(S) server that can refuse, be slow, be away, and checks what it is sent."""

import json
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline.sinks.to_webhook import signature

SECRET = "a secret of 16 characters or more"


class Receiver:
    """Takes alerts, each once by its key.

    Attributes:
        requests: every POST as (headers, alert, Unix time), whatever came of it.
        taken: alerts that were answered with 200, without repetitions.
        answer: called with an alert; gives the status and the headers of its answer.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.requests: list[tuple[dict[str, str], dict, float]] = []
        self.taken: list[dict] = []
        self.methods: list[str] = []
        self.answer = lambda alert: (200, {})
        self._keys: set[str] = set()
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._certificate = certificate
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}/hook?token=hunter2"

    def start(self) -> "Receiver":
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver._connections.add(self.connection)

            def do_HEAD(self) -> None:
                receiver.methods.append("HEAD")
                self.send_response(405)
                self.end_headers()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers = receiver._receive(dict(self.headers), body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "2"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

            def handle_error(self, *_) -> None:  # a client that did not wait for its answer
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            while self._connections:  # or those that were kept alive would go on being served
                with suppress(OSError):  # it has ended by itself
                    self._connections.pop().shutdown(socket.SHUT_RDWR)

    def _receive(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        alert = json.loads(body)
        self.methods.append("POST")
        at_s = int(headers["X-Cflow-Signature"].split(",")[0].removeprefix("t="))
        assert headers["X-Cflow-Signature"] == signature(SECRET, at_s, body)
        assert abs(time.time() - at_s) < 10
        status, more = self.answer(alert)
        with self._lock:
            self.requests.append((headers, alert, time.time()))
            if status == 200 and headers["Idempotency-Key"] not in self._keys:
                self._keys.add(headers["Idempotency-Key"])
                self.taken.append(alert)
        return status, more

    def numbers(self, camera_id: str | None = None) -> list[int]:
        """Peak indices of the alerts taken, of one camera or of all."""
        return [a["peak_index"] for a in list(self.taken) if camera_id is None or a["camera_id"] == camera_id]


def self_made_certificate(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) for 127.0.0.1, which is its own authority."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=cflow-test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
