"""A client of a Cluster's node that is being given a slot: it takes a key of it from who says ``ASKING`` before."""

# redis-py's connections are barely typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis

_ABOUT_NO_KEY = frozenset({"UNWATCH", "EXEC", "DISCARD", "WAIT", "PING"})

if TYPE_CHECKING:
    _Connection = redis.Connection
else:
    _Connection = object


def asking(host: str, port: int, options: dict[str, Any]) -> redis.Redis:
    """A client that says ``ASKING`` before every command about keys, in a transaction once before all of it.

    Args:
        host: of the node.
        port: of the node.
        options: what a connection of redis-py takes.
    """
    plain: type[redis.Connection] = options.get("connection_class", redis.Connection)
    options = {
        **options,
        "host": host,
        "port": port,
        "connection_class": type("AskingConnection", (_Asking, plain), {}),
        "health_check_interval": 0,  # such checks are sent and answered out of the order of the commands
    }
    return redis.Redis.from_pool(redis.ConnectionPool(**options))


class _Asking(_Connection):
    """What the connection does besides."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._answers: deque[bool] = deque()  # of every command on its way: whether ASKING's comes first
        self._in_transaction = False
        self._is_open = False  # to us: what logs in asks for nothing
        super().__init__(*args, **options)

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        self._is_open = False
        super().connect_check_health(*args, **options)
        self._is_open = True

    def disconnect(self, *args: Any, **options: Any) -> None:
        self._answers.clear()
        self._in_transaction = False
        super().disconnect(*args, **options)

    def send_command(self, *args: Any, **options: Any) -> None:
        self.send_packed_command(self.pack_commands([args]), check_health=options.get("check_health", True))

    def pack_commands(self, commands: Iterable[Any]) -> list[bytes]:
        if not self._is_open:
            return super().pack_commands(commands)
        sent: list[Any] = []
        for command in commands:
            asks = not self._in_transaction and command[0] not in _ABOUT_NO_KEY
            self._in_transaction = command[0] == "MULTI" or (self._in_transaction and command[0] != "EXEC")
            self._answers.append(asks)
            sent.extend([("ASKING",), command] if asks else [command])
        return super().pack_commands(sent)

    def read_response(self, *args: Any, **options: Any) -> Any:
        if self._is_open and self._answers.popleft():
            try:
                super().read_response(*args, **options)
            except redis.ResponseError:
                with suppress(redis.ResponseError):
                    super().read_response(*args, **options)
                raise
        return super().read_response(*args, **options)
