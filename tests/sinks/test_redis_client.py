import contextlib
import socket
import threading
import time
from urllib.parse import quote

import pytest

from pipeline.errors import RedisError
from pipeline.sinks.redis_client import check_redis, wait_for_redis
from pipeline.sinks.redis_probe import probe_redis
from pipeline.sinks.redis_reader import read_alerts
from tests.sinks.made import wait_until


@contextlib.contextmanager
def peer(answer: bytes | None):
    """A TCP server that is no Redis: sends ``answer`` to whoever connects, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    if answer is not None:
                        connection.recv(4096)
                        connection.sendall(answer)

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://user:hunter2@127.0.0.1:{listener.getsockname()[1]}/0"
        for connection in held:
            connection.close()


def complaint(url: str, timeout_s: float = 0.5) -> str:
    started = time.monotonic()
    with pytest.raises(RedisError) as caught:
        check_redis(url, timeout_s=timeout_s)
    assert time.monotonic() - started < 15.0
    said = str(caught.value)
    assert "hunter2" not in said
    assert "\n" not in said
    assert said.startswith("redis.url: ")
    return said


def test_a_redis_that_answers_is_fine(server):
    check_redis(server.url)


def test_nobody_listening_is_said_quickly():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        said = complaint(f"redis://user:hunter2@127.0.0.1:{port}/0")
    assert f"redis://***@127.0.0.1:{port}/0: nobody answers there" in said


def test_a_socket_that_is_not_there_is_said(tmp_path):
    assert "nobody answers there" in complaint(f"unix://{tmp_path}/none.sock")


def test_a_peer_that_never_answers_is_given_up_in_time():
    with peer(None) as url:
        assert "no answer from Redis in time" in complaint(url)


def test_a_web_server_is_not_taken_for_a_redis():
    with peer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as url:
        assert "what answers there is not one" in complaint(url)


def test_a_frozen_redis_is_given_up_in_time(server):
    server.freeze()
    assert "no answer from Redis in time" in complaint(server.url)


@pytest.mark.parametrize(
    "login", ["", "user:hunter2@", ":hunter2@"], ids=["no password", "wrong user", "wrong password"]
)
def test_a_login_that_is_refused_is_named(server, login):
    server.client().execute_command("CONFIG", "SET", "requirepass", "right")
    assert "Redis refuses the password or user name" in complaint(server.url.replace("unix://", f"unix://{login}"))


@pytest.mark.parametrize(
    "options",
    ["protocol=3", "decode_responses=no", "encoding=utf-16", "retry=3&retry_on_timeout=yes", "socket_timeout=0.0001"],
)
def test_options_for_other_clients_do_not_change_how_we_speak(lasting_server, options):
    url = f"{lasting_server.url}?{options}"
    lasting_server.client().flushall()
    lasting_server.client().xadd("cflow:alerts", {"json": '{"kind": "new", "event_id": "x", "emitted_at_s": 1}'})
    assert [alert["kind"] for alert in read_alerts(url)] == ["new"]
    probe_redis(url)


@pytest.mark.parametrize("options", ["socket_timeout=0", "socket_timeout=-1", "socket_connect_timeout=nan"])
def test_a_time_out_that_is_none_is_refused(options):
    assert "expected redis://" in complaint(f"redis://user:hunter2@127.0.0.1:1/0?{options}")


def test_a_redis_that_is_not_there_yet_is_waited_for_and_one_that_refuses_is_not(server, caplog):
    server.kill()
    waiting = threading.Thread(target=wait_for_redis, args=(server.url,), daemon=True)
    waiting.start()
    wait_until(lambda: "nobody answers there" in caplog.text)
    server.start()
    waiting.join(10)
    assert (waiting.is_alive(), caplog.text.count("waiting for it")) == (False, 1)
    with pytest.raises(RedisError, match="refuses the password"):
        wait_for_redis(server.url.replace("unix://", "unix://user:hunter2@"))
    with peer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url, pytest.raises(RedisError, match="is not one"):
        wait_for_redis(url)


def test_a_password_of_any_characters_lets_in_as_it_is_where_it_can_and_percent_encoded_where_it_cannot(server):
    server.client().execute_command("ACL", "SETUSER", "a/b", "on", "+ping", ">57#W/c9?&+=")
    server.client().execute_command("CONFIG", "SET", "requirepass", "50%:p@[ss é")
    encoded = quote("57#W/c9?&+=", safe="")
    check_redis(server.url.replace("unix://", "unix://:50%:p@[ss é@"))
    check_redis(f"{server.url}?password=50%:p@[ss%20é")  # a blank would end what redaction hides
    check_redis(server.url.replace("unix://", f"unix://a%2Fb:{encoded}@"))
    check_redis(f"{server.url}?username=a%2Fb&password={encoded}")


@pytest.mark.parametrize("url", ["http://user:hunter2@host", "hunter2", "", "redis://user:hunter2@host:port/0"])
def test_what_is_no_address_is_named_as_such(url):
    assert "expected" in complaint(url)
