"""Files of file systems that fsspec has a driver for: ``s3://bucket/folder``, ``gs://...`` and others."""

from __future__ import annotations

from typing import Any

from pipeline.errors import CflowError
from pipeline.redaction import redact

_LONGEST_REASON = 300


def is_address(place: str) -> bool:
    """Whether a place is an address, and not a path of this machine."""
    return "://" in place


def file_system(address: str, error: type[CflowError]) -> tuple[Any, str]:
    """An fsspec file system, and the path of an address in it.

    Args:
        address: of a file or folder; it may hold a password.
        error: what is raised.

    Raises:
        error: no driver of it is installed, or nobody knows any.
    """
    import fsspec

    try:
        return fsspec.url_to_fs(address)
    except (ImportError, ValueError) as cause:
        raise error(
            f"{redact(address)}: expected an address that this machine can read, got: {reason(cause)}"
        ) from None


def reason(error: Exception) -> str:
    """What a driver says, in one line without credentials; every driver has errors of its own."""
    return redact(" ".join(str(error).split()))[:_LONGEST_REASON] or error.__class__.__name__
