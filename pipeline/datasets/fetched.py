"""Footage that is elsewhere: a copy of its folder on this machine, brought up to date whenever it is asked for."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import DatasetError
from pipeline.files import replace_whole, write_whole
from pipeline.private_folder import cache_folder, make_private
from pipeline.redaction import redact
from pipeline.remote_files import file_system, reason

_OF_THIS_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_OF_A_VERSION = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")


def fetched_footage(address: str, say: Callable[[str], None]) -> Path:
    """A folder of this machine with the files that lie at an address; what it has already is not fetched again.

    Files that are gone there are deleted here. The copy stays in this user's cache folder, under ``footage``.

    Args:
        address: of a folder, of any file system that fsspec has a driver for; it may hold a password.
        say: told what is fetched, one line.

    Returns:
        The folder, named as the one at the address.

    Raises:
        DatasetError: nothing is there, it cannot be read, or there is no room for it.
    """
    system, path = file_system(address, DatasetError)
    versions = _versions(system, path, address)
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        own = cache_folder("footage")
        with _alone(own / f"{name}.lock"):
            make_private(own / name)
            folder, known_file = own / name / (PurePosixPath(path).name or "footage"), own / f"{name}.json"
            known = {file: version for file, version in _known(known_file).items() if (folder / file).is_file()}
            wanting = sorted(file for file, version in versions.items() if known.get(file) != version)
            if wanting:
                say(f"fetching {len(wanting):,} of {len(versions):,} files from {redact(address)}")
            for file in known.keys() - versions.keys():
                (folder / file).unlink(missing_ok=True)
            try:
                for file in wanting:
                    _fetch(system, f"{path.rstrip('/')}/{file}", folder / file, address)
                    known[file] = versions[file]
            finally:  # the next time it goes on from here
                kept = {file: version for file, version in known.items() if file in versions}
                write_whole(known_file, json.dumps(kept) + "\n")
    except OSError as error:
        raise DatasetError(
            f"{redact(address)}: expected room for a copy in the cache folder, got: {error.strerror or error}"
        ) from None
    return folder


def _versions(system: Any, path: str, address: str) -> dict[str, str]:
    """Every file below a path, relative to it, and which version of it that is."""
    try:
        found: Mapping[str, Mapping[str, Any]] = system.find(path, detail=True)
        versions = {_relative(file, path): _version(info) for file, info in found.items()}
    except Exception as error:
        raise DatasetError(f"{redact(address)}: cannot be listed: {reason(error)}") from None
    if not versions:
        raise DatasetError(f"{redact(address)}: expected a folder with footage, found no file there")
    if astray := next((file for file in versions if not _is_below(file)), None):
        raise DatasetError(f"{redact(address)}: expected names of files that can be had here, too, got {astray[:80]!a}")
    return versions


def _relative(file: str, path: str) -> str:
    return file.removeprefix(path.rstrip("/")).lstrip("/")


def _is_below(file: str) -> bool:
    parts = PurePosixPath(file).parts
    return bool(parts) and ".." not in parts and "\0" not in file and not PurePosixPath(file).is_absolute()


def _version(info: Mapping[str, Any]) -> str:
    return " ".join(str(info[key]) for key in _OF_A_VERSION if key in info)


def _known(file: Path) -> dict[str, str]:
    """Which versions of files were fetched before."""
    with suppress(OSError, ValueError):
        known = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return {str(name): str(version) for name, version in known.items() if _is_below(str(name))}
    return {}


def _fetch(system: Any, remote: str, file: Path, address: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(file) as staged:
        try:
            system.get_file(remote, str(staged))
        except OSError as error:
            if error.errno in _OF_THIS_DISK:
                raise
            raise DatasetError(f"{redact(address)}: {file.name} cannot be fetched: {reason(error)}") from None
        except Exception as error:
            raise DatasetError(f"{redact(address)}: {file.name} cannot be fetched: {reason(error)}") from None


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until nobody else brings the same copy up to date."""
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
