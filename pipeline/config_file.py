"""Reading settings from YAML: variables, paths, and errors of one line each.

``load_config`` fills ``${NAME}`` and ``${NAME:-default}`` from the environment (percent-encoded in the place of an
address's user or password, where they could not stand as they are), and answers a wrong key or value with
its path, what was expected and what came. A command that needs a part of the settings names it, and so asks for no
secret of another part: whoever reads alerts need not know the cameras' passwords.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.addresses import encoded_user_info, fills_user_info
from pipeline.camera_settings import is_identifier
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.methods import chosen_method
from pipeline.model_settings import Settings
from pipeline.redaction import redact
from pipeline.sinks.kinds import settings_class
from pipeline.yaml_file import parse_yaml

_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class _Filled(str):
    """Text that came out of variables, with what stood in the file; errors show that, as the variable may be secret."""

    __slots__ = ("written",)
    written: str

    def __repr__(self) -> str:
        return repr(self.written)


def load_config(
    path: Path, environment: Mapping[str, str] | None = None, *, only: Collection[str] | None = None
) -> Config:
    """Read a YAML file into a ``Config``.

    Relative paths of files that must exist (``model.encoder.weights``, ``model_folder``, camera files, a sink's
    ``ca_file``) are looked up beside the YAML file first, then in the working folder; ``output.folder`` is taken from
    the working folder.

    Args:
        path: the YAML file.
        environment: where ``${NAME}`` is looked up; the process's own by default.
        only: sections to read; the others are as if they were not in the file, whatever they hold. None reads all.

    Raises:
        ConfigError: the file cannot be read, is no YAML mapping, names a variable that is not set, or holds a wrong
            key or value. One line per error, each with the key's path, what was expected and what came.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable YAML file, got: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected a readable YAML file, got bytes that are no UTF-8") from error
    raw = parse_yaml(text, source=str(path))
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(raw).__name__}")
    if only is not None:  # what is no section at all stays, and is answered as ever
        raw = {key: value for key, value in raw.items() if key in only or key not in Config.model_fields}
    filled = fill_variables(raw, environment, source=str(path))
    return parse_config(_resolve_paths(filled, path.parent), source=str(path))


def load_run_config(path: Path) -> Config:
    """Read the settings of a run, all of them.

    Raises:
        ConfigError: as ``load_config``, or they name no camera.
    """
    config = load_config(path)
    if not config.cameras:
        raise ConfigError(f"{path}: cameras: expected at least one camera, got none")
    return config


def parse_config(data: Mapping[str, Any], source: str = "config") -> Config:
    """Check plain values and build a ``Config`` of them.

    Raises:
        ConfigError: one line per error, as ``source: key.path: expected ..., got ...``.
    """
    try:
        return Config.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError("\n".join(_error_lines(error, data, source))) from None


def with_method(config: Config, name: str | None) -> Config:
    """The same settings for another method.

    Args:
        config: the settings.
        name: one of ``pipeline.methods.CHOICES``, or None for the configuration's own. ``conditional`` is ``cflow``
            with all of the condition, as published, ``unconditional`` without the position.

    Raises:
        ConfigError: no such method.
    """
    if name is None:
        return config
    method, stated = chosen_method(name)
    changed: dict[str, Any] = {"method": method.name}
    if stated:
        changed[method.section] = getattr(config.model, method.section).model_copy(update=stated)
    return config.model_copy(update={"model": config.model.model_copy(update=changed)})


def _error_lines(error: ValidationError, data: Mapping[str, Any], source: str) -> list[str]:
    """Say each error in one line and once, without the values of secrets."""
    lines = []
    cameras = data.get("cameras")
    names = _names(cameras) if isinstance(cameras, list | tuple) else ()
    details = error.errors(include_url=False)
    of_defaults = {
        (detail["msg"], detail["loc"][1:]) for detail in details if detail["loc"][0:1] == ("camera_defaults",)
    }
    for detail in details:
        loc = detail["loc"]
        if loc[0:1] == ("cameras",) and len(loc) > 1 and isinstance(loc[1], int) and names:
            if (detail["msg"], loc[2:]) in of_defaults and not _states(data, loc):
                continue  # it came from camera_defaults, where it is reported
            loc = ("cameras", names[loc[1]], *loc[2:])
        where = _dotted(loc)
        if detail["type"] == "extra_forbidden":
            known = _known_keys(detail["loc"][:-1], data)
            is_named = detail["input"] is not None or difflib.get_close_matches(str(detail["loc"][-1]), known)
            if not is_named:  # what follows a comma in `{url: rtsp://viewer:pass,word@gate}` is one
                where = _dotted(loc[:-1])
            what = "unknown key" if is_named else "unknown key without a value (within {} put an address into quotes)"
            said = f"{what}; expected one of: {', '.join(known)}"
        elif detail["type"] == "missing":
            said = "expected a value, got nothing"
        elif detail["type"] == "value_error":
            said = str(detail.get("ctx", {}).get("error", detail["msg"]))
            if isinstance(detail["input"], str | int | float) and ", got " not in said:
                said += f", got {_shown(where, detail['input'])}"
        else:
            said = f"{detail['msg'][0].lower()}{detail['msg'][1:]}, got {_shown(where, detail['input'])}"
        lines.append(redact(f"{source}: {where}: {said}"))
    return lines


def _states(data: Mapping[str, Any], location: tuple[int | str, ...]) -> bool:
    """Whether a value of its own stands at a place of what was given, before ``camera_defaults`` were laid under it."""
    node: Any = data
    for part in location:
        try:
            node = node[part]
        except (LookupError, TypeError):
            return False
    return not isinstance(node, dict)


def _names(items: Sequence[Any]) -> list[str]:
    """What messages call the items of a list: their ids where these are sound and nobody else's, else their numbers.

    Ids that differ in case alone count as one: no two cameras may have them.
    """
    ids = [item.get("id") if isinstance(item, dict) else None for item in items]
    seen = Counter(found.lower() for found in ids if isinstance(found, str))
    return [
        str(found) if isinstance(found, str) and is_identifier(found) and seen[found.lower()] == 1 else str(number)
        for number, found in enumerate(ids)
    ]


def _known_keys(location: tuple[int | str, ...], data: Mapping[str, Any]) -> list[str]:
    """Keys that the settings at a location of the data have."""
    node: Any = Config
    for place, part in enumerate(location):
        if location[:place] == ("sinks",) and isinstance(part, int):  # what has keys of its own, kind by kind
            node = settings_class(data["sinks"][part].get("kind"))
            continue
        if isinstance(part, int):
            continue
        node = _settings_in(node.model_fields[part].annotation)
    return sorted(node.model_fields)


def _settings_in(annotation: Any) -> Any:
    """The class of settings that an annotation is, or holds, however deep: as items of a tuple, or beside None."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    return next(filter(None, map(_settings_in, getattr(annotation, "__args__", ()))), None)


def _shown(where: str, value: Any) -> str:
    """A value for a message; addresses, and mappings in the place of something else, may hold secrets."""
    if isinstance(value, dict):
        return "a mapping"
    text = "" if where.rsplit(".", 1)[-1] in {"url", "secret"} else repr(value)
    if not text or "://" in text or "@" in text:
        return f"a {'str' if isinstance(value, str) else type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def _dotted(location: Sequence[int | str]) -> str:
    return ".".join(map(_key, location)) or "top level"


def _key(part: object) -> str:
    """A key for a message, in one line."""
    text = str(part)
    return text if text.isprintable() else repr(text)


def fill_variables(value: Any, environment: Mapping[str, str] | None = None, *, source: str, where: str = "") -> Any:
    """Replace ``${NAME}`` and ``${NAME:-default}`` in every string of a tree.

    Args:
        value: the tree.
        environment: where names are looked up; the process's own by default.
        source: what errors call the tree.
        where: path of the value in it.

    Raises:
        ConfigError: a variable without a default is not set, or a string holds what no file name or address may.
    """
    known = os.environ if environment is None else environment
    if isinstance(value, dict):
        return {
            key: fill_variables(item, known, source=source, where=f"{where}.{_key(key)}" if where else _key(key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            fill_variables(item, known, source=source, where=f"{where}.{name}")
            for name, item in zip(_names(value), value, strict=True)
        ]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        found = known.get(match["name"], match["default"])
        if found is None:
            raise ConfigError(
                redact(f"{source}: {where}: expected the environment variable {match['name']}, got nothing")
            )
        before, after = (_VARIABLE.sub("", part) for part in (value[: match.start()], value[match.end() :]))
        return encoded_user_info(found) if fills_user_info(before, after) else found

    filled = _VARIABLE.sub(look_up, value)
    if _NOT_TEXT.search(filled):
        raise ConfigError(redact(f"{source}: {where}: expected text, got a NUL or half of a surrogate pair in it"))
    if filled == value:
        return value
    shielded = _Filled(filled)
    shielded.written = value
    return shielded


def _resolve_paths(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make relative paths that exist beside the YAML file absolute; all others stay relative to the working folder."""

    def resolved(value: Any) -> Any:
        if not isinstance(value, str) or "://" in value or value in {"pretrained", "random"}:
            return value
        beside = folder / value
        try:
            return str(beside.resolve()) if not Path(value).is_absolute() and beside.exists() else value
        except OSError:  # too long for a name
            return value

    result = dict(raw)
    if "model_folder" in result:
        result["model_folder"] = resolved(result["model_folder"])
    model = result.get("model")
    if isinstance(model, dict) and isinstance(model.get("encoder"), dict) and "weights" in model["encoder"]:
        encoder = {**model["encoder"], "weights": resolved(model["encoder"]["weights"])}
        result["model"] = {**model, "encoder": encoder}
    if isinstance(result.get("sinks"), list):
        result["sinks"] = [
            {**sink, "ca_file": resolved(sink["ca_file"])} if isinstance(sink, dict) and "ca_file" in sink else sink
            for sink in result["sinks"]
        ]
    if isinstance(result.get("cameras"), list):
        result["cameras"] = [
            {**camera, "url": resolved(camera["url"])} if isinstance(camera, dict) and "url" in camera else camera
            for camera in result["cameras"]
        ]
    return result
