"""Whether a Redis takes what a run writes, found out without leaving anything there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import redis
from redis.client import Pipeline

from pipeline.errors import RedisError
from pipeline.redaction import redact
from pipeline.sinks.redis_servers import RedisServers, Step
from pipeline.sinks.redis_trouble import explain
from pipeline.sinks.schema import ALERTS_KEY, ALIVE_FOR_S, CAMERAS_KEY, FIELD, RUN_KEY, scores_key


def probe_redis(url: str, timeout_s: float = 2.0) -> float:
    """Write what a run writes under keys of its own, and delete it in the same transaction: nobody ever sees it.

    Args:
        url: the address.
        timeout_s: longest wait for the connection and, apart from it, for each answer.

    Returns:
        Seconds that one transaction took.

    Raises:
        RedisError: nobody answers, or it refuses reading or writing; one line without credentials.
    """
    servers = RedisServers(url, timeout_s=timeout_s, retries=0)
    own = f"check-{uuid.uuid4().hex}"
    stream, text, table = scores_key(own), f"{RUN_KEY}:{own}", f"{CAMERAS_KEY}:{own}"
    try:
        servers.ping()
        servers.call(lambda: _read(servers, stream))
        started_at = time.monotonic()
        servers.transact(
            [
                _passing(stream, lambda pipe: pipe.xadd(stream, {FIELD: "{}"}, maxlen=1, approximate=True)),
                _passing(text, lambda pipe: pipe.set(text, "{}", ex=ALIVE_FOR_S)),
                _passing(table, lambda pipe: pipe.hset(table, own, "{}")),
            ]
        )
        return time.monotonic() - started_at
    except (redis.RedisError, OSError) as error:
        raise RedisError(f"redis.url: {redact(url)}: {explain(error, ALERTS_KEY)}") from error
    finally:
        servers.close()


def _passing(key: str, write: Callable[[Pipeline], object]) -> Step:
    """Write under a key, and delete it."""

    def put(pipe: Pipeline) -> None:
        write(pipe)
        pipe.delete(key)

    return key, put


def _read(servers: RedisServers, stream: str) -> None:
    """Read as a run does.

    Args:
        servers: where.
        stream: a key that nobody has.
    """
    client = servers.holder(ALERTS_KEY)
    client.xrevrange(ALERTS_KEY, count=1)  # fails where the key holds something else, as it would for a run
    client.xread({ALERTS_KEY: "0"}, count=1)  # as the run's terminal does
    if servers.is_replicated:
        client.wait(1, 1)  # pyright: ignore[reportUnknownMemberType]
    with servers.holder(stream).pipeline(transaction=True) as pipe:  # pyright: ignore[reportUnknownMemberType]
        pipe.watch(stream)
        pipe.xrange(stream, count=1)
        pipe.unwatch()
