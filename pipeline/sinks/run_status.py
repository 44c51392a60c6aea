"""How a run and its cameras stand, in Redis, and that it lives: written by the run's own command, once per second.

A run that is killed cannot say so. What it leaves is a key that nobody renews: ``cflow:alive`` expires within seconds,
which any client can watch, and ``cflow:run`` says when the run gave its last sign of life.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self, cast

import redis

from pipeline.errors import RedisError
from pipeline.redaction import redact
from pipeline.sinks.redis_client import connect, explain
from pipeline.sinks.redis_reader import parse_object
from pipeline.sinks.schema import ALIVE_FOR_S, ALIVE_KEY, CAMERAS_KEY, RUN_KEY, VERSION

RunState = Literal["starting", "running", "ending", "ended", "failed"]
Totals = Mapping[str, Any]
Cameras = Mapping[str, Mapping[str, Any]]
OVER: frozenset[str] = frozenset({"ended", "failed"})

_RENEW_EVERY_S = 1.0
_LAST_WORD_S = 1.0  # a Redis that hangs when the run ends


class RunStatusWriter:
    """Writes ``cflow:run``, ``cflow:alive`` and ``cflow:cameras``; a context manager that writes how the run ended.

    A thread writes the newest status again and again, so that the run's sign of life depends on nobody but the process
    itself. Redis may go and come: nothing waits for it.

    Args:
        url: the server's address.
        run: name of the run.
        totals: as ``write`` takes them, until it is called.

    Raises:
        RedisError: the address is not one.
    """

    def __init__(self, url: str, run: str, totals: Totals = MappingProxyType({})) -> None:
        self._client = connect(url, retries=0)
        self._fixed = {
            "version": VERSION,
            "run": run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at_s": time.time(),
        }
        self._newest: tuple[RunState, Totals, Cameras | None, str] = ("starting", totals, None, "")
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._renew, name="run-status", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state, totals, cameras, reason = self._newest
        if state not in OVER:
            self.write(
                "failed", totals, cameras, reason or redact(" ".join(str(error or "it was interrupted").split()))
            )
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(2 * _LAST_WORD_S)
        self._client.close()

    def write(self, state: RunState, totals: Totals, cameras: Cameras | None, reason: str = "") -> None:
        """Take the newest status; it is written within a second, or at once where it is the last.

        Args:
            state: of the run.
            totals: what is said of the run as a whole, serialisable as JSON.
            cameras: camera id to its status, likewise; None leaves those there are.
            reason: why it failed, in one line without credentials.
        """
        with self._changed:
            self._newest = state, totals, cameras, reason
            if state in OVER:
                self._changed.notify_all()

    def _renew(self) -> None:
        over = False
        while not over:
            with self._changed:
                over, newest = self._over, self._newest
            with contextlib.suppress(redis.RedisError, OSError):  # the scorer meets the same, and says so
                self._send(*newest)
            with self._changed:
                if not self._over and not over:
                    self._changed.wait_for(lambda: self._over, _RENEW_EVERY_S)

    def _send(self, state: RunState, totals: Totals, cameras: Cameras | None, reason: str) -> None:
        run = {**self._fixed, "state": state, "updated_at_s": time.time(), "reason": reason, **totals}
        with self._client.pipeline(transaction=True) as pipe:
            pipe.set(RUN_KEY, json.dumps(run))
            if state in OVER:
                pipe.delete(ALIVE_KEY)
            else:
                pipe.set(ALIVE_KEY, str(self._fixed["run"]), ex=ALIVE_FOR_S)
            if cameras is not None:
                pipe.delete(CAMERAS_KEY)
                if cameras:
                    texts = {camera_id: json.dumps(camera) for camera_id, camera in cameras.items()}
                    pipe.hset(CAMERAS_KEY, mapping=cast("dict[Any, Any]", texts))  # redis-py's dict type is invariant
            pipe.execute()


def read_run(url: str) -> dict[str, Any] | None:
    """How the newest run stands, with the fields of ``docs/alerts.md`` and two more; None where there was none.

    ``is_alive`` says whether it gave a sign of life within the last seconds, and ``silent_s`` how many seconds ago the
    last one was, by Redis's own clock while it lives and by this machine's afterwards.

    Args:
        url: the server's address.

    Raises:
        RedisError: Redis does not answer or refuses, or the entry is not ours.
    """
    client = connect(url, timeout_s=2.0, retries=0)
    try:
        text, left_ms = cast("str | None", client.get(RUN_KEY)), cast("int", client.pttl(ALIVE_KEY))
    except (redis.RedisError, OSError, UnicodeDecodeError) as error:
        raise RedisError(f"redis.url: {redact(url)}: {explain(error)}") from error
    finally:
        client.close()
    if text is None:
        return None
    run = parse_object(url, RUN_KEY, text, needs=frozenset({"run", "state", "updated_at_s"}))
    silent_s = ALIVE_FOR_S - left_ms / 1000.0 if left_ms > 0 else max(time.time() - (run["updated_at_s"] or 0.0), 0.0)
    return {**run, "is_alive": left_ms > 0, "silent_s": round(silent_s, 1)}
