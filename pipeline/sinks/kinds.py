"""The sinks that the config may name: ``to_<kind>.py`` in this folder, with one class of settings each."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, cast

import pipeline.sinks
from pipeline.sinks.base import SinkSettings

_PREFIX = "to_"


def sink_kinds() -> list[str]:
    """What the key ``kind`` may say."""
    modules = (module.name for module in pkgutil.iter_modules(pipeline.sinks.__path__))
    return sorted(name.removeprefix(_PREFIX) for name in modules if name.startswith(_PREFIX))


def settings_class(kind: object) -> type[SinkSettings]:
    """The settings of a kind of sink.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in sink_kinds():
        raise ValueError(f"expected a kind that is one of {', '.join(sink_kinds())}, got {_shown(kind)}")
    module = importlib.import_module(f"{pipeline.sinks.__name__}.{_PREFIX}{kind}")
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, SinkSettings) and value.__module__ == module.__name__
    )


def parse_sink(value: Any) -> SinkSettings:
    """Settings of the kind that a mapping names.

    Raises:
        ValueError: it is no mapping, or names no known kind.
        ValidationError: a key or a value is wrong for that kind.
    """
    if isinstance(value, SinkSettings):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping with the key 'kind', got {type(value).__name__}")
    said = cast("dict[str, Any]", value)
    return settings_class(said.get("kind")).model_validate(said)


def _shown(kind: object) -> str:
    return "none" if kind is None else repr(kind)[:40]
