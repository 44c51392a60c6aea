"""The configs that come with the program, wherever it was installed."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import BadInputError

_PACKAGE = Path(__file__).resolve().parent


def shipped_config(name: str) -> Path:
    """Where a config lies that came with the program.

    Args:
        name: of the file, such as ``demo.yaml`` or ``monitoring/alerts.yaml``.

    Raises:
        BadInputError: none has that name.
    """
    known = shipped_configs()
    if name not in known:
        raise BadInputError(f"expected one of {', '.join(known)}, got {name!r}")
    return _folder() / name


def shipped_configs() -> list[str]:
    """The names of all of them, in alphabetical order."""
    folder = _folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _folder() -> Path:
    """In a wheel they lie in this package (pyproject.toml puts them there), in a checkout beside it."""
    installed = _PACKAGE / "_configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"
