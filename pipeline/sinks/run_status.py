"""How a run and its cameras stand, in Redis, and that it lives: written by the run's own command, once per second.

A run that is killed cannot say so. What it leaves is a key that nobody renews: ``cflow:alive`` expires within seconds,
which any client can watch, and ``cflow:run`` says when the run gave its last sign of life.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self, cast

import redis
from redis.client import Pipeline

from pipeline.errors import CflowError, RedisError, StoppedError
from pipeline.redaction import redact
from pipeline.sinks.redis_reader import parse_object
from pipeline.sinks.redis_servers import RedisServers, Step
from pipeline.sinks.redis_trouble import explain
from pipeline.sinks.schema import ALIVE_FOR_S, ALIVE_KEY, CAMERAS_KEY, RUN_KEY, VERSION

_log = logging.getLogger(__name__)

RunPhase = Literal["starting", "running", "ending", "ended", "failed"]
Totals = Mapping[str, Any]
Cameras = Mapping[str, Mapping[str, Any]]
ENDED_PHASES: frozenset[str] = frozenset({"ended", "failed"})

_RENEW_EVERY_S = 1.0
_FINAL_WRITE_S = 1.0  # a Redis that hangs when the run ends


class RunStatusWriter:
    """Writes ``cflow:run``, ``cflow:alive`` and ``cflow:cameras``; a context manager that writes how the run ended.

    A thread writes the newest status again and again, so that the run's sign of life depends on nobody but the process
    itself. Redis may go and come: nothing waits for it. A run begins without cameras: those in Redis are of the one
    before it.

    Args:
        url: the server's address.
        run: name of the run.
        totals: as ``write`` takes them, until it is called.
        started_at_s: Unix time at which a process before this one began the run; nothing is written then until
            ``write`` is called, for what that one wrote still holds. None where the run begins.

    Raises:
        RedisError: the address is not one.
    """

    def __init__(
        self, url: str, run: str, totals: Totals = MappingProxyType({}), started_at_s: float | None = None
    ) -> None:
        self._servers = RedisServers(url, retries=0)
        self._redacted_url = redact(url)
        self._last_error: str | None = None
        self._fixed = {
            "version": VERSION,
            "run": run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at_s": time.time() if started_at_s is None else started_at_s,
        }
        self._silent = started_at_s is not None
        self._newest: tuple[RunPhase, Totals, Cameras, str] = ("starting", totals, {}, "")
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._renew, name="run-status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state, totals, cameras, _ = self._newest
        if state not in ENDED_PHASES:
            state, reason = how_it_ended(error)
            self.write(state, totals, cameras, reason)
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(2 * _FINAL_WRITE_S)
        self._servers.close()
        if self._last_error is not None:
            _log.warning("Redis %s: how the run ended was not written: %s", self._redacted_url, self._last_error)

    @property
    def trouble(self) -> str | None:
        """Why Redis refuses the status, in one line without credentials; None when all is well, or nobody answers.

        That nobody answers, the scorer says. What it writes may be allowed where a status is not, and the other way.
        """
        if self._last_error is None:
            return None
        return f"Redis {self._redacted_url}: how the run stands is not written, and it looks dead: {self._last_error}"

    def write(self, state: RunPhase, totals: Totals, cameras: Cameras, reason: str = "") -> None:
        """Take the newest status; it is written within a second, or at once where it is the last.

        Args:
            state: of the run.
            totals: what is said of the run as a whole, serialisable as JSON.
            cameras: camera id to its status, likewise.
            reason: why it ended so, in one line without credentials.
        """
        with self._changed:
            self._newest = state, totals, cameras, reason
            self._silent = False
            if state in ENDED_PHASES:
                self._changed.notify_all()

    def _renew(self) -> None:
        over = False
        while not over:
            with self._changed:
                over, newest = self._over, self._newest
            if not self._silent:
                self._last_error = self._try_to_send(newest)
            with self._changed:
                if not over:
                    self._changed.wait_for(lambda sent=newest: self._over or self._ends_after(sent), _RENEW_EVERY_S)

    def _ends_after(self, sent: tuple[RunPhase, Totals, Cameras, str]) -> bool:
        """Whether there is a last status, and it is not the one that was sent."""
        return self._newest is not sent and self._newest[0] in ENDED_PHASES

    def _try_to_send(self, status: tuple[RunPhase, Totals, Cameras, str]) -> str | None:
        """Why Redis refuses it; None where it does not."""
        try:
            self._send(*status)
        except redis.ResponseError as error:
            return str(explain(error))
        except (redis.RedisError, OSError):
            return None
        return None

    def _send(self, state: RunPhase, totals: Totals, cameras: Cameras, reason: str) -> None:
        run = {**self._fixed, "state": state, "updated_at_s": time.time(), "reason": reason, **totals}
        texts = {camera_id: json.dumps(camera) for camera_id, camera in cameras.items()}

        def put_cameras(pipe: Pipeline) -> None:
            pipe.delete(CAMERAS_KEY)
            if texts:
                pipe.hset(CAMERAS_KEY, mapping=cast("dict[Any, Any]", texts))  # redis-py's dict type is invariant

        told: Step = (RUN_KEY, lambda pipe: pipe.set(RUN_KEY, json.dumps(run)))
        lives: Step = (ALIVE_KEY, lambda pipe: pipe.set(ALIVE_KEY, str(self._fixed["run"]), ex=ALIVE_FOR_S))
        ended: Step = (ALIVE_KEY, lambda pipe: pipe.delete(ALIVE_KEY))
        # In a Cluster each step may be seen before the next one: a run that is told of lives, or has been said to end.
        sign = [told, ended] if state in ENDED_PHASES else [lives, told]
        self._servers.transact([*sign, (CAMERAS_KEY, put_cameras)])


def how_it_ended(error: BaseException | None) -> tuple[RunPhase, str]:
    """How a run ended whose work was left with an error, and why, in one line without credentials.

    Args:
        error: what it was left with; None where it was done.
    """
    if error is None:
        return "ended", ""
    if isinstance(error, KeyboardInterrupt):
        return "failed", "it was interrupted"
    said = redact(" ".join(str(error).split()))
    if isinstance(error, CflowError):
        return ("ended" if isinstance(error, StoppedError) else "failed"), said
    return "failed", ": ".join(filter(None, (type(error).__name__, said)))


def read_run(url: str) -> dict[str, Any] | None:
    """How the newest run stands, with the fields of ``docs/alerts.md`` and two more; None where there was none.

    ``is_alive`` says whether it gave a sign of life within the last seconds, and ``silent_s`` how many seconds ago the
    last one was, by Redis's own clock while it lives and by this machine's afterwards.

    Args:
        url: the server's address.

    Raises:
        RedisError: Redis does not answer or refuses, or the entry is not ours.
    """
    servers = RedisServers(url, timeout_s=2.0, retries=0)
    try:
        left_ms, run = _read_run(url, servers)
        # A Cluster has no transaction over both keys: one that began in between is only seen to live the second time.
        if servers.is_cluster and left_ms <= 0 and run is not None and run["state"] not in ENDED_PHASES:
            left_ms, run = _read_run(url, servers)
    except (redis.RedisError, OSError) as error:
        if isinstance(error, RedisError):
            raise
        raise RedisError(f"redis.url: {redact(url)}: {explain(error, RUN_KEY)}") from error
    finally:
        servers.close()
    if run is None:
        return None
    silent_s = ALIVE_FOR_S - left_ms / 1000.0 if left_ms > 0 else max(time.time() - (run["updated_at_s"] or 0.0), 0.0)
    return {**run, "is_alive": left_ms > 0, "silent_s": round(silent_s, 1)}


def _read_run(url: str, servers: RedisServers) -> tuple[int, dict[str, Any] | None]:
    """How long the sign of life lasts yet, in milliseconds, and then how the run stands."""
    answers = servers.transact(
        [(ALIVE_KEY, lambda pipe: pipe.pttl(ALIVE_KEY)), (RUN_KEY, lambda pipe: pipe.get(RUN_KEY))]
    )
    left_ms, text = cast("tuple[int, str | None]", answers)
    if text is None:
        return left_ms, None
    return left_ms, parse_object(url, RUN_KEY, text, needs=frozenset({"run", "state", "updated_at_s"}))


def living_run(url: str) -> str | None:
    """Which run lives in a Redis, as a warning to whoever would begin another there; None where none does.

    Args:
        url: the server's address.

    Raises:
        RedisError: Redis does not answer or refuses, or the entry is not ours.
    """
    run = read_run(url)
    if run is None or not run["is_alive"]:
        return None
    who = f"{run['run']!a} on {run.get('host')!a}"  # anybody may write there: what a terminal would obey is escaped
    return (
        f"redis.url: {redact(url)}: expected no other run in this Redis, but {who} gave a sign of life "
        f"{run['silent_s']:.1f} s ago: if it goes on, each hides how the other stands"
    )
