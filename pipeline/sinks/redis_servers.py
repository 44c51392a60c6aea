"""Whoever holds our keys: one Redis, the master of the moment that Sentinels name, or the nodes of a Cluster.

Every command here is about one key, or about keys that are written one after the other. So a Cluster needs no client of
its own kind: it needs the plain client of the node that holds the key at present, and to hear when that changes.
"""

# redis-py's Sentinel is barely typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.client import Pipeline
from redis.exceptions import AskError, ClusterCrossSlotError, MovedError, ReadOnlyError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from pipeline.errors import RedisError
from pipeline.sinks.redis_address import RedisAddressParts, parse_redis_address
from pipeline.sinks.redis_cluster import ClusterNodes, name_server
from pipeline.sinks.redis_replicas import Replicas
from pipeline.sinks.schema import ALERTS_KEY

_LONGEST_TIMEOUT_S = 3600.0
# Options of redis-py that an address may name, for other clients, and that are not up to it.
_OURS = frozenset(
    {"protocol", "decode_responses", "encoding", "encoding_errors", "retry", "retry_on_timeout", "retry_on_error"}
    | {"single_connection_client"}
)
_REDIRECTIONS = 5  # in a row; a Cluster that sends us round in circles is an outage like any other

Result = TypeVar("Result")
Step = tuple[str, Callable[[Pipeline], object]]
"""A key, and what puts commands about it into a transaction."""


class RedisServers:
    """Clients for keys. For one thread at a time. Nothing is sent before a command is.

    An address of one server that turns out to be a node of a Cluster is taken for the Cluster's.

    redis-py's own defaults hang 2.5 s per call on a dead server, and for ever on a paused one.

    Attributes:
        replicas: whether they have what was written.

    Args:
        url: the address, as ``parse_redis_address`` reads it.
        timeout_s: longest wait for a connection and, apart from it, for an answer.
        retries: attempts after the first; a Cluster's nodes get one each.

    Raises:
        RedisError: the address is not one.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0, retries: int = 2) -> None:
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=0.5) if retries else NoBackoff()
        try:
            self._address: RedisAddressParts = parse_redis_address(url)
            self._options = _options(self._address.options, timeout_s, Retry(backoff, retries))
            # Connects to nobody, but meets options that redis-py does not know, which else the first command would.
            pool = redis.ConnectionPool(**self._options)
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError, redis.RedisError):  # the last two: of options behind the "?"
            # Neither the address nor redis-py's words are shown: what is wrong may well be the password.
            raise RedisError(
                "redis.url: expected redis://, rediss://, unix://, redis+cluster:// or redis+sentinel:// (special "
                "characters of a password percent-encoded, known options only), got something else"
            ) from None
        self._sentinel: Sentinel | None = None
        self._single: redis.Redis | None = None
        if self._address.kind == "single":
            self._single = redis.Redis.from_pool(pool)
        elif self._address.kind == "sentinel":
            self._sentinel, self._single = _master(self._address, self._options)
        self._cluster: ClusterNodes | None = None
        if self._address.kind == "cluster":
            self._cluster = self._as_cluster()
        self.replicas = Replicas(self)

    @property
    def is_cluster(self) -> bool:
        """Whether the keys may lie in several servers."""
        return self._cluster is not None

    @property
    def is_replicated(self) -> bool:
        """Whether a replica may take a server's place at any time."""
        return self.is_cluster or self._sentinel is not None

    def holder(self, key: str) -> redis.Redis:
        """A client of the server that holds a key at present; this object closes it.

        Raises:
            redis.RedisError: a Cluster does not say which one that is.
            OSError: likewise.
        """
        if self._cluster is not None:
            return self._cluster.holder(key)
        assert self._single is not None
        return self._single

    def may_have_replicas(self, key: str) -> bool:
        """Whether replicas may follow the server that holds a key; Sentinels hear of some seconds late.

        Raises:
            redis.RedisError: a Cluster does not say.
            OSError: likewise.
        """
        if self._cluster is None:
            return self._sentinel is not None
        self._cluster.outdate()
        return self._cluster.replicas(key) > 0

    def is_replaceable(self, client: redis.Redis, key: str) -> bool:
        """Whether a replica that lives follows the server, or has taken its place already.

        Args:
            client: of the server.
            key: what ``holder`` gave it for.

        Raises:
            redis.RedisError: neither Sentinels nor Cluster say.
            OSError: likewise.
        """
        if self._cluster is not None:
            return self.may_have_replicas(key) or self._cluster.holder(key) is not client
        assert self._sentinel is not None
        service = self._address.service
        before = cast("SentinelConnectionPool", client.connection_pool).master_address
        if before != self._sentinel.discover_master(service):
            return True
        followers = self._sentinel.sentinels[0].sentinel_slaves(service)  # of the one that has just answered
        return any(not one["is_sdown"] and one.get("master-link-status") == "ok" for one in followers)

    def call(self, work: Callable[[], Result]) -> Result:
        """Do something that may be done again, and again where a Cluster says that another node has the key.

        Args:
            work: gets its clients from ``holder``.

        Raises:
            redis.RedisError: a refusal, or why nobody answers.
            OSError: likewise.
        """
        try:
            for _ in range(_REDIRECTIONS):
                try:
                    return self._do(work)
                except (redis.RedisError, OSError) as error:
                    if not self._redirects(error):
                        raise
            return self._do(work)
        finally:
            if self._cluster is not None:
                self._cluster.settle()

    def transact(self, steps: Sequence[Step]) -> list[Any]:
        """Carry out steps in their order, each wholly or not at all: one server does all of them in one transaction.

        Args:
            steps: to be repeated without harm.

        Returns:
            The answers to all commands.

        Raises:
            redis.RedisError: a refusal, or why nobody answers.
            OSError: likewise.
        """
        if self._cluster is None:
            try:
                return self._do(lambda: self._transaction(steps))
            except redis.RedisError as error:
                if not self._redirects(error):
                    raise
        return [answer for step in steps for answer in self.call(lambda step=step: self._transaction([step]))]

    def ping(self) -> None:
        """Have whoever holds the alerts answer.

        Raises:
            redis.RedisError: a refusal, or why nobody answers.
            OSError: likewise.
        """
        self.call(lambda: self.holder(ALERTS_KEY).ping())

    def close(self) -> None:
        """Close all connections."""
        for closable in (self._single, self._sentinel, self._cluster):
            if closable is not None:
                closable.close()

    def _transaction(self, steps: Sequence[Step]) -> list[Any]:
        with self.holder(steps[0][0]).pipeline(transaction=True) as pipe:
            for _, put in steps:
                put(pipe)
            return pipe.execute()

    def _do(self, work: Callable[[], Result]) -> Result:
        """Do something, and call by their names what redis-py only stumbles over.

        Raises:
            redis.RedisError: a refusal, or why nobody answers.
            OSError: likewise.
        """
        try:
            return work()
        except MasterNotFoundError as error:
            raise self._without_master(error) from error
        except (TypeError, ValueError, LookupError) as error:  # an answer that no Redis gives to what was asked
            raise redis.InvalidResponse(f"{type(error).__name__}: {error}") from error

    def _without_master(self, error: MasterNotFoundError) -> MasterNotFoundError:
        """The same with the words of a Sentinel that failed, of which redis-py tells nothing but their class."""
        for watcher in [] if self._sentinel is None else self._sentinel.sentinels:
            try:
                watcher.ping()
            except (redis.RedisError, OSError) as told:
                return MasterNotFoundError(f"No master found : {told}")
        return error

    def _redirects(self, error: Exception) -> bool:
        """Take in what a command raised; whether the same command would go to another server now."""
        if self._cluster is not None:
            return self._cluster.is_redirected(error)
        assert self._single is not None
        if self._sentinel is not None and not isinstance(error, MasterNotFoundError):
            master = cast("SentinelConnectionPool", self._single.connection_pool).master_address
            if master is not None:
                name_server(error, master)
        if isinstance(error, ReadOnlyError):  # its name may lead to the new master by now
            self._single.connection_pool.disconnect()
        of_cluster = isinstance(error, MovedError | AskError | ClusterCrossSlotError)
        if not of_cluster or not self._address.nodes or self._sentinel is not None:
            return False
        self._single.close()
        self._cluster = self._as_cluster()
        return True

    def _as_cluster(self) -> ClusterNodes:
        return ClusterNodes(
            self._address.nodes,
            {key: value for key, value in self._options.items() if key not in {"host", "port"}},
        )


def _options(named: dict[str, Any], timeout_s: float, retry: Retry) -> dict[str, Any]:
    """What a connection of redis-py takes.

    Args:
        named: what the address names; how we speak is no matter of the address.
        timeout_s: longest wait, unless the address names a longer one.
        retry: what follows a first attempt.

    Raises:
        ValueError: the address names a time-out that is none.
    """
    options: dict[str, Any] = {
        "health_check_interval": 15,
        **{name: value for name, value in named.items() if name not in _OURS},
        "decode_responses": True,
        "encoding_errors": "replace",  # anybody may write there
        "protocol": 2,  # RESP2: every server speaks it
        "retry": retry,
    }
    for name in ("socket_timeout", "socket_connect_timeout"):
        given = options.get(name, timeout_s)
        if not 0.0 < given <= _LONGEST_TIMEOUT_S:
            raise ValueError(name)
        options[name] = max(given, timeout_s)  # a blocking command must have its time
    return options


def _master(address: RedisAddressParts, options: dict[str, Any]) -> tuple[Sentinel, redis.Redis]:
    """A client that asks the Sentinels for the master at every new connection."""
    options = dict(options)
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    kept = ("socket_timeout", "socket_connect_timeout", "protocol")
    of_sentinels = {key: value for key, value in options.items() if key in kept or key.startswith("ssl")}
    sentinel = Sentinel(
        list(address.nodes),
        sentinel_kwargs={**of_sentinels, **address.sentinel_options, "retry": Retry(NoBackoff(), 0)},
        **options,
    )
    return sentinel, sentinel.master_for(address.service)
