"""What Ray's library takes from the environment: set for as long as it starts, and read anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
import ray._raylet

from pipeline.errors import RunError

_KNOWN_RAY = ">=2.52,<2.61"  # as in pyproject.toml
_raylet: Any = ray._raylet  # compiled, and without types


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Have variables in the environment while the block lasts.

    Args:
        settings: values by name.
    """
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def authentication_reader() -> Callable[[], None]:
    """What has Ray's library in this process forget the token and the mode that it read before.

    Raises:
        RunError: this Ray has other names for that; it would show an earlier run's token, or ask for none.
    """
    try:
        read_settings = _raylet.Config.initialize
        forget_token = _raylet.AuthenticationTokenLoader.instance().reset_cache
    except AttributeError as error:
        raise RunError(
            f"expected Ray {_KNOWN_RAY}, got {ray.__version__}, which reads its token in another way: {error}"
        ) from None

    def read_anew() -> None:
        read_settings("")
        forget_token()

    return read_anew
