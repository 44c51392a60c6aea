"""Who can reach a running stream: its ports from other addresses and without its token, its files as another user."""

import errno
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import psutil
import pytest
import yaml

from tests.faults.live import QUICK
from tests.faults.test_signals import COMMAND, is_running, terminate, until
from tests.models_for_tests import TINY
from tests.rtsp import RtspServer, require_rtsp, write_footage

pytestmark = pytest.mark.ray

# A method of each server that a process of Ray may have; asked with an empty message, none of them changes anything.
HARMLESS = (
    "/ray.rpc.InternalKVGcsService/InternalKVKeys",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
)
# Those that would run code, or take a run down.
FORBIDDEN = (
    "/ray.rpc.InternalKVGcsService/InternalKVPut",
    "/ray.rpc.JobInfoGcsService/AddJob",
    "/ray.rpc.ActorInfoGcsService/RegisterActor",
    "/ray.rpc.NodeManagerService/RequestWorkerLease",
    "/ray.rpc.NodeManagerService/ShutdownRaylet",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.CoreWorkerService/KillActor",
    "/ray.rpc.CoreWorkerService/Exit",
)
REACH = """
import socket, sys
for port in sys.argv[2:]:
    with socket.socket() as client:
        client.settimeout(2.0)
        print(client.connect_ex((sys.argv[1], int(port))))
"""
JOIN = "import sys, ray; ray.init(address=sys.argv[1]); print('joined', len(ray.nodes()))"


class Stream:
    """The command in a temporary folder of its own, beside its embedded Redis."""

    def __init__(self, folder: Path, model: Path, url: str) -> None:
        self.temporary = Path("/tmp") / secrets.token_hex(2)  # short, since sockets are made in it
        self.temporary.mkdir()
        self.own = self.temporary / f"cflow-stream-{os.getuid()}"
        self.run, self.state = folder / "run", folder / "state"
        self.model, self._url = model, url
        self._config, self._log = folder / "cameras.yaml", folder / "stderr.txt"
        self.write_config(self._config, self.run)

    def write_config(self, path: Path, output: Path) -> None:
        """A config of its camera."""
        listed = [{"id": "gate", "url": self._url, "scene": "plaza"}]
        sections = {"camera_defaults": QUICK, "output": {"folder": str(output)}, "cameras": listed}
        path.write_text(yaml.safe_dump({**TINY, **sections}))

    def start(self) -> None:
        """Start it as its user would, and wait until all its actors are there and an alert has come."""
        words = ["stream", "--config", str(self._config), "--model", str(self.model)]
        environment = {**os.environ, "TMPDIR": str(self.temporary), "XDG_STATE_HOME": str(self.state)}
        with self._log.open("w") as log:
            self.command = subprocess.Popen([*COMMAND, *words], stdout=log, stderr=log, env=environment, umask=0o022)
        until(
            lambda: all(said in self._log.read_text() for said in ("model: ", "dismiss gate-")), "the camera is scored"
        )

    def processes(self) -> list[psutil.Process]:
        """The command and all that it started."""
        command = psutil.Process(self.command.pid)
        return [command, *command.children(recursive=True)]

    def listeners(self) -> dict[int, str]:
        """Addresses by port, of all processes, TCP and UDP."""
        sockets = [found for process in self.processes() for found in process.net_connections("inet")]
        return {found.laddr.port: found.laddr.ip for found in sockets if not found.raddr}

    def token(self) -> str:
        """What only the run's own user can read."""
        return next(process for process in self.processes() if process.name() == "raylet").environ()["RAY_AUTH_TOKEN"]

    def gcs(self) -> str:
        """The address at which drivers join."""
        return next(self.own.glob("ray-*/session_latest/gcs_server_port_*")).read_text()


@pytest.fixture(scope="module")
def stream(trained, tmp_path_factory):
    require_rtsp()
    folder = tmp_path_factory.mktemp("reach")
    with RtspServer({"gate": write_footage(folder / "a.mp4")}) as server:
        started = Stream(folder, trained.folder, server.url("gate"))
        try:
            started.start()
            yield started
        finally:
            started.command.kill()
            shutil.rmtree(started.temporary, ignore_errors=True)


@contextmanager
def other_machine():
    """A network of its own with a cable to this one: this machine's address in it, and how to run a command there."""
    name = f"cflow{secrets.token_hex(3)}"
    inside = ["ip", "netns", "exec", name]
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name],
        ["ip", "address", "add", "198.18.77.1/30", "dev", f"{name}a"],
        ["ip", "link", "set", f"{name}a", "up"],
        [*inside, "ip", "address", "add", "198.18.77.2/30", "dev", f"{name}b"],
        [*inside, "ip", "link", "set", f"{name}b", "up"],
    ]
    try:
        for step in steps:
            try:
                subprocess.run(step, check=True, capture_output=True, text=True)
            except FileNotFoundError:
                pytest.skip("`ip` (iproute2) is not installed")
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"this machine lets nobody make a network: {getattr(error, 'stderr', error)}")
        yield "198.18.77.1", inside
    finally:
        with suppress(FileNotFoundError):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def ask(port: int, method: str, token: str | None) -> tuple[str, float]:
    """Call a method with an empty message; the code of the answer, and the seconds until it came."""
    shown = () if token is None else (("authorization", f"Bearer {token}"),)
    asked_at = time.monotonic()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(method, bytes, bytes)
        try:
            call(b"", metadata=shown, timeout=10.0)
        except grpc.RpcError as error:
            return error.code().name, time.monotonic() - asked_at
    return "OK", time.monotonic() - asked_at


def test_every_process_of_a_stream_listens_on_loopback_only(stream):
    listeners = stream.listeners()
    assert len(listeners) >= 7, "the command, gcs, raylet (two) and an actor of each kind"
    assert {address.removeprefix("::ffff:") for address in listeners.values()} == {"127.0.0.1"}


def test_nobody_reaches_a_stream_from_another_address(stream):
    with other_machine() as (address, inside), socket.create_server(("", 0)) as open_to_all:
        ports = [str(open_to_all.getsockname()[1]), *map(str, stream.listeners())]
        for where in (inside, []):  # also not this machine by the address that others see
            probe = [*where, sys.executable, "-I", "-S", "-c", REACH, address, *ports]
            reached = subprocess.run(probe, capture_output=True, text=True, check=True, timeout=60.0).stdout.split()
            assert reached[0] == "0", "what listens on all addresses is reached, or nothing is tested"
            assert set(reached[1:]) == {str(errno.ECONNREFUSED)}


def test_no_port_of_a_stream_answers_without_its_token(stream):
    token = stream.token()
    for port in stream.listeners():
        for shown in (None, secrets.token_hex(32), token[:-1], f"{token}0"):
            answers = [ask(port, method, shown) for method in HARMLESS + FORBIDDEN]
            assert {code for code, _ in answers} == {"UNAUTHENTICATED", "UNIMPLEMENTED"}
            assert max(took_s for _, took_s in answers) < 9.0
        assert "OK" in {ask(port, method, token)[0] for method in HARMLESS}, "or it was another server that refused"


def test_drivers_join_a_stream_only_with_its_token(stream, tmp_path):
    shown = {
        "nothing": {"RAY_AUTH_MODE": "disabled"},
        "another token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)},
        "its token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": stream.token()},
    }
    common = {**os.environ, "HOME": str(tmp_path), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    command = [sys.executable, "-c", JOIN, f"127.0.0.1:{stream.gcs()}"]
    joining = {
        name: subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=common | settings
        )
        for name, settings in shown.items()
    }
    answers = {name: process.communicate(timeout=90.0) for name, process in joining.items()}
    assert {name for name, (said, _) in answers.items() if "joined 1" in said} == {"its token"}
    assert all("InvalidAuthToken" in answers[name][1] for name in ("nothing", "another token"))


def test_a_command_that_joins_without_the_clusters_token_is_told_so_in_one_line(stream, tmp_path):
    config, address = tmp_path / "c.yaml", f"127.0.0.1:{stream.gcs()}"
    stream.write_config(config, tmp_path / "run")
    words = ["stream", "--config", str(config), "--model", str(stream.model), "--address", address]
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, check=False, timeout=90.0, env=environment
    )
    assert done.returncode == 2
    *_, line = done.stderr.splitlines()
    assert done.stderr.splitlines() in ([line], ["starting actors: 0", line])
    assert line.startswith(f"error: --address {address}: the Ray cluster asks for a token: expected its own in ")


def test_the_token_is_on_no_command_line_and_in_no_file(stream):
    token = stream.token()
    assert len(token) == 64
    assert not any(token in word for process in stream.processes() for word in process.cmdline())
    files = [path for folder in (stream.temporary, stream.run, stream.state) for path in folder.rglob("*")]
    assert len(files) > 20
    assert not [path for path in files if path.is_file() and token.encode() in path.read_bytes()]


def test_what_a_stream_writes_is_its_users_alone(stream):
    stream_files = [path for folder in (stream.run, stream.state) for path in (folder, *folder.rglob("*"))]
    names = {path.name for path in stream_files}
    assert {"run.sqlite", "run.json", "run.lock", "control.json", "redis.log", "scores"} <= names
    assert [path for path in stream_files if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []
    for path in stream.temporary.iterdir():  # what lies in them nobody else can come to
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_nothing_is_left_of_a_stream_and_of_one_that_was_killed_once_another_starts(stream):
    everyone = stream.processes()
    stream.command.kill()
    stream.command.wait()
    until(lambda: not any(is_running(process) for process in everyone), "no process is left", 30.0)
    killed = {path for path in stream.own.iterdir() if path.is_dir()}
    assert {path.name.split("-")[0] for path in killed} == {"ray", "run"}
    around = set(stream.temporary.iterdir())
    stream.start()
    assert not [path for path in killed if path.exists()]
    everyone = stream.processes()
    terminate(stream.command)
    assert stream.command.wait(30.0) == 0
    until(lambda: not any(is_running(process) for process in everyone), "no process is left", 30.0)
    assert list(stream.own.iterdir()) == []
    assert set(stream.temporary.iterdir()) <= around
    parquet = list((stream.run / "scores").rglob("*.parquet"))
    assert parquet
    assert [path for path in (stream.run, *stream.run.rglob("*")) if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
