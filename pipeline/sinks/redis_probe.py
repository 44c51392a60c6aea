"""Whether a Redis takes what a run writes, found out without leaving anything there."""

from __future__ import annotations

import time
import uuid

import redis

from pipeline.errors import RedisError
from pipeline.redaction import redact
from pipeline.sinks.redis_client import connect, explain
from pipeline.sinks.schema import ALERTS_KEY, FIELD, scores_key


def probe_redis(url: str, timeout_s: float = 2.0) -> float:
    """Append to a stream as a run does and delete it in the same transaction, so that nobody ever sees it.

    Args:
        url: the address.
        timeout_s: longest wait for the connection and, apart from it, for each answer.

    Returns:
        Seconds that one transaction took.

    Raises:
        RedisError: nobody answers, or it refuses reading or writing; one line without credentials.
    """
    client = connect(url, timeout_s=timeout_s, retries=0)
    key = scores_key(f"check-{uuid.uuid4().hex}")
    try:
        client.xrevrange(ALERTS_KEY, count=1)  # fails where the key holds something else, as it would for a run
        started_at = time.monotonic()
        with client.pipeline(transaction=True) as pipe:
            pipe.xadd(key, {FIELD: "{}"}, maxlen=1, approximate=True)
            pipe.delete(key)
            pipe.execute()
        return time.monotonic() - started_at
    except (redis.RedisError, OSError) as error:
        raise RedisError(f"redis.url: {redact(url)}: {explain(error)}") from error
    finally:
        client.close()
