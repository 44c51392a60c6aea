"""Whether a replica has what was written, where one may take its master's place: what it has not is lost then.

A master that was frozen or cut off takes commands and confirms them although a replica has taken its place; it
unlearns them once it hears of that. It is known by having no replica where Sentinels or Cluster say that there is one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from pipeline.sinks.redis_servers import RedisServers

WAIT = ("WAIT", 1, 500)  # for one replica, and for fewer milliseconds than the time-out of an answer
_HELD_FOR_S = 5.0  # longer than Sentinels and Clusters take to notice who has become master
_ALONE_FOR_S = 10.0


def replicas_with(answer: Any) -> int:
    """How many replicas have what was written, by what ``WAIT`` answered; 1 where it is refused, and nobody knows."""
    return answer if isinstance(answer, int) else 1


class Replicas:
    """For one thread at a time.

    Args:
        servers: whose.
    """

    def __init__(self, servers: RedisServers) -> None:
        self._servers = servers
        self._followed: set[redis.Redis] = set()  # servers that may have replicas
        self._alone_until: dict[redis.Redis, float] = {}  # of a server; monotonic, as is the next one
        self._held_since: dict[redis.Redis, float] = {}

    def are_asked(self, client: redis.Redis, key: str) -> bool:
        """Whether ``WAIT`` should follow what is written, on the same connection.

        In a Cluster it should not where no replica is known: it would take its whole time, at every server in turn.

        Args:
            client: of the server.
            key: what is written.

        Raises:
            redis.RedisError: a Cluster does not say whether there are replicas.
            OSError: likewise.
        """
        if not self._servers.is_replicated or time.monotonic() < self._alone_until.get(client, 0.0):
            return False
        if client not in self._followed:
            if not self._servers.may_have_replicas(key):
                self._leave_alone(client)
                return False
            self._followed.add(client)
        return True

    def heed(self, client: redis.Redis, key: str, count: int) -> None:
        """Take in what WAIT answered.

        A server whose replicas do not answer for seconds is taken to have none for a while: what it has is no less
        delivered, and what comes next should not be late.

        Args:
            client: of the server that was written to.
            key: one that was written.
            count: replicas that have it.

        Raises:
            redis.RedisError: none has it although one should: the server may be master no more, and is left.
            OSError: nobody says whether one should.
        """
        if count > 0:
            self._held_since.pop(client, None)
            return
        now = time.monotonic()
        if not self._servers.is_replaceable(client, key):
            self._held_since.pop(client, None)
        elif now - self._held_since.setdefault(client, now) < _HELD_FOR_S:
            client.connection_pool.disconnect()
            raise redis.ConnectionError("no replica has what was written")
        self._leave_alone(client)

    def _leave_alone(self, client: redis.Redis) -> None:
        self._followed.discard(client)
        self._alone_until[client] = time.monotonic() + _ALONE_FOR_S
