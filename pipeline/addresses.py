"""Which addresses mean something: by their scheme alone, without opening anything and without showing anything else."""

from __future__ import annotations

import difflib
import re

LIVE_SCHEMES = (
    *("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtmpt", "rtmpts"),
    *("rtp", "srtp", "udp", "tcp", "tls", "mmsh", "mmst"),
)
"""What cameras and encoders speak, of what PyAV's FFmpeg reads. Its other protocols lead to files and services that are
no camera (``concat``, ``subfile``, ``ftp`` and so on)."""

REDIS_SCHEMES = ("redis", "rediss", "unix")

_USUAL = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps")  # what a mistyped scheme was most likely meant to be
_GATEWAY = "let a media gateway offer it as rtsp://"
_NOT_READ = {
    **dict.fromkeys(("srt", "rist", "webrtc", "whep", "whip", "ndi"), _GATEWAY),
    "hls": "write the http:// address of its playlist",
    "onvif": "ask the camera for its stream's rtsp:// address",
}
"""What cameras and encoders are also said to speak, by scheme, and what to do."""

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_NEARLY = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,30})(?P<after>:/?|//)(?!/)")


def scheme_of(address: str) -> str | None:
    """What stands before ``://``, in small letters; None for a path.

    >>> scheme_of("RTSP://camera/main"), scheme_of("footage/gate.mp4")
    ('rtsp', None)
    """
    match = _SCHEME.match(address)
    return match["scheme"].lower() if match else None


def is_live(url: str) -> bool:
    """Whether the address is a live stream (``rtsp://``, ``http://``...), not a file or a folder.

    >>> is_live("rtsp://camera/main"), is_live("footage/gate.mp4"), is_live("file:///footage/gate.mp4")
    (True, False, False)
    """
    return scheme_of(url) not in {None, "file"}


def camera_address_error(address: str) -> str | None:
    """Why no camera, file or folder can have this address, in words that show its scheme alone; None if one can."""
    if address != address.strip():
        return "expected an address or a path without blanks around it"
    scheme = scheme_of(address)
    if scheme is not None:
        if scheme in {*LIVE_SCHEMES, "file"}:
            return None
        known = ", ".join(LIVE_SCHEMES)
        return f"expected a path, or an address of {known} or file, got {scheme[:30]}://{_meant(scheme, _USUAL)}"
    nearly = _NEARLY.match(address)
    if nearly is None:
        return None
    scheme = nearly["scheme"].lower()
    meant = scheme if scheme in LIVE_SCHEMES else _similar(scheme, _USUAL) if nearly["after"] == ":/" else None
    return f"expected :// after the scheme, got something else there (did you mean {meant}://?)" if meant else None


def redis_address_error(address: str) -> str | None:
    """Why no Redis can have this address, in words that show its scheme alone; None if one can."""
    known = " or ".join([", ".join(f"{name}://" for name in REDIS_SCHEMES), "'embedded'"])
    if address == "embedded" or address.startswith(tuple(f"{name}://" for name in REDIS_SCHEMES)):
        return None
    scheme = scheme_of(address)
    if scheme is not None:
        return f"expected {known}, got {address[: len(scheme)][:30]}://{_meant(scheme, REDIS_SCHEMES)}"
    if _similar(address, ("embedded",)) is not None:
        return f"expected {known}, got another word (did you mean embedded?)"
    return f"expected {known}, got an address without any of these"


def _meant(scheme: str, known: tuple[str, ...]) -> str:
    if scheme in _NOT_READ:
        return f", which this FFmpeg does not read: {_NOT_READ[scheme]}"
    meant = _similar(scheme, known)
    return f" (did you mean {meant}://?)" if meant else ""


def _similar(word: str, known: tuple[str, ...]) -> str | None:
    """The known word that was most likely meant, if any."""
    word = word[:30].lower()
    swapped = [name for name in known if sorted(name) == sorted(word)]
    return next(iter(swapped or difflib.get_close_matches(word, known, n=1, cutoff=0.7)), None)
