"""Config files that somebody made up to break the reader: bombs, odd notations, variables where they do not belong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.errors import ConfigError
from tests.fuzz.targets import EXAMPLES

_SLOWEST_S = 3.0  # of CPU time; what takes longer here would take for ever with a few bytes more
_SECRET = "hush8!hush"  # no valid id: ids are shown
_ENVIRONMENT = {"GATE_PASSWORD": _SECRET, "REDIS_URL": f"redis://:{_SECRET}@127.0.0.1:1/0"}
_ADDRESS = f"rtsp://viewer:{_SECRET}@127.0.0.1:1/main"

_WORDS = (
    *("&a ", "*a", "[", "]", "{", "}", "- ", ": ", "? ", "<<: *a\n", "!!int ", "!!timestamp ", "!!binary ", "!!bool "),
    *(
        "!!float ",
        "!!set ",
        "!!omap ",
        "!!pairs ",
        "!!python/object:os.system ",
        "!x ",
        "%YAML 9.9\n",
        "---\n",
        "...\n",
    ),
    *("|\n", ">-\n", "\t", "\0", "#", "'", '"', '"\\ud800"', "\ud800", "\ufeff", "\u2028", "\x85", "\r", "\n", "\n  "),
    *("${GATE_PASSWORD}", "${REDIS_URL}", "${", "${X:-", "${UNSET}", "0x", "0b_", "1:2:3", ".nan", "-.inf", "1e999"),
    *("9" * 5000, "~", "y", "2001-99-99", "2001-01-01T99:00:00Z", "cameras:", "url: ", "null", "''", "=", "@", "`"),
)


def _keys_of(settings: Any) -> set[str]:
    keys = set()
    for name, field in settings.model_fields.items():
        inner = (field.annotation, *getattr(field.annotation, "__args__", ()))
        keys |= {name}.union(*(_keys_of(kind) for kind in inner if hasattr(kind, "model_fields")))
    return keys


_scalars = st.one_of(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=20) | st.binary(max_size=6),
    st.sampled_from([10**17, 10**18, 10**400, -(10**30), 2**63, 2**64]),
    st.text(st.characters(categories=["Cs", "Cc", "Zl", "Cf"]), max_size=4),
    st.sampled_from(["auto", "cpu", "embedded", "a" * 300, "../x", "\0", "x" * 5000]),
    st.sampled_from(["${GATE_PASSWORD}", "${REDIS_URL}", "a${GATE_PASSWORD}", "${GATE_PASSWORD} "]),
    st.sampled_from([_ADDRESS, f"see {_ADDRESS}", f"http://h/?user=a&pwd={_SECRET}", f"viewer:{_SECRET}@127.0.0.1"]),
    st.dates() | st.datetimes(),
)
_keys = st.sampled_from(sorted(_keys_of(Config))) | _scalars
_trees = st.recursive(
    _scalars,
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(_keys, below, max_size=5)
        | st.lists(_scalars, max_size=3).map(set)
    ),
    max_leaves=20,
)
_sections = st.dictionaries(st.sampled_from(sorted(Config.model_fields)), _trees, max_size=4)


@st.composite
def _with_odd_words(draw: st.DrawFn) -> str:
    """An example with words put into it that mean something to a YAML reader."""
    text = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.sampled_from([0, 0, 1, 8, 60]))
        text = text[:start] + draw(st.sampled_from(_WORDS)) + text[end:]
    return text


@st.composite
def _bombs(draw: st.DrawFn) -> str:
    """A kilobyte that stands for gigabytes, or for a tree as deep as it is long."""
    kind = draw(st.sampled_from(["list", "mapping", "merge", "deep", "circle"]))
    if kind == "deep":
        # Not deeper: Hypothesis raises Python's recursion limit, behind which PyYAML takes time with the square.
        return draw(st.sampled_from(["[", "{a: ", "- ", "? ", "!!set {", "&a [", "cameras: ["])) * draw(
            st.integers(1, 600)
        )
    if kind == "circle":
        return draw(st.sampled_from(["a: &a [*a]", "&a {model: *a}", "a: &a {<<: *a}", "&a [*a]", "? &a [*a]\n: 1"]))
    levels, width = draw(st.integers(1, 40)), draw(st.integers(1, 12))
    lines = ["a0: &a0 [1]" if kind == "list" else "a0: &a0 {x: 1}"]
    for level in range(1, levels):
        uses = [f"*a{level - 1}"] * width
        inside = {
            "list": f"[{', '.join(uses)}]",
            "mapping": f"{{{', '.join(f'k{place}: {use}' for place, use in enumerate(uses))}}}",
            "merge": f"{{<<: [{', '.join(uses)}]}}",
        }[kind]
        lines.append(f"a{level}: &a{level} {inside}")
    place = draw(st.sampled_from(["model: ", "cameras: ", "model: {encoder: {arguments: ", "training: {epochs: "]))
    return "\n".join([*lines, f"{place}*a{levels - 1}{'}' * place.count('{')}"])


hostile_configs = st.one_of(
    _with_odd_words(),
    _bombs(),
    st.lists(st.sampled_from(_WORDS), max_size=12).map("".join),
    (_sections | _trees).map(lambda tree: yaml.safe_dump(tree, allow_unicode=True)),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


def check_hostile_config(path: Path, content: bytes) -> None:
    """A file becomes settings or lines that name it, soon, and never shows what a variable or an address hides."""
    path.write_bytes(content)
    started_s = time.process_time()
    try:
        load_config(path, _ENVIRONMENT)
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert line.startswith(f"{path}: "), line
            assert line.isprintable(), repr(line)
            assert _SECRET not in line, line
    assert time.process_time() - started_s < _SLOWEST_S
