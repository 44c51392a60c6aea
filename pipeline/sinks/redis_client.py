"""How this project connects to Redis, and what it says when that fails."""

from __future__ import annotations

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import AuthorizationError
from redis.retry import Retry

from pipeline.addresses import redis_address_error, redis_client_address
from pipeline.errors import RedisError
from pipeline.redaction import redact
from pipeline.sinks.base import Reason


def connect(url: str, *, timeout_s: float = 1.0, retries: int = 2) -> redis.Redis:
    """Make a client; nothing is sent yet.

    redis-py's own defaults hang 2.5 s per call on a dead server, and for ever on a paused one.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` address.
        timeout_s: longest wait for the connection and, apart from it, for an answer.
        retries: attempts after the first.

    Raises:
        RedisError: the address is not one.
    """
    if (wrong := redis_address_error(url)) is not None:
        raise RedisError(f"redis.url: {wrong}")
    backoff = ExponentialWithJitterBackoff(base=0.05, cap=0.5) if retries else NoBackoff()
    try:
        client = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            redis_client_address(url),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(backoff, retries),
            health_check_interval=15,
            decode_responses=True,
            protocol=2,  # RESP2: every server speaks it
        )
        # Connects to nobody yet, but meets options that redis-py does not know, which else the first command would.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (ValueError, TypeError):  # TypeError: an option behind the "?" that redis-py does not know
        # Neither the address nor redis-py's words are shown: what is wrong may well be the password.
        raise RedisError(
            "redis.url: expected redis://, rediss:// or unix:// (special characters of a password percent-encoded, "
            "known options only), got something else"
        ) from None
    return client


def check_redis(url: str, timeout_s: float = 2.0) -> None:
    """Make sure that a Redis answers and lets us in, so that a run fails at its start and not silently later.

    Args:
        url: the address.
        timeout_s: longest wait for the connection and, apart from it, for the answer.

    Raises:
        RedisError: one line that says why not, without credentials.
    """
    client = connect(url, timeout_s=timeout_s, retries=0)
    try:
        client.ping()  # pyright: ignore[reportUnknownMemberType]
    except (redis.RedisError, OSError) as error:
        raise RedisError(f"redis.url: {redact(url)}: {explain(error)}") from error
    finally:
        client.close()


def explain(error: Exception) -> Reason:
    """What a Redis call raised, without credentials."""
    # redis-py puts the whole command before the answer when it came in a transaction.
    text = redact(" ".join(str(error).rsplit("of pipeline caused error: ", 1)[-1].split()))
    if isinstance(error, redis.AuthenticationError | AuthorizationError) or text.startswith(("NOAUTH", "WRONGPASS")):
        return Reason("Redis refuses the password or user name in redis.url", text)
    if isinstance(error, redis.BusyLoadingError):
        return Reason("Redis is still loading its data", text)
    if isinstance(error, redis.InvalidResponse) or "Protocol" in text:
        return Reason("expected a Redis server, but what answers there is not one", text)
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return Reason("no answer from Redis in time", text)
    if isinstance(error, redis.ConnectionError | OSError):
        return Reason("nobody answers there: is Redis running?", text)
    return Reason(f"Redis refuses: {text}")
