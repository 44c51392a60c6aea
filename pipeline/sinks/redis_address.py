"""What an address of Redis says: one server, the Sentinels that know which one is the master, or a Cluster's nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from redis.connection import parse_url as _parse_url  # pyright: ignore[reportUnknownVariableType]

from pipeline.addresses import redis_address_error, redis_client_address
from pipeline.errors import RedisError

RedisKind = Literal["single", "sentinel", "cluster"]

_PORTS = {"sentinel": 26379, "cluster": 6379}
_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
_OF_SENTINELS = ("username", "password")  # with "sentinel_" before them, behind the "?"


@dataclass(frozen=True, slots=True)
class RedisAddressParts:
    """An address, taken apart.

    Attributes:
        kind: what is there.
        nodes: (host, port) of every server that it names; none where it is a Unix socket.
        options: what a connection of redis-py takes; holds secrets.
        service: name of the master that the Sentinels watch, else empty.
        sentinel_options: user and password that the Sentinels themselves want, as redis-py takes them.
    """

    kind: RedisKind
    nodes: tuple[tuple[str, int], ...]
    options: dict[str, Any] = field(repr=False)
    service: str = ""
    sentinel_options: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)


def parse_redis_address(url: str) -> RedisAddressParts:
    """Take an address apart.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` as redis-py reads them;
            ``redis+cluster://user:password@host:port,host:port``, of which any one has to answer; or
            ``redis+sentinel://user:password@host:port,host:port/master/database``, of which the same is true, while
            user and password are those of the master. ``rediss+`` speaks TLS with everybody.

    Raises:
        RedisError: a part is missing, or is none that such an address can have.
        ValueError: it is no address; what is wrong with it may be the password.
    """
    transport, _, kind = url.partition("://")[0].partition("+")
    if kind and (transport not in {"redis", "rediss"} or kind not in _PORTS):
        raise ValueError("another scheme")
    if (wrong := redis_address_error(url)) is not None:
        raise RedisError(f"redis.url: {wrong}")
    url = redis_client_address(url)
    if not kind:
        options = _options(url)
        nodes = () if "path" in options else ((options.get("host", "localhost"), options.get("port", 6379)),)
        return RedisAddressParts("single", nodes, options)
    before, question, query = url.partition("://")[2].partition("?")
    authority, _, path = before.partition("/")
    user, at, hosts = authority.rpartition("@")
    nodes = tuple(_node(host, _PORTS[kind]) for host in hosts.split(","))
    options = _options(f"{transport}://{user}{at}host{question}{query}")
    del options["host"]
    if kind == "cluster":
        if path not in {"", "0"} or options.get("db", 0) != 0:
            raise RedisError("redis.url: expected database 0, the only one of a Redis Cluster, got another one")
        return RedisAddressParts("cluster", nodes, options)
    service, _, database = path.partition("/")
    if not service:
        raise RedisError(
            "redis.url: expected redis+sentinel://HOST:PORT,HOST:PORT/MASTER with the name under which the Sentinels "
            "watch the master (often mymaster), got none"
        )
    if database:
        options["db"] = int(database)
    of_sentinels = {name: options.pop(f"sentinel_{name}", None) for name in _OF_SENTINELS}
    return RedisAddressParts("sentinel", nodes, options, service, of_sentinels)


def _options(url: str) -> dict[str, Any]:
    """What redis-py reads in an address of one server.

    Raises:
        RedisError: a file that it names is not there.
        ValueError: it is none.
    """
    options = cast("dict[str, Any]", _parse_url(url))
    for name in _FILES & options.keys():
        if not Path(options[name]).is_file():
            raise RedisError(f"redis.url: {name}: expected a file, found none at {options[name]}")
    return options


def _node(text: str, port: int) -> tuple[str, int]:
    """Host and port of one server, as ``10.0.0.7:6379`` or ``[::1]``."""
    options = _options(f"redis://{text}")
    if "host" not in options or set(options) - {"host", "port"}:
        raise ValueError("no host")
    return options["host"], options.get("port", port)
