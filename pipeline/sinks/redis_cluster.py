"""Which server of a Redis Cluster holds which key, and a plain client of each server.

redis-py's own RedisCluster serves commands about any key, not a pipeline that watches, and hides who holds what.
"""

# redis-py's commands are barely typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError
from redis.retry import Retry

from pipeline.sinks.redis_asking import asking

Server = tuple[str, int]
"""Host and port."""

_NO_HOSTS = (None, "", "?")  # where a node is told to name none, or knows none: the one that was asked is meant


class _Shard(NamedTuple):
    """Slots from the first to the last one, both included; their master, and how many replicas it has."""

    first: int
    last: int
    master: Server
    replicas: int


class ClusterNodes:
    """Clients for keys. For one thread at a time. Nothing is sent before somebody asks for a key.

    Who holds what is asked once, and anew after every error.

    Args:
        nodes: any of its servers; one has to answer.
        options: what a connection of redis-py takes, apart from host and port.
    """

    def __init__(self, nodes: Sequence[Server], options: dict[str, Any]) -> None:
        self._named = list(nodes)
        self._options: dict[str, Any] = {**options, "retry": Retry(NoBackoff(), 0)}
        self._clients: dict[Server, redis.Redis] = {}
        self._shards: list[_Shard] = []
        self._moved: dict[int, Server] = {}  # what a node said of a slot, which others may not have heard yet
        self._asking_clients: dict[Server, redis.Redis] = {}
        self._asked: dict[int, redis.Redis] = {}  # by slot: where its keys are to be asked for, for one command
        self._is_stale = True
        self._latest: Server = self._named[0]  # whose client was asked for

    def holder(self, key: str) -> redis.Redis:
        """A client of the server that holds a key at present; this object closes it.

        Raises:
            redis.RedisError: no node says which one that is.
            OSError: likewise.
        """
        slot = key_slot(key.encode())
        if (client := self._asked.get(slot)) is not None:
            return client
        return self._client(self._moved.get(slot) or self._shard(slot).master)

    def replicas(self, key: str) -> int:
        """How many replicas the master of a key has.

        Raises:
            redis.RedisError: no node says it.
            OSError: likewise.
        """
        return self._shard(key_slot(key.encode())).replicas

    def is_redirected(self, error: Exception) -> bool:
        """Take in what a command raised; whether the same command would go to another server now.

        What stays says which node it is about: the address of the Cluster does not.
        """
        self._is_stale = True
        if isinstance(error, AskError):
            server = self._meant(error)
            if server not in self._asking_clients:
                self._asking_clients[server] = asking(*server, self._options)
            self._asked[error.slot_id] = self._asking_clients[server]
        elif isinstance(error, MovedError):
            self._moved[error.slot_id] = self._meant(error)
        else:
            self._moved.clear()
            name_server(error, self._latest)
            return False
        return True

    def settle(self) -> None:
        """Forget where keys were to be asked for that are on their way: it was said for one command."""
        self._asked.clear()

    def outdate(self) -> None:
        """Let the nodes be asked anew."""
        self._is_stale = True

    def close(self) -> None:
        """Close all connections."""
        for client in [*self._clients.values(), *self._asking_clients.values()]:
            client.close()

    def _meant(self, error: MovedError | AskError) -> Server:
        """The server that a redirection leads to."""
        if error.host not in _NO_HOSTS:
            return error.host, error.port
        known = (shard.master[0] for shard in self._shards if shard.first <= error.slot_id <= shard.last)
        return next(known, self._named[0][0]), error.port

    def _shard(self, slot: int) -> _Shard:
        if self._is_stale:
            self._ask_nodes()
        for shard in self._shards:
            if shard.first <= slot <= shard.last:
                return shard
        self._is_stale = True
        raise ClusterDownError("Hash slot not served")

    def _ask_nodes(self) -> None:
        """Ask the nodes, in any order, since one that is cut off may go on answering what was true once.

        Raises:
            redis.RedisError: what the last node that was named said or did.
            OSError: likewise.
        """
        known = list(dict.fromkeys(shard.master for shard in self._shards))
        random.shuffle(known)
        problem: Exception = ClusterDownError("Hash slot not served")
        for server in dict.fromkeys([*known, *self._named]):
            try:
                self._shards = _shards(self._client(server).execute_command("CLUSTER SLOTS"), server[0])
            except (redis.RedisError, OSError) as error:
                problem = error
            else:
                if self._shards:
                    self._is_stale = False
                    self._close_strangers()
                    return
        raise problem

    def _close_strangers(self) -> None:
        known = {*self._named, *self._moved.values(), *(shard.master for shard in self._shards)}
        for server in self._clients.keys() - known:
            self._clients.pop(server).close()

    def _client(self, server: Server) -> redis.Redis:
        self._latest = server
        if server not in self._clients:
            host, port = server
            self._clients[server] = redis.Redis.from_pool(redis.ConnectionPool(host=host, port=port, **self._options))
        return self._clients[server]


def name_server(error: Exception, server: Server) -> None:
    """Put into an error of the connection which server it was to, unless it is there."""
    host, port = server
    if isinstance(error, redis.ConnectionError | redis.TimeoutError) and f"{host}:{port}" not in str(error):
        error.args = (f"{error} ({host}:{port})",)


def _shards(answer: Any, host: str) -> list[_Shard]:
    """Read what ``CLUSTER SLOTS`` answered.

    Raises:
        redis.InvalidResponse: it is something else.
    """
    try:
        return [
            _Shard(int(first), int(last), (host if name in _NO_HOSTS else name, int(port)), len(replicas))
            for first, last, (name, port, *_), *replicas in answer
        ]
    except (TypeError, ValueError, LookupError) as error:
        raise redis.InvalidResponse("CLUSTER SLOTS: expected slots and nodes, got something else") from error
