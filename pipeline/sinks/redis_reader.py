"""Reading back what ``RedisSink`` wrote."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import redis

from pipeline.backoff import Backoff
from pipeline.errors import RedisError
from pipeline.redaction import redact
from pipeline.sinks.redis_client import check_redis
from pipeline.sinks.redis_servers import RedisServers
from pipeline.sinks.redis_trouble import explain
from pipeline.sinks.schema import ALERTS_KEY, CAMERAS_KEY, FIELD, scores_key

_log = logging.getLogger(__name__)

_PAGE = 500
_BLOCK_S = 0.5  # how fast ``stop`` is noticed
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0

_EVERY_ALERT_HAS = frozenset({"kind", "event_id", "emitted_at_s"})
_WORDS = frozenset({"kind", "event_id", "state", "run"})
_NUMBERS = frozenset({"peak_score", "threshold", "anomaly_score", "p_value", "common_surprise"})

_Entries = list[tuple[str, dict[str, str]]]
Result = TypeVar("Result")


def read_alerts(
    url: str, *, since: str = "0", follow: bool = False, stop: threading.Event | None = None
) -> Iterator[dict[str, Any]]:
    """Alerts of all cameras, oldest first, with the fields of ``docs/alerts.md`` and their entry's ``id``.

    An entry that somebody else wrote there is passed over with a warning; of several in a row, the first one has it.

    Args:
        url: the server's address.
        since: only alerts after this entry id; ``"0"`` is the beginning, ``"now"`` the present end.
        follow: wait for further alerts instead of ending; while Redis is away or refuses, whatever it says, wait for
            it with a warning per reason, and go on where it was.
        stop: ends the following once set, within about half a second.

    Raises:
        RedisError: at the start, Redis does not answer or lets nobody in; not following, it refuses or goes away.
    """
    check_redis(url)
    servers = RedisServers(url, timeout_s=_BLOCK_S + 2.0)  # must outlast XREAD's BLOCK
    stop = stop or threading.Event()
    backoff, waits_for, passes_over = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), None, False
    last = None if since == "now" else since
    try:
        while not stop.is_set():
            try:
                if last is None:
                    last = servers.call(lambda: _last_id(servers.holder(ALERTS_KEY)))
                entries = servers.call(
                    lambda after=last: _page_after(
                        servers.holder(ALERTS_KEY), after, block_s=_BLOCK_S if follow else None
                    )
                )
            except (redis.RedisError, OSError) as error:
                reason = explain(error, ALERTS_KEY)
                if not follow:
                    raise RedisError(f"redis.url: {redact(url)}: {reason}") from error
                if waits_for != reason.what:
                    _log.warning("Redis %s: %s; waiting for it", redact(url), reason)
                waits_for = reason.what
                stop.wait(backoff.failed())
                continue
            waits_for = None
            backoff.succeeded()
            for entry_id, fields in entries:
                last = entry_id
                try:
                    alert = _object(url, entry_id, fields, needs=_EVERY_ALERT_HAS)
                except RedisError as error:
                    if not passes_over:
                        _log.warning("%s; passing over it", error)
                    passes_over = True
                else:
                    passes_over = False
                    yield alert
            if not entries and not follow:
                return
    finally:
        servers.close()


def read_scores(url: str, camera_id: str, count: int = 100) -> list[dict[str, Any]]:
    """Scores of a camera's newest frames, oldest first, with the fields of ``docs/alerts.md`` and their entry's ``id``.

    Args:
        url: the server's address.
        camera_id: the camera.
        count: entries at most.

    Raises:
        RedisError: Redis does not answer or refuses.
    """
    key = scores_key(camera_id)
    newest = _read(url, key, lambda client: cast("_Entries", client.xrevrange(key, count=count)))
    return [_object(url, entry_id, fields) for entry_id, fields in reversed(newest)]


def read_statuses(url: str) -> dict[str, dict[str, Any]]:
    """The newest status of every camera, by camera id, sorted; other people's entries are passed over with a warning.

    Args:
        url: the server's address.

    Raises:
        RedisError: Redis does not answer or refuses.
    """
    statuses = _read(url, CAMERAS_KEY, lambda client: cast("dict[str, str]", client.hgetall(CAMERAS_KEY)))
    found: dict[str, dict[str, Any]] = {}
    for camera_id, text in sorted(statuses.items()):
        try:
            found[camera_id] = parse_object(url, f"{CAMERAS_KEY}: {camera_id!a}", text)
        except RedisError as error:
            _log.warning("%s; passing over it", error)
    return found


def _read(url: str, key: str, read: Callable[[redis.Redis], Result]) -> Result:
    """What one command about a key answers.

    Raises:
        RedisError: Redis does not answer or refuses.
    """
    servers = RedisServers(url, timeout_s=2.0, retries=0)
    try:
        return servers.call(lambda: read(servers.holder(key)))
    except (redis.RedisError, OSError) as error:
        raise RedisError(f"redis.url: {redact(url)}: {explain(error, key)}") from error
    finally:
        servers.close()


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
    if key == "camera_id":
        return value is None or isinstance(value, str)
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
