"""Reading back what ``RedisSink`` wrote."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator
from typing import Any, cast

import redis
from redis.exceptions import AuthorizationError

from pipeline.backoff import Backoff
from pipeline.errors import RedisError
from pipeline.redaction import redact
from pipeline.sinks.redis_client import check_redis, connect, explain
from pipeline.sinks.schema import ALERTS_KEY, CAMERAS_KEY, FIELD, scores_key

_log = logging.getLogger(__name__)

_PAGE = 500
_BLOCK_S = 0.5  # how fast ``stop`` is noticed
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0

_EVERY_ALERT_HAS = frozenset({"kind", "event_id", "emitted_at_s"})
_WORDS = frozenset({"kind", "event_id", "state", "run"})
_NUMBERS = frozenset({"peak_score", "threshold", "anomaly_score", "p_value"})
_NOT_TEXT = "expected entries as docs/alerts.md has them, got bytes that are not text"

_Entries = list[tuple[str, dict[str, str]]]


def read_alerts(
    url: str, *, since: str = "0", follow: bool = False, stop: threading.Event | None = None
) -> Iterator[dict[str, Any]]:
    """Alerts of all cameras, oldest first, with the fields of ``docs/alerts.md`` and their entry's ``id``.

    Args:
        url: the server's address.
        since: only alerts after this entry id; ``"0"`` is the beginning, ``"now"`` the present end.
        follow: wait for further alerts instead of ending; goes on where it was when Redis goes away and comes back.
        stop: ends the following once set, within about half a second.

    Raises:
        RedisError: at the start, Redis does not answer; later, it refuses, or, not following, goes away.
    """
    check_redis(url)
    client = connect(url, timeout_s=_BLOCK_S + 2.0)  # must outlast XREAD's BLOCK
    stop = stop or threading.Event()
    backoff, is_away = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), False
    try:
        last = _last_id(client) if since == "now" else since
        while not stop.is_set():
            try:
                entries = _page_after(client, last, block_s=_BLOCK_S if follow else None)
            except UnicodeDecodeError:
                raise RedisError(f"redis.url: {redact(url)}: {ALERTS_KEY}: {_NOT_TEXT}") from None
            except (redis.RedisError, OSError) as error:
                if not follow or not _is_passing(error):
                    raise RedisError(f"redis.url: {redact(url)}: {explain(error)}") from error
                if not is_away:
                    _log.warning("Redis %s: %s; waiting for it", redact(url), explain(error))
                is_away = True
                stop.wait(backoff.failed())
                continue
            is_away = False
            backoff.succeeded()
            for entry_id, fields in entries:
                last = entry_id
                yield _object(url, entry_id, fields, needs=_EVERY_ALERT_HAS)
            if not entries and not follow:
                return
    finally:
        client.close()


def read_scores(url: str, camera_id: str, count: int = 100) -> list[dict[str, Any]]:
    """Scores of a camera's newest frames, oldest first, with the fields of ``docs/alerts.md`` and their entry's ``id``.

    Args:
        url: the server's address.
        camera_id: the camera.
        count: entries at most.

    Raises:
        RedisError: Redis does not answer or refuses.
    """
    with _Errors(url) as client:
        newest = cast("_Entries", client.xrevrange(scores_key(camera_id), count=count))
    return [_object(url, entry_id, fields) for entry_id, fields in reversed(newest)]


def read_statuses(url: str) -> dict[str, dict[str, Any]]:
    """The newest status of every camera, by camera id, sorted.

    Args:
        url: the server's address.

    Raises:
        RedisError: Redis does not answer or refuses, or an entry is not ours.
    """
    with _Errors(url) as client:
        statuses = cast("dict[str, str]", client.hgetall(CAMERAS_KEY))
    return {camera_id: parse_object(url, CAMERAS_KEY, text) for camera_id, text in sorted(statuses.items())}


class _Errors:
    """A client for a few calls, whose failures become ``RedisError``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = connect(url, timeout_s=2.0, retries=0)

    def __enter__(self) -> redis.Redis:
        return self._client

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._client.close()
        if isinstance(error, UnicodeDecodeError):
            raise RedisError(f"redis.url: {redact(self._url)}: {_NOT_TEXT}") from None
        if isinstance(error, redis.RedisError | OSError):
            raise RedisError(f"redis.url: {redact(self._url)}: {explain(error)}") from error


def _object(url: str, entry_id: str, fields: dict[str, str], needs: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A stream entry's object, with the entry's id."""
    return {"id": entry_id, **parse_object(url, f"entry {entry_id}", fields.get(FIELD, ""), needs)}


def parse_object(url: str, where: str, text: str, needs: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Parse what stands in Redis, where anybody may write.

    Args:
        url: the server's address, for the error.
        where: key or entry, for the error.
        text: JSON.
        needs: keys without which it is none of ours.

    Raises:
        RedisError: it is not a JSON object, lacks keys, or its words and numbers are something else.
    """
    try:
        value = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_integer)
    except (ValueError, RecursionError):
        value = None
    found = cast("dict[str, Any]", value) if isinstance(value, dict) else None
    if found is None or not needs <= found.keys() or not all(map(_fits, found.keys(), found.values())):
        raise RedisError(
            f"redis.url: {redact(url)}: {where}: expected a JSON object as docs/alerts.md has it, got another value"
        )
    return found


def _number(text: str) -> float:
    """A number; JSON has neither NaN nor infinity, though Python writes and reads them.

    Raises:
        ValueError: it is one of these.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _integer(text: str) -> int:
    """An integer that a float can come near to.

    Raises:
        ValueError: it is larger.
    """
    _number(text)
    return int(text)


def _fits(key: str, value: Any) -> bool:
    """Whether a value is of the kind that its key promises."""
    if key in _WORDS:
        return isinstance(value, str)
    if key in _NUMBERS or key.endswith("_s"):
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return True


def _page_after(client: redis.Redis, last: str, *, block_s: float | None) -> _Entries:
    """The next entries after an id; waits for the first one up to ``block_s``."""
    block_ms = None if block_s is None else int(block_s * 1000)
    answer = cast("list[tuple[str, _Entries]]", client.xread({ALERTS_KEY: last}, count=_PAGE, block=block_ms))
    return answer[0][1] if answer else []


def _last_id(client: redis.Redis) -> str:
    """The newest alert's id: unlike Redis's ``$`` it stays the same over a reconnect."""
    newest = cast("_Entries", client.xrevrange(ALERTS_KEY, count=1))
    return newest[0][0] if newest else "0"


def _is_passing(error: Exception) -> bool:
    """Whether waiting can help: the server is away or starting, rather than refusing us."""
    return isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError) and not isinstance(
        error, redis.AuthenticationError | AuthorizationError
    )
