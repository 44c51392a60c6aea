"""Networks and peers as bad as they come, on loopback: a proxy that can be made to fail, and peers that never work."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Literal

_CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Mode = Literal["pass", "freeze", "garbage", "refuse"]


class TcpProxy:
    """Forwards TCP connections to a port on this machine.

    Attributes:
        port: where it listens.
        mode: ``pass``; ``freeze`` keeps connections open and forwards nothing; ``garbage`` replaces what the server
            sends by noise; ``refuse`` resets new connections.
        rate_bytes_s: how fast the server's bytes come through; None does not limit them.
        accepted_at_s: monotonic time of every connection so far.
        target_port: of the server that further connections lead to.

    Args:
        target_port: of the server.
    """

    def __init__(self, target_port: int) -> None:
        self.mode: Mode = "pass"
        self.rate_bytes_s: float | None = None
        self.accepted_at_s: list[float] = []
        self.target_port = target_port
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """Reset all connections (RST), as a router does that has forgotten them."""
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                    # A close alone would wait for the thread that is in recv; this wakes it, and the close resets.
                    end.shutdown(socket.SHUT_RD)
                end.close()
            self._sockets.clear()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted_at_s.append(time.monotonic())
            try:
                if self.mode == "refuse":
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self.target_port), timeout=3.0)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._sockets += [client, server]
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._forward, args=(source, sink, is_answer), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1024 if self.rate_bytes_s else _CHUNK_BYTES):
                while self.mode == "freeze" and not self._closed.is_set():
                    time.sleep(0.01)
                if is_answer and self.rate_bytes_s:
                    time.sleep(len(data) / self.rate_bytes_s)
                sink.sendall(os.urandom(len(data)) if is_answer and self.mode == "garbage" else data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def peer(answer: bytes | None) -> Iterator[int]:
    """A server that says one thing to whoever connects, then ends the connection; or that stays silent for ever.

    Args:
        answer: what it says once it was asked something; None is silence.

    Yields:
        Its port.
    """
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    held.append(client)
                    if answer is not None:
                        with contextlib.suppress(OSError):
                            client.recv(_CHUNK_BYTES)
                            client.sendall(answer)
                            client.shutdown(socket.SHUT_WR)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
    for client in held:
        client.close()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port at which connection requests are never answered: its queue is full.

    Yields:
        The port.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
