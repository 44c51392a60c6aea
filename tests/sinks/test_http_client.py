"""Requests of sinks: limited in time as a whole, without cookies, and with nothing said that is secret."""

import logging
import socket
import ssl
import threading
import time
from contextlib import closing, contextmanager, suppress

import httpx
import pytest

from pipeline.errors import SinkError
from pipeline.sinks.http_client import HttpClient
from tests.sinks.receiver import self_made_certificate

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def trickle(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def answer_well(connection: socket.socket) -> None:
    connection.sendall(OK)


def go_on_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.05)


@contextmanager
def server(*answers, certificate=None):
    """Answers one connection after the other; gives the address, and what was received."""
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate is not None:
        context.load_cert_chain(*certificate)

    def serve() -> None:
        for answer in answers:
            with suppress(OSError):  # a client that had enough
                connection, _ = listener.accept()
                with connection if certificate is None else context.wrap_socket(connection, server_side=True) as peer:
                    received.append(peer.recv(2**16))
                    answer(peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"{'http' if certificate is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}/", received
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.parametrize("answer", [trickle, go_on_for_ever])
def test_an_answer_that_trickles_is_given_up_after_twice_the_time_and_the_next_request_is_well(answer):
    with (
        server(answer, answer_well) as (url, _),
        closing(HttpClient(None, 0.3)) as client,
    ):
        started = time.monotonic()
        with pytest.raises(httpx.ReadTimeout, match=r"not over after 0\.6 s"), client.request("POST", url):
            pass
        assert 0.5 < time.monotonic() - started < 15.0
        with client.request("POST", url) as response:
            assert response.status_code == 200


def test_an_answer_that_trickles_through_tls_is_given_up_too(tmp_path):
    certificate = self_made_certificate(tmp_path)
    client = HttpClient(certificate[0], 0.3)
    with server(trickle, certificate=certificate) as (url, _), pytest.raises(httpx.ReadTimeout, match="not over after"):
        client.request("HEAD", url).__enter__()
    client.close()


def test_cookies_are_not_kept():
    def give(connection: socket.socket) -> None:
        connection.sendall(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: id=1; Path=/\r\nConnection: close\r\n\r\n"))

    with server(give, give) as (url, received), closing(HttpClient(None, 5.0)) as client:
        for _ in range(2):
            with client.request("POST", url):
                pass
        assert len(received) == 2
        assert not any(b"cookie" in request.lower() for request in received)


@pytest.mark.parametrize(
    "proxy",
    [
        "ftp://user:hunter2@127.0.0.1:1",
        "socks5://user:hunter2@127.0.0.1:1",
        "http://user:hunter2",
        "http://user:57#hunter2@127.0.0.1:1",
        "user:57/hunter2@127.0.0.1:1",
    ],
)
def test_proxies_that_are_none_are_named_in_one_line_without_their_password(monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(SinkError, match="expected addresses of proxies") as raised:
        HttpClient(None, 5.0)
    assert "hunter2" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_certificates_that_are_gone_are_said_in_one_line(tmp_path):
    with pytest.raises(SinkError, match=r"^expected certificates \(PEM\), got: No such file or directory$"):
        HttpClient(tmp_path / "none.pem", 5.0)


def test_requests_are_not_logged(caplog):
    caplog.set_level(logging.DEBUG)
    with server(answer_well) as (url, received), closing(HttpClient(None, 5.0)) as client:
        secret = url.replace("//", "//user:hunter2@") + "token"
        with suppress(httpx.HTTPError), client.request("HEAD", secret):
            pass
    assert b"token" in received[0]
    assert "hunter2" not in caplog.text
    assert "token" not in caplog.text
