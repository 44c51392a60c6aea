import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redis

from pipeline.checks.machine import check_metrics, check_output, check_ports, check_redis, check_sinks, check_temporary
from pipeline.config_file import parse_config
from pipeline.sinks.run_lock import run_lock
from pipeline.sinks.run_status import RunStatusWriter
from tests.faults.conftest import SmallDisk, disk  # noqa: F401
from tests.sinks.made import wait_until
from tests.sinks.receiver import SECRET, Receiver

ROOT = Path(__file__).parents[2]
PASSWORD = "hunter2secret"


@pytest.fixture
def client(lasting_server):
    client = redis.Redis.from_url(lasting_server.url, decode_responses=True)
    client.flushall()
    yield client
    client.config_set("maxmemory", 0)
    client.close()


def of_redis(url):
    return check_redis(parse_config({"redis": {"url": url}}))


def test_a_redis_that_takes_a_write_is_ok_and_nothing_is_left_there(lasting_server, client):
    found = of_redis(lasting_server.url)
    assert found.state == "ok", found
    assert "takes a write, answers within" in found.detail
    assert client.keys() == []


def test_a_redis_that_may_only_be_read_fails_though_it_answers(lasting_server, client):
    client.execute_command("ACL", "SETUSER", "reader", "on", f">{PASSWORD}", "~cflow:*", "+@read", "+ping")
    found = of_redis(f"{lasting_server.url.replace('unix://', f'unix://reader:{PASSWORD}@')}")
    assert found.state == "failed"
    assert "permission" in found.detail.lower()
    assert PASSWORD not in found.detail
    assert (
        of_redis(f"{lasting_server.url.replace('unix://', 'unix://reader:not@')}").detail.count("refuses the password")
        == 1
    )


A_RUN_SENDS = re.search(r"A run sends (.*?);", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL).group(1)
COMMANDS = [command.lower() for command in re.findall(r"`([A-Z]+)`", A_RUN_SENDS)]


def as_user_who_may(lasting_server, client, commands):
    may = ["resetkeys", "nocommands", "~cflow:*", *(f"+{command}" for command in commands)]
    client.execute_command("ACL", "SETUSER", "run", "on", f">{PASSWORD}", *may)
    return of_redis(lasting_server.url.replace("unix://", f"unix://run:{PASSWORD}@"))


def test_a_user_who_may_do_what_a_run_does_is_enough(lasting_server, client):
    found = as_user_who_may(lasting_server, client, COMMANDS)
    assert found.state == "ok", found


@pytest.mark.parametrize("missing", COMMANDS)
def test_a_user_who_may_not_do_all_that_a_run_does_fails(lasting_server, client, missing):
    found = as_user_who_may(lasting_server, client, [command for command in COMMANDS if command != missing])
    assert found.state == "failed"
    assert missing in found.detail.lower()
    assert client.keys() == []


def test_a_redis_in_which_another_run_lives_is_a_warning(lasting_server, client):
    with RunStatusWriter(lasting_server.url, "run-1"):
        wait_until(lambda: client.exists("cflow:alive"))
        found = of_redis(lasting_server.url)
    assert (found.state, "expected no other run in this Redis, but 'run-1'" in found.detail) == ("warning", True)


def test_a_full_redis_and_one_with_another_thing_under_our_key_fail(lasting_server, client):
    client.config_set("maxmemory", 1)
    assert of_redis(lasting_server.url).state == "failed"
    client.config_set("maxmemory", 0)
    client.set("cflow:alerts", "mine")
    found = of_redis(lasting_server.url)
    assert (found.state, "WRONGTYPE" in found.detail) == ("failed", True)


def test_nobody_there_fails_in_one_line():
    found = of_redis(f"redis://:{PASSWORD}@127.0.0.1:1/0")
    assert found.state == "failed"
    assert "nobody answers there" in found.detail
    assert PASSWORD not in found.detail


def test_an_embedded_redis_is_a_server_that_runs(tmp_path, monkeypatch):
    found = of_redis("embedded")
    assert found.state == "ok"
    assert found.detail.startswith("embedded: Redis server v=")
    (tmp_path / "redis-server").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert of_redis("embedded").state == "failed"


def of_output(folder):
    return check_output(parse_config({"output": {"folder": str(folder)}}))


def test_an_output_folder_is_written_to_where_it_would_be_made_and_nothing_is_left(tmp_path):
    room, runs = of_output(tmp_path / "a" / "b")
    assert (room.state, runs.state) in {("ok", "ok"), ("warning", "ok")}
    assert "GiB free" in room.detail
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_one_fails(tmp_path):
    (tmp_path / "file").write_text("in the way")
    room, _ = of_output(tmp_path / "file" / "run")
    assert room.state == "failed"
    assert "expected a folder that can be written, got: Not a directory" in room.detail


def test_an_output_folder_whose_name_no_file_system_takes_fails_in_one_line(tmp_path):
    room, _ = of_output(tmp_path / ("x" * 300) / "run")
    assert room.state == "failed"
    assert room.detail.endswith("expected a folder that can be written, got: File name too long")


def test_a_small_disk_is_a_warning_and_a_full_or_read_only_one_fails(disk):  # noqa: F811
    assert of_output(disk.folder / "run")[0].state == "warning"
    disk.fill()
    assert "No space left" in of_output(disk.folder / "run")[0].detail
    disk.free()
    disk.remount("ro")
    assert of_output(disk.folder / "run")[0].state == "failed"


def test_a_run_under_way_fails_and_is_named_since_a_second_one_would_be_refused(tmp_path):
    with run_lock(tmp_path):
        _, runs = of_output(tmp_path)
    assert runs.state == "failed"
    assert f"(process {os.getpid()})" in runs.detail


def test_a_temporary_folder_that_is_none_fails(tmp_path, monkeypatch):
    assert check_temporary().state in {"ok", "warning"}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none" / "file"))
    (tmp_path / "none").write_text("in the way")
    assert check_temporary().state == "failed"


def test_ports_can_be_had_and_not_where_a_process_may_open_next_to_nothing():
    assert check_ports().state == "ok"
    code = (
        "import resource; from pipeline.checks.machine import check_ports\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)); print(check_ports())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "expected 32 free ports on 127.0.0.1, got: Too many open files" in done.stdout


def test_a_sink_that_answers_is_ok_one_that_does_not_fails_and_neither_gets_an_alert_nor_shows_a_secret():
    receiver = Receiver().start()
    sinks = [{"kind": "webhook", "url": receiver.url, "secret": SECRET, "name": name} for name in ("pager", "gone")]
    sinks[1]["url"] = "http://127.0.0.1:1/hook?token=hunter2"
    found, failed = check_sinks(parse_config({"sinks": sinks}))
    receiver.stop()
    assert (found.what, found.state) == ("sink pager", "ok")
    assert found.detail == f"http://127.0.0.1:{receiver.port}: answers HEAD with 405"
    assert (failed.what, failed.state) == ("sink gone", "failed")
    assert failed.detail.startswith("http://127.0.0.1:1: nobody answers there")
    assert "hunter2" not in failed.detail
    assert receiver.methods == ["HEAD"]


def test_an_address_for_metrics_is_looked_at_where_one_is_set():
    assert check_metrics(parse_config({})) == []
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        (failed,) = check_metrics(parse_config({"metrics": {"port": port}}))
    (found,) = check_metrics(parse_config({"metrics": {"port": port}}))
    assert (failed.state, found.state) == ("failed", "ok")
    assert f"metrics: 127.0.0.1, port {port}: expected a free port" in failed.detail
    assert found.detail == f"http://127.0.0.1:{port}/metrics can be served"
