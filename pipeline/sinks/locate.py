"""Where a run's Redis can be read: by the run's config, or by what the newest run left behind.

A run writes ``run.json`` into its state folder and the folder's path into a pointer file of the user
(``$XDG_STATE_HOME/cflow-stream/latest``). The record never holds an address with credentials: of an external Redis it
keeps the config's path, where the address is read again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import BadInputError, FolderInUseError, RedisError
from pipeline.files import write_whole
from pipeline.private_folder import user_folder
from pipeline.run_folder import RunFolder
from pipeline.sinks.embedded_redis import EmbeddedRedis
from pipeline.sinks.redis_client import check_redis, wait_for_redis

_log = logging.getLogger(__name__)

_BACK_WITHIN_S = 10.0  # an embedded server that ended is started again at once, and every five seconds at the latest
_PAUSE_S = 0.05
_LOOK_EVERY_S = 0.2


@contextmanager
def run_redis(config: Config, config_file: Path, state_folder: Path) -> Generator[str, None, None]:
    """The Redis of a run: the config's, checked, or an embedded one that lives as long as the block.

    Args:
        config: the run's settings.
        config_file: where they were read from.
        state_folder: where the run's record and an embedded server's data go.

    Yields:
        The server's address.

    Raises:
        RedisError: nobody answers there, the password is wrong, or there is no server to embed.
    """
    state_folder.mkdir(parents=True, exist_ok=True)
    if not config.redis.is_embedded:
        url = config.redis.url.get_secret_value()
        check_redis(url)
        _write_record(state_folder, {"redis": "external", "config": str(config_file.resolve())})
        yield url
        return
    with EmbeddedRedis(RunFolder(state_folder).redis) as url:
        _write_record(state_folder, {"redis": "embedded", "url": url})
        yield url


@contextmanager
def readable_redis(config_file: Path | None, *, waits: bool = False) -> Generator[str, None, None]:
    """The Redis that a reader should ask.

    An embedded server that is being started again is waited for. Once it has ended with its run, the data it left is
    served again while the block lasts, except while a new run uses the folder. Of several readers one serves; when it
    leaves, another one takes over within a fraction of a second, in which nobody answers.

    Args:
        config_file: the run's config; None reads the newest run of this user.
        waits: wait for the config's Redis, as long as it takes, where nobody answers yet.

    Raises:
        BadInputError: there was no run yet.
        RedisError: nobody answers, or lets nobody in.
    """
    if config_file is None:
        state_folder = _latest_state_folder()
        record = _read_record(state_folder)
    else:
        config = load_config(config_file, only={"redis", "output"})
        state_folder = config.output.folder
        record = {"redis": "external", "config": str(config_file)}
        if config.redis.is_embedded:
            record = _read_record(state_folder)
    if record["redis"] == "external":
        url = load_config(Path(record["config"]), only={"redis"}).redis.url.get_secret_value()
        with known_redis(url, waits=waits):
            yield url
    else:
        with _embedded_redis(RunFolder(state_folder).redis, record["url"]) as url:
            yield url


@contextmanager
def known_redis(url: str, *, waits: bool = False) -> Generator[str, None, None]:
    """A Redis that a reader should ask, which somebody else runs.

    Args:
        url: its address.
        waits: wait for it, as long as it takes, where nobody answers yet.

    Raises:
        RedisError: nobody answers, or lets nobody in.
    """
    (wait_for_redis if waits else check_redis)(url)
    yield url


@contextmanager
def _embedded_redis(folder: Path, url: str) -> Generator[str, None, None]:
    """The server of a run, or one that serves what it left.

    Raises:
        RedisError: the run goes on, or another reader does, but its server does not answer.
    """
    deadline = time.monotonic() + _BACK_WITHIN_S
    own = EmbeddedRedis(folder, preemptible=True)
    leaving = threading.Event()
    successor = threading.Thread(target=_take_over, args=(own, leaving), name="late-reader", daemon=True)
    try:
        while (trouble := _trouble(url)) is not None:
            try:
                url = own.start()
                break
            except FolderInUseError:
                if time.monotonic() > deadline:
                    raise trouble from None
                time.sleep(_PAUSE_S)
        successor.start()
        yield url
    finally:
        leaving.set()
        if successor.is_alive():
            successor.join()
        own.stop()


def _take_over(own: EmbeddedRedis, leaving: threading.Event) -> None:
    """Serve what a run left whenever neither a run nor another reader has the folder."""
    while not leaving.wait(_LOOK_EVERY_S):
        if own.pid is not None:
            continue
        own.stop()  # it was preempted by a run
        try:
            own.start()
        except FolderInUseError:
            continue
        except RedisError as error:
            _log.warning("what the run left can no longer be read: %s", error)
            return


def state_folder(config_file: Path | None) -> Path:
    """The folder in which a run keeps its state.

    Args:
        config_file: the run's config; None means the newest run of this user.

    Raises:
        BadInputError: there was no run yet.
    """
    return _latest_state_folder() if config_file is None else load_config(config_file, only={"output"}).output.folder


def _trouble(url: str) -> RedisError | None:
    """Why a server does not answer; None when it does."""
    try:
        check_redis(url)
    except RedisError as error:
        return error
    return None


def _pointer() -> Path:
    """The file that leads to the newest run.

    Raises:
        OSError: this user has no home.
    """
    return user_folder("XDG_STATE_HOME", ".local/state") / "cflow-stream" / "latest"


def _write_record(state_folder: Path, record: dict[str, str]) -> None:
    write_whole(RunFolder(state_folder).record_file, json.dumps(record) + "\n")
    try:
        pointer = _pointer()
        pointer.parent.mkdir(parents=True, exist_ok=True)
        write_whole(pointer, f"{state_folder.resolve()}\n")
    except OSError as error:  # a home that cannot be written: `--config` still finds the run
        _log.warning("alerts and status will need --config: %s", error)


def _latest_state_folder() -> Path:
    why = ""
    try:
        pointer = _pointer()
    except OSError as error:
        why = f" ({error.strerror})"
    else:
        with contextlib.suppress(OSError):
            return Path(pointer.read_text(encoding="utf-8").strip())
    raise BadInputError(f"expected a run of this user to read from, found none{why}; name one with --config")


def _read_record(state_folder: Path) -> dict[str, str]:
    path = RunFolder(state_folder).record_file
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        raise BadInputError(f"{state_folder}: expected the folder of a run (with {path.name}), found none") from None
