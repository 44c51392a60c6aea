"""Joining or starting Ray, and the one ``ray.remote`` of the project."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

from actors.local_ray import local_ray, signals_left_alone
from pipeline.errors import BadInputError
from pipeline.locked_folder import locked_folder
from pipeline.signals import kept_handlers

NAMESPACE = "cflow-stream"
_ROOT = Path(__file__).resolve().parent.parent  # a checkout, or where packages are installed
_SENT = ("actors", "pipeline")


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[None]:
    """Join a running Ray cluster, or start one on this machine that ends with the block.

    A process that is connected already stays so, before and after.

    Args:
        address: of the running cluster (``auto``, ``host:port`` or ``ray://...``); None starts a local one.

    Raises:
        BadInputError: nobody answers at the address.
        RunError: a local Ray did not start, or would be open to others.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    common = {"namespace": NAMESPACE, "log_to_driver": False, "configure_logging": False}
    with ExitStack() as stack:
        with kept_handlers(signal.SIGTERM), signals_left_alone():
            stack.enter_context(local_ray(**common) if address is None else _joined(address, **common))
        yield


@contextmanager
def _joined(address: str, **options: Any) -> Iterator[None]:
    with locked_folder(f"code-{secrets.token_hex(4)}") as folder:  # Ray sends it while it joins
        for package in _SENT:
            shutil.copytree(_ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            ray.init(address=address, runtime_env={"working_dir": str(folder)}, **options)
        except Exception as error:
            got = " ".join(str(error).split())[:300]
            hint = " (is it the cluster's token? RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)" if _is_about_token(error) else ""
            raise BadInputError(f"--address {address}: expected a running Ray cluster, got {got}{hint}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _is_about_token(error: BaseException | None) -> bool:
    """Whether a cluster was there and did not know us, which Ray says in the cause of its own error."""
    while error is not None:
        if "authentic" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def actor_class(plain: type, options: Mapping[str, Any]) -> Any:
    """A plain class as a Ray actor class; ``Any`` because Ray types only what its decorator syntax gives."""
    return ray.remote(**options)(plain)
