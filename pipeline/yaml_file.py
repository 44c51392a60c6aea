"""YAML from outside: plain values only, bounded, every key once, and every error in one line without the values.

PyYAML's ``safe_load`` runs nothing, but it expands aliases without bound (a file of a kilobyte can become gigabytes),
fails in many ways beside its own error, takes the last of two equal keys without a word, and quotes the line that it
cannot read, password and all.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from pipeline.errors import ConfigError
from pipeline.redaction import redact

_MAX_VALUES = 100_000
_MAX_DEPTH = 50
_MAX_DIGITS = 18
# An alias or tag, as which a password passes that begins with * or !; not what PyYAML itself calls '<scalar>' or ','.
_NAME_IN_QUOTES = re.compile(r" '[^\s'<][^\s']+'")


class _TooMuchError(Exception):
    """What the document is, in words."""


def parse_yaml(text: str, *, source: str) -> Any:
    """Read one YAML document.

    Args:
        text: the document.
        source: what errors call it.

    Raises:
        ConfigError: it is no YAML, or more or other than settings can be; one line.
    """
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_bounds(node, {}, frozenset())
        return loader.construct_document(node)
    except (yaml.YAMLError, _TooMuchError) as error:
        raise ConfigError(f"{source}: expected YAML, got {_said(error)}") from None
    except RecursionError:
        raise ConfigError(f"{source}: expected YAML, got values nested more than {_MAX_DEPTH} deep") from None
    except (ValueError, AttributeError, TypeError, LookupError, OverflowError):
        # PyYAML's constructors of numbers, dates and tagged values, which trust what they are given.
        raise ConfigError(
            f"{source}: expected YAML, got a number, date or tagged value that is none; put text into quotes"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def _check_bounds(node: yaml.Node, known: dict[int, tuple[int, int]], above: frozenset[int]) -> tuple[int, int]:
    """How many values a node stands for once its aliases are written out, and how deep they are nested.

    Raises:
        _TooMuchError: too many or too deep, a value inside itself, a key twice, or a number of absurd length.
    """
    line = f"line {node.start_mark.line + 1}"
    if id(node) in above:
        raise _TooMuchError(f"a value that holds itself, {line}")
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    size, depth = 1, 0
    for child in children:
        below = _check_bounds(child, known, above | {id(node)})
        size, depth = size + below[0], max(depth, below[1] + 1)
        if size > _MAX_VALUES:
            raise _TooMuchError(f"more than {_MAX_VALUES:,} values, {line}")
        if depth > _MAX_DEPTH:
            raise _TooMuchError(f"values nested more than {_MAX_DEPTH} deep, {line}")
    if node.tag == "tag:yaml.org,2002:int" and len(node.value) > _MAX_DIGITS:
        raise _TooMuchError(f"a number of {len(node.value)} digits, {line}")
    known[id(node)] = size, depth
    return size, depth


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in seen:
                raise _TooMuchError(f"the key {key.value!r} twice, line {key.start_mark.line + 1}")
            seen.add(key.value)


def _said(error: Exception) -> str:
    """The error in one line; without the lines it happened in, or names in them, where passwords may stand."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        problem, names = _NAME_IN_QUOTES.subn("", str(error.problem))
        hint = " (text that begins with *, & or ! needs quotes)" if names else ""
        text = f"{problem}, line {mark.line + 1}, column {mark.column + 1}{hint}"
    else:
        text = str(error).split("\n", 1)[0]
    return redact(" ".join(text.split()))
