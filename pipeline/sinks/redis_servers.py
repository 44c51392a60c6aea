"""Whoever holds our keys: one Redis, the master of the moment that Sentinels name, or the nodes of a Cluster.

Every command here is about one key, or about keys that are written one after the other. So a Cluster needs no client of
its own kind: it needs the plain client of the node that holds the key at present, and to hear when that changes.
"""

# redis-py's Sentinel and Cluster are barely typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.client import Pipeline
from redis.cluster import ClusterNode, NodesManager
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisClusterException,
)
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from pipeline.errors import RedisError
from pipeline.sinks.redis_address import RedisAddressParts, parse_redis_address
from pipeline.sinks.redis_replicas import Replicas
from pipeline.sinks.schema import ALERTS_KEY

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
        defaults: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "health_check_interval": 15,
            "decode_responses": True,
            "encoding_errors": "replace",  # anybody may write there
            "protocol": 2,  # RESP2: every server speaks it
        }
        try:
            self._address: RedisAddressParts = parse_redis_address(url)
            self._options: dict[str, Any] = {**defaults, "retry": Retry(backoff, retries), **self._address.options}
            # Connects to nobody, but meets options that redis-py does not know, which else the first command would.
            pool = redis.ConnectionPool(**self._options)
            pool.connection_class(**pool.connection_kwargs)
        except (ValueError, TypeError):  # TypeError: an option behind the "?" that redis-py does not know
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
        self._nodes: NodesManager | None = None
        self._is_stale = False
        self.replicas = Replicas(self)

    @property
    def is_cluster(self) -> bool:
        """Whether the keys may lie in several servers."""
        return self._single is None

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
        if self._single is not None:
            return self._single
        nodes = self._topology()
        holders = nodes.slots_cache.get(key_slot(key.encode()))
        if not holders:
            self._is_stale = True
            raise ClusterDownError("Hash slot not served")
        nodes.create_redis_connections(holders[:1])  # where there is none yet: a redirection told of it
        return cast("redis.Redis", holders[0].redis_connection)

    def is_replaceable(self, client: redis.Redis, key: str) -> bool:
        """Whether a replica that lives follows the server, or has taken its place already.

        Args:
            client: of the server.
            key: what ``holder`` gave it for.

        Raises:
            redis.RedisError: neither Sentinels nor Cluster say.
            OSError: likewise.
        """
        if self._sentinel is None:
            self._is_stale = True
            return self.holder(key) is not client or len(self._topology().slots_cache[key_slot(key.encode())]) > 1
        service = self._address.service
        before = cast("SentinelConnectionPool", client.connection_pool).master_address
        if before != self._sentinel.discover_master(service):
            return True
        followers = self._sentinel.sentinels[0].sentinel_slaves(service)  # of the one that has just answered
        return any(not one["is_sdown"] and one["master-link-status"] == "ok" for one in followers)

    def call(self, work: Callable[[], Result]) -> Result:
        """Do something that may be done again, and again where a Cluster says that another node has the key.

        Args:
            work: gets its clients from ``holder``.

        Raises:
            redis.RedisError: a refusal, or why nobody answers.
            OSError: likewise.
        """
        for _ in range(_REDIRECTIONS):
            try:
                return work()
            except MasterNotFoundError as error:
                raise self._without_master(error) from error
            except (redis.RedisError, OSError) as error:
                if not self._redirects(error):
                    raise
        return work()

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
        if not self.is_cluster:
            try:
                return self._transaction(steps)
            except MasterNotFoundError as error:
                raise self._without_master(error) from error
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
        for closable in (self._single, self._sentinel, self._nodes):
            if closable is not None:
                closable.close()

    def _transaction(self, steps: Sequence[Step]) -> list[Any]:
        with self.holder(steps[0][0]).pipeline(transaction=True) as pipe:
            for _, put in steps:
                put(pipe)
            return pipe.execute()

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
        if self._single is not None:
            if isinstance(error, ReadOnlyError):  # its name may lead to the new master by now
                self._single.connection_pool.disconnect()
            of_cluster = isinstance(error, MovedError | AskError | ClusterCrossSlotError)
            if not of_cluster or not self._address.nodes or self._sentinel is not None:
                return False
            self._single.close()
            self._single = None
            return True
        if isinstance(error, MovedError) and self._nodes is not None and error.slot_id in self._nodes.slots_cache:
            self._nodes.move_slot(error)
            return True
        self._is_stale = True
        return isinstance(error, MovedError)

    def _topology(self) -> NodesManager:
        """Which node holds what: asked once, and anew after every error.

        Raises:
            redis.RedisError: no node says it.
            OSError: likewise.
        """
        try:
            if self._nodes is None:
                nodes = [ClusterNode(host, port) for host, port in self._address.nodes]
                options: dict[str, Any] = {
                    key: value for key, value in self._options.items() if key not in {"host", "port", "retry"}
                }
                # A node without answer for some keys is no reason to leave the others.
                self._nodes = NodesManager(nodes, from_url=True, require_full_coverage=False, **options)
            elif self._is_stale:
                self._nodes.initialize(additional_startup_nodes_info=list(self._address.nodes))
        except RedisClusterException as error:
            raise _cause(error) from error
        self._is_stale = False
        return self._nodes


def _cause(error: RedisClusterException) -> Exception:
    """What the last node said or did that was asked for the topology."""
    cause = error.__cause__
    if isinstance(cause, RedisClusterException):  # it answered, and refused
        cause = cause.__context__
    return cause if isinstance(cause, redis.RedisError | OSError) else redis.ConnectionError(str(error))


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
