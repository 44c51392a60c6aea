"""The run that a command is about: a service of a cluster, or one of this user's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.errors import BadInputError


def ask(request: Mapping[str, Any], config: Path | None, address: str | None, run: str | None) -> dict[str, Any]:
    """What a run answers: a service of a cluster, or one of this user's.

    Args:
        request: what is asked of it, as ``actors.requests`` knows it.
        config: its YAML file; None for the newest run of this user.
        address: ``host:port`` of the head of the cluster with the service, or ``auto``; None for no service.
        run: name of the service, where the cluster has several.

    Raises:
        BadInputError: there is no such run, or it refuses; why, in one line.
    """
    if address is not None:
        from actors.service_requests import ask_service

        _check_one_place(config)
        return ask_service(address, run, request)
    from actors.control_socket import ask_run
    from pipeline.sinks.locate import state_folder

    return ask_run(state_folder(config), request)


def readable_redis(
    config: Path | None, address: str | None, run: str | None, *, waits: bool = False
) -> AbstractContextManager[str]:
    """The address of a run's Redis, which can be read as long as the block lasts.

    Args:
        config: as for ``ask``.
        address: as for ``ask``.
        run: as for ``ask``.
        waits: whether it may be away at first.

    Raises:
        BadInputError: there is no such run.
    """
    from pipeline.sinks import locate

    if address is not None:
        from actors.service_requests import service_at

        _check_one_place(config)
        return locate.known_redis(service_at(address, run).redis_url.get_secret_value(), waits=waits)
    return locate.readable_redis(config, waits=waits)


def _check_one_place(config: Path | None) -> None:
    if config is not None:
        raise BadInputError("--address: expected it without --config, which leads elsewhere, got both")
