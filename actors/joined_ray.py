"""A Ray cluster that somebody else started, joined with this project's own code."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from actors.ray_head import authentication_mode, check_node, head_address
from actors.ray_settings import authentication_reader, environment
from pipeline.errors import BadInputError, CflowError
from pipeline.locked_folder import locked_folder
from pipeline.logs import LOG_VARIABLE
from pipeline.redaction import redact

_ROOT = Path(__file__).resolve().parent.parent  # a checkout, or where packages are installed
_SENT = ("actors", "pipeline")
_SETTINGS = {
    # A job that was submitted with a working folder of its own joins with ours.
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    # What an actor is built from lies with Ray's head: beside this process it would be gone with it, and an actor that
    # outlives it could not be started again.
    "RAY_max_direct_call_object_size": str(64 * 2**20),
    "RAY_task_rpc_inlined_bytes_limit": str(64 * 2**20),
}
_HANDED_ON = (LOG_VARIABLE,)  # of this process's environment to that of the actors


@contextmanager
def joined_ray(address: str, **options: Any) -> Iterator[None]:
    """Join a cluster, and leave it with the block.

    Its actors run this process's code, whatever is installed on their nodes: the packages' modules are sent, and
    nothing else that lies in or beside them.

    Args:
        address: ``host:port`` of its head, or ``auto``.
        options: more for ``ray.init``.

    Raises:
        BadInputError: no cluster is there that takes this process in; why, in one line.
        RunError: the installed Ray reads its token in a way that is not known.
    """
    read_authentication_anew = authentication_reader()
    read_authentication_anew()
    try:
        with locked_folder(f"code-{secrets.token_hex(4)}") as folder:  # Ray sends it while it joins
            _copy_code(folder)
            given = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
            with environment(_SETTINGS), reached_head(address) as head:
                check_node(head)
                ray.init(address=head, runtime_env={"working_dir": str(folder), "env_vars": given}, **options)
        yield
    finally:
        ray.shutdown()
        read_authentication_anew()


@contextmanager
def reached_head(address: str) -> Iterator[str]:
    """Have Ray's library of this process show what a cluster's head asks for, while the block lasts.

    Args:
        address: ``host:port`` of the head, or ``auto``.

    Yields:
        The head's address, as Ray calls it.

    Raises:
        BadInputError: no cluster is there that takes this process in; why, in one line.
        RunError: the installed Ray reads its token in a way that is not known.
    """
    read_authentication_anew = authentication_reader()
    read_authentication_anew()
    try:
        head = head_address(address)
        with environment({"RAY_AUTH_MODE": authentication_mode(head)}):
            read_authentication_anew()
            yield head
    except BadInputError as error:
        raise BadInputError(f"--address {redact(address)}: {error}") from None
    except (CflowError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise BadInputError(
            f"--address {redact(address)}: expected a Ray cluster that can be joined, got {_reason(error)}"
        ) from error


def _copy_code(folder: Path) -> None:
    """Copy the packages' modules: no recordings, models or sockets that somebody keeps between them."""

    def others(parent: str, names: list[str]) -> list[str]:
        paths = {name: Path(parent, name) for name in names}
        return [
            name
            for name, path in paths.items()
            if name.startswith((".", "__pycache__"))
            or not ((path.is_dir() and not path.is_symlink()) or (path.suffix == ".py" and path.is_file()))
        ]

    for package in _SENT:
        shutil.copytree(_ROOT / package, folder / package, ignore=others)


def _reason(error: BaseException) -> str:
    """What Ray said first: what it raises in the end says only that it could not."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return " ".join(str(error).split())[:300] or error.__class__.__name__
