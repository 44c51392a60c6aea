"""Whatever answers in the place of a Redis that works is named in one line, with what to do."""

import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import redis

from pipeline.errors import RedisError
from pipeline.sinks.redis_client import check_redis
from pipeline.sinks.redis_probe import probe_redis
from pipeline.sinks.redis_reader import read_alerts, read_statuses
from pipeline.sinks.run_status import read_run
from tests.sinks.made import Server, alert, score, wait_until
from tests.sinks.receiver import self_made_certificate
from tests.sinks.test_redis_client import peer

LOGIN = "redis://user:hunter2@"


def complaint(do, url: str) -> str:
    with pytest.raises(RedisError) as caught:
        do(url)
    said = str(caught.value)
    assert said.startswith("redis.url: ")
    assert (said.isprintable(), "hunter2" in said) == (True, False)
    return said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "expected a Redis server, but what answers there is not one"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "expected a Redis server, but what answers there is not one"),
        (b"-DENIED Redis is running in protected mode because ... (a page)\r\n", "Redis is in protected mode"),
        (b"-ERR max number of clients reached\r\n", "Redis takes no more clients (maxclients)"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "Redis is still loading its data"),
        (b"-MASTERDOWN Link with MASTER is down\r\n", "it is a replica that has lost its master"),
        (b"-BUSY Redis is busy running a script.\r\n", "a script keeps it busy"),
        (b"-ERR DB index is out of range\r\n", "it has not the database that redis.url names"),
        (b"-ERR SELECT is not allowed in cluster mode\r\n", "a Redis Cluster has database 0 alone"),
        (b"-CLUSTERDOWN The cluster is down\r\n", "the Redis Cluster lacks nodes"),
        (b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n", "Redis 5 or later"),
        (b"-MOVED 3999 somewhere\r\n", "expected a Redis server, but what answers there is not one"),
        (b"-ASK 3999\r\n", "expected a Redis server, but what answers there is not one"),
        (b"-NOREPLICAS Not enough good replicas to write.\r\n", "too few replicas follow it"),
    ],
)
def test_what_a_peer_says_instead_of_letting_us_in_is_named(answer, said):
    with peer(answer) as url:
        assert said in complaint(check_redis, url)


def test_a_peer_that_only_hangs_up_is_asked_about_tls():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        said = complaint(check_redis, f"{LOGIN}127.0.0.1:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)
    assert "does it want TLS (rediss://), or is it no Redis?" in said


def hang_up(listener):
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


@contextmanager
def tls_before(server, folder):
    """The address of a server that speaks TLS before another one, and the certificate that it shows."""
    certificate, key = self_made_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def pump(source, target):
        with suppress(OSError, ValueError):
            while data := source.recv(65_536):
                target.sendall(data)

    def serve():
        with suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                with suppress(OSError):  # ssl.SSLError is one
                    front = context.wrap_socket(accepted, server_side=True)
                    behind = socket.socket(socket.AF_UNIX)
                    behind.connect(server.url.removeprefix("unix://"))
                    held.extend([front, behind])
                    for ends in ((front, behind), (behind, front)):
                        threading.Thread(target=pump, args=ends, daemon=True).start()

    held = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], certificate, key
        listener.shutdown(socket.SHUT_RDWR)
        for end in held:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_tls_is_spoken_and_what_is_wrong_with_it_is_named(lasting_server, tmp_path):
    with tls_before(lasting_server, tmp_path) as (port, certificate, key):
        check_redis(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}")
        probe_redis(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}")
        for url, said in (
            (f"rediss://127.0.0.1:{port}", "its TLS certificate is not trusted: name that of its authority"),
            (f"rediss://localhost:{port}?ssl_ca_certs={certificate}", "its TLS certificate is not trusted"),
            (f"rediss+cluster://127.0.0.1:{port}", "its TLS certificate is not trusted"),
            (f"rediss+sentinel://127.0.0.1:{port}/mymaster", "its TLS certificate is not trusted"),
            (
                f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/none.pem",
                "ssl_ca_certs: expected a file, found none",
            ),
            (f"rediss://127.0.0.1:{port}?ssl_ca_certs={key}", "a FILE behind ssl_ in redis.url is no certificate"),
            (f"redis://127.0.0.1:{port}", "does it want TLS (rediss://)"),
        ):
            assert said in complaint(check_redis, url)


def test_tls_to_a_server_that_speaks_none_is_named():
    with peer(b"-ERR Protocol error: invalid multibulk length\r\n") as url:
        assert "redis:// instead of rediss://?" in complaint(check_redis, url.replace("redis://", "rediss://"))
    with peer(None) as url:  # what Redis does: it waits for the rest of the line
        in_time = lambda address: check_redis(address, timeout_s=0.2)  # noqa: E731
        assert "redis:// instead of rediss://?" in complaint(in_time, url.replace("redis://", "rediss://"))


@pytest.mark.redis
@pytest.mark.server
def test_a_redis_that_knows_no_streams_or_has_renamed_them_is_named(tmp_path, sink_of, caplog):
    server = Server(tmp_path, "--rename-command", "XADD", "", "--rename-command", "XREAD", "")
    server.start()
    try:
        assert "streams need Redis 5 or later with no command renamed" in complaint(probe_redis, server.url)
        assert "unknown command 'XREAD' (cflow:alerts; " in complaint(lambda url: list(read_alerts(url)), server.url)
        sink = sink_of(server.url)
        sink.write([score(0)], [alert(0)])
        wait_until(lambda: "unknown command 'XADD' (XADD cflow:alerts; streams need Redis 5" in caplog.text)
    finally:
        server.remove()


def test_keys_that_somebody_else_uses_are_named(lasting_server):
    client = lasting_server.client()
    client.flushall()
    client.lpush("cflow:run", "mine")
    client.set("cflow:cameras", "mine")
    assert "(GET cflow:run; somebody else's value" in complaint(read_run, lasting_server.url)
    assert "(cflow:cameras; somebody else's value" in complaint(read_statuses, lasting_server.url)


def test_a_script_that_keeps_redis_busy_is_named_and_waited_for(server, sink_of, caplog):
    server.client().config_set("lua-time-limit", 1)
    script = threading.Thread(target=run_for_ever, args=(server,), daemon=True)
    sink = sink_of(server.url)
    sink.write([score(0)], [alert(0)])
    assert sink.flush()
    script.start()
    wait_until(lambda: is_busy(server))
    sink.write([score(1)], [alert(1)])
    wait_until(lambda: "a script keeps it busy" in caplog.text)
    redis.Redis.from_url(server.url).script_kill()
    assert sink.flush()
    assert [entry["peak_index"] for entry in read_alerts(server.url)] == [0, 1]
    script.join(10)


def run_for_ever(server):
    with suppress(redis.RedisError):
        redis.Redis.from_url(server.url).eval("while true do end", 0)


def is_busy(server) -> bool:
    try:
        server.client().ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    except redis.RedisError:
        time.sleep(0.01)
    return False
