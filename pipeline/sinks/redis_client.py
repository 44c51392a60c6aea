"""Whether a Redis answers, and a client of one that is a single server."""

from __future__ import annotations

import logging
import time

import redis

from pipeline.backoff import Backoff
from pipeline.errors import RedisError
from pipeline.redaction import redact
from pipeline.sinks.redis_servers import RedisServers
from pipeline.sinks.redis_trouble import explain, is_away
from pipeline.sinks.schema import ALERTS_KEY

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


def connect(url: str, *, timeout_s: float = 1.0, retries: int = 2) -> redis.Redis:
    """Make a client of a single server; nothing is sent yet.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` address.
        timeout_s: longest wait for the connection and, apart from it, for an answer.
        retries: attempts after the first.

    Raises:
        RedisError: the address is not one.
    """
    return RedisServers(url, timeout_s=timeout_s, retries=retries).holder(ALERTS_KEY)


def check_redis(url: str, timeout_s: float = 2.0) -> None:
    """Make sure that a Redis answers and lets us in, so that a run fails at its start and not silently later.

    Args:
        url: the address.
        timeout_s: longest wait for the connection and, apart from it, for the answer.

    Raises:
        RedisError: one line that says why not, without credentials.
    """
    servers = RedisServers(url, timeout_s=timeout_s, retries=0)
    try:
        servers.ping()
    except (redis.RedisError, OSError) as error:
        raise RedisError(f"redis.url: {redact(url)}: {explain(error)}") from error
    finally:
        servers.close()


def wait_for_redis(url: str) -> None:
    """Wait until a Redis answers, with a warning per reason.

    Args:
        url: the address.

    Raises:
        RedisError: whoever answers there lets us not in, or is no Redis.
    """
    backoff, said = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), ""
    while True:
        try:
            return check_redis(url)
        except RedisError as error:
            if not is_away(error):
                raise
            if str(error) != said:
                _log.warning("%s; waiting for it", error)
            said = str(error)
        time.sleep(backoff.failed())
