"""Who answers where a cluster should be; its head is Ray's own control store, without the rest of a cluster."""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray

from actors import ray_head
from actors.ray_head import authentication_mode, head_address
from pipeline.errors import BadInputError
from tests.sinks.made import wait_until

ROOT = Path(__file__).parents[2]
FORM = "expected HOST:PORT of a running Ray cluster's head, or auto, got"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", f"{FORM} neither"),
        ("10.0.0.5", f"{FORM} neither"),
        ("10.0.0.5:", f"{FORM} neither"),
        ("10.0.0.5:ray", f"{FORM} neither"),
        ("10.0.0.5:65536", f"{FORM} neither"),
        ("viewer:hunter2@10.0.0.5:6379", f"{FORM} neither"),
        ("local", f"{FORM} local; without --address, a Ray is started on this machine"),
        ("http://viewer:hunter2@10.0.0.5:8265", f"{FORM} http://"),
        ("ray://10.0.0.5:10001", f"{FORM} ray://, Ray Client's; start this command on one of the cluster's nodes"),
    ],
)
def test_what_is_no_address_of_a_head_is_refused_by_what_it_is(monkeypatch, address, said):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(BadInputError) as caught:
        head_address(address)
    assert str(caught.value) == said
    monkeypatch.setenv("RAY_ADDRESS", address or "10.0.0.5")
    with pytest.raises(BadInputError) as caught:
        head_address("auto")
    assert str(caught.value) == f"RAY_ADDRESS: {said}"


@pytest.mark.parametrize(
    ("address", "head"),
    [("10.0.0.5:6379", "10.0.0.5:6379"), ("[fd00::5]:6379", "[fd00::5]:6379"), ("gpu-1:1", "gpu-1:1")],
)
def test_an_address_is_that_of_a_head(monkeypatch, address, head):
    assert head_address(address) == head
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert head_address("auto") == head


def refused(head):
    with pytest.raises(BadInputError) as caught:
        authentication_mode(head)
    return str(caught.value)


def test_nobody_at_the_address_is_said_at_once(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        head = f"127.0.0.1:{taken.getsockname()[1]}"
    nobody = f"expected a running Ray cluster, got nobody who listens at {head}: Connection refused"
    assert refused(head) == nobody
    assert "got nobody who listens at no-such-host.invalid:6379: " in refused("no-such-host.invalid:6379")
    monkeypatch.setenv("RAY_USE_TLS", "1")
    assert refused(head) == nobody


def test_a_server_that_is_no_head_is_not_waited_for(monkeypatch):
    expected = "expected a running Ray cluster, got"
    web = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    with web:
        head = f"127.0.0.1:{web.server_port}"
        said = refused(head)
        web.shutdown()
    assert said.startswith(f"{expected} something else that listens at {head} ")
    assert "RAY_USE_TLS" in said  # a cluster that speaks TLS does not answer either
    monkeypatch.setattr(ray_head, "_WITHIN_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        head = f"127.0.0.1:{silent.getsockname()[1]}"
        assert refused(head) == f"{expected} no answer within 0.3 s from who listens at {head}"


@contextmanager
def control_store(folder, **environment):
    """Ray's own, and its address."""
    folder.mkdir()
    program = Path(ray.__file__).parent / "core/src/ray/gcs/gcs_server"
    options = {
        **{"gcs_server_port": 0, "log_dir": folder, "node-ip-address": "127.0.0.1", "session-name": "s"},
        **{"session-dir": folder, "config_list": "e30=", "ray-commit": "c"},
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen([program, *words], stdout=log, stderr=log, env={**os.environ, **environment})
    try:
        wait_until(lambda: any(path.read_text() for path in folder.glob("gcs_server_port_*")), 60.0)
        yield f"127.0.0.1:{next(folder.glob('gcs_server_port_*')).read_text()}"
    finally:
        server.kill()
        server.wait()


ASKED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from actors.ray_head import authentication_mode
from actors.ray_settings import authentication_reader, environment
from pipeline.errors import BadInputError

for head, settings in json.loads(sys.argv[2]):
    with environment(settings):
        authentication_reader()()
        try:
            print(json.dumps(authentication_mode(head)))
        except BadInputError as error:
            print(json.dumps(str(error)))
"""


@pytest.mark.ray
def test_a_cluster_is_joined_with_its_token_or_what_is_wrong_with_the_token_is_said_at_once(tmp_path):
    token, home, nowhere = secrets.token_hex(32), tmp_path / "home", tmp_path / "nowhere"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").write_text(f"{token}\n")
    (tmp_path / "empty").touch()
    asks = "the Ray cluster asks for a token"
    where = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
    none, another = f"{asks}: expected it in {where}, found none", f"{asks}: expected its own in {where}, got another"
    unreadable = (
        f"{asks}: expected it in {where}, got: RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty: "
    )
    with (
        control_store(tmp_path / "closed", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token) as closed,
        control_store(tmp_path / "open", RAY_AUTH_MODE="disabled") as open_to_all,
    ):
        cases = [
            (closed, {"RAY_AUTH_TOKEN": token}, "token"),
            (closed, {"HOME": str(home)}, "token"),
            (closed, {"HOME": str(home), "RAY_AUTH_MODE": "token"}, "token"),
            (closed, {"RAY_AUTH_TOKEN_PATH": str(home / ".ray/auth_token")}, "token"),
            (closed, {}, none),
            (closed, {"RAY_AUTH_MODE": "token"}, none),
            (closed, {"RAY_AUTH_TOKEN": " "}, none),
            (closed, {"RAY_AUTH_TOKEN_PATH": str(nowhere)}, f"{unreadable}{nowhere}."),
            (closed, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "empty")}, f"{unreadable}{tmp_path / 'empty'}."),
            (closed, {"RAY_AUTH_TOKEN": token[:-1]}, another),
            (closed, {"RAY_AUTH_TOKEN": f"{token[:9]}\n{token[9:]}"}, another),
            (closed, {"RAY_AUTH_TOKEN": "schl\u00fcssel"}, another),
            (
                closed,
                {"HOME": str(home), "RAY_AUTH_MODE": "disabled"},
                f"{asks}, which RAY_AUTH_MODE=disabled shows to nobody",
            ),
            (open_to_all, {}, "disabled"),
            (open_to_all, {"HOME": str(home)}, "disabled"),
            (open_to_all, {"RAY_AUTH_MODE": "disabled"}, "disabled"),
            (
                open_to_all,
                {"HOME": str(home), "RAY_AUTH_MODE": "token"},
                "expected a Ray cluster that asks for a token (RAY_AUTH_MODE=token), got one that asks for none",
            ),
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
        asked = json.dumps([(head, settings) for head, settings, _ in cases])
        done = subprocess.run(
            [sys.executable, "-c", ASKED, str(ROOT), asked],
            capture_output=True,
            text=True,
            check=False,
            timeout=120.0,
            env={**environment, "HOME": str(nowhere)},
        )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [said for *_, said in cases]
    assert done.stderr == ""  # Ray writes what it thinks of it to the terminal, past Python
