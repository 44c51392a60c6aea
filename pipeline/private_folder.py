"""The user's own folder among temporary files: what lies there is nobody else's, and is found again by its name.

A name that is made anew every time would leave a file behind for every process that was killed; one that follows from
what it belongs to is used again instead.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from pipeline.errors import BadInputError

_LONGEST_SOCKET_BYTES = 107  # what the kernel takes as a socket's path


def user_folder(variable: str, below_home: str) -> Path:
    """A folder that the XDG specification gives every user; it need not be there.

    Args:
        variable: of the environment, which names it.
        below_home: where it is in the user's home by default.

    Raises:
        FileNotFoundError: the variable is not set, and the user has no home: no HOME, and no entry among the users.
    """
    if named := os.environ.get(variable):
        return Path(named)
    try:
        return Path.home() / below_home
    except RuntimeError:
        raise FileNotFoundError(
            errno.ENOENT, f"this user has no home, and neither HOME nor {variable} is set"
        ) from None


def cache_folder(name: str) -> Path:
    """Where something is kept that can be had again: a folder that is this user's alone, so that it may be code.

    Args:
        name: of the folder, among those of this project.

    Raises:
        OSError: it cannot be made, or another user could have put something there.
    """
    root = user_folder("XDG_CACHE_HOME", ".cache")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    own = root / "cflow-stream"
    make_private(own)
    make_private(own / name)
    return own / name


def temporary_folder() -> Path:
    """Where temporary files go.

    Raises:
        BadInputError: there is no such folder that can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise BadInputError("expected a temporary folder that can be written (TMPDIR, /tmp), found none") from None


def private_folder() -> Path:
    """Where it is; it need not be there yet.

    Raises:
        BadInputError: there is no temporary folder.
    """
    return temporary_folder() / f"cflow-stream-{os.getuid()}"


def folder_for_sockets(longest: str) -> Path:
    """The user's own folder, or one in ``/tmp`` where the paths of sockets in it would be too long.

    Args:
        longest: of the names of sockets, with the folders between.
    """
    own = private_folder()
    return own if len(os.fsencode(own / longest)) <= _LONGEST_SOCKET_BYTES else Path("/tmp") / own.name


def make_private(folder: Path) -> None:
    """Make a folder, or see that it is this user's: anybody may make folders in ``/tmp``.

    Args:
        folder: what is above it must be there.

    Raises:
        OSError: it cannot be made, or another user could put something there under a name of ours: it is theirs, or
            they may write into it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if {folder.lstat().st_uid, folder.stat().st_uid} != {os.geteuid()}:  # a link, and what it leads to
        raise PermissionError(errno.EPERM, f"{folder} belongs to another user")
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, f"{folder} can be written into by other users; delete it")


def private_socket(kind: str, folder: Path) -> Path:
    """The path of a Unix socket that only this user can reach, always the same for a folder, and short enough for one.

    Args:
        kind: of the socket.
        folder: what it belongs to.

    Raises:
        OSError: the user's own folder cannot be made, or is another user's.
    """
    name = f"{kind}-{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.sock"
    own = folder_for_sockets(name)
    make_private(own)
    return own / name
