"""Which addresses mean something: by their text alone, without opening anything and without showing more than a scheme.

FFmpeg, redis-py and httpx all end user, password, host and port at the first ``/``, ``?`` or ``#``. A password that
holds one of these unencoded, as ``rtsp://admin:57#x@10.0.0.7``, would send them to another host (``admin``, port 57)
and into messages as that host's name. So an address is used only if it can be read in one way.
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes

from pipeline.redaction import SECRET_KEY, SECRET_VALUE

LIVE_SCHEMES = (
    *("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtmpt", "rtmpts"),
    *("rtp", "srtp", "udp", "tcp", "tls", "mmsh", "mmst"),
)
"""What cameras and encoders speak, of what PyAV's FFmpeg reads. Its other protocols lead to files and services that are
no camera (``concat``, ``subfile``, ``ftp`` and so on)."""

REDIS_SCHEMES = (
    *("redis", "rediss", "unix"),
    *("redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel"),
)

_USUAL = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps")  # what a mistyped scheme was most likely meant to be
_RTMP = ("rtmp", "rtmps", "rtmpt", "rtmpts")
_LISTENING = ("rtp", "srtp", "udp", "tcp", "tls")  # at all addresses of this machine, where they name no host
# What FFmpeg 8 copies into: the end of a longer password would be left off without a word.
_LONGEST_USER_INFO_BYTES = {"rtsp": 127, "rtsps": 127, **dict.fromkeys(_RTMP, 99)}
_LONGEST_OTHER_USER_INFO_BYTES = 1023
_GATEWAY = "let a media gateway offer it as rtsp://"
_NOT_READ = {
    **dict.fromkeys(("srt", "rist", "webrtc", "whep", "whip", "ndi"), _GATEWAY),
    "hls": "write the http:// address of its playlist",
    "onvif": "ask the camera for its stream's rtsp:// address",
}
"""What cameras and encoders are also said to speak, by scheme, and what to do."""

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_NEARLY = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,30})(?P<after>:/?|//)(?!/)")
_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user_info>[^/?#]*)@)?(?P<server>[^/?#@]*)(?P<rest>.*)", re.DOTALL
)
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.%-]+)?\]|[^\[\]:]*)(?::(?P<port>[0-9]{0,5}))?", re.ASCII)
_IP_SERVER = re.compile(r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")
_SECRET_CUT = re.compile(rf"(?i){SECRET_KEY}{SECRET_VALUE}{{0,500}}[\s#]")
_DATABASE = re.compile(r"(?:/(?P<number>[0-9]{0,9})/?)?")

_ENCODED = "# as %23, / as %2F, ? as %3F, % as %25, an at sign as %40"
# No message holds an at sign after a colon: `redact` takes what stands before one for a password.
_TWO_WAYS = (
    f"expected special characters of user and password percent-encoded ({_ENCODED}), an at sign behind the host, too, "
    "got an address that can be read in two ways"
)
_NO_SERVER = (
    "expected a host and, if any, a port from 1 to 65535 (IPv6 in brackets, special characters of user and password "
    f"percent-encoded: {_ENCODED}), got something else"
)


class AddressParts(NamedTuple):
    """An address cut where those cut it that connect; as it is written, percent-encoded or not.

    Attributes:
        scheme: in small letters.
        user_info: user, colon and password; None where the address has no at sign before its path.
        server: host, or host and port; may be empty.
        rest: path, query and fragment.
    """

    scheme: str
    user_info: str | None
    server: str
    rest: str


def split_address(address: str) -> AddressParts | None:
    """Cut an address into its parts; None for a path.

    >>> split_address("RTSP://viewer:p@ss@10.0.0.7:8554/main?x=1")
    AddressParts(scheme='rtsp', user_info='viewer:p@ss', server='10.0.0.7:8554', rest='/main?x=1')
    """
    match = _PARTS.fullmatch(address)
    return AddressParts(match["scheme"].lower(), *match.group("user_info", "server", "rest")) if match else None


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


def server_error(parts: AddressParts, *, needs_host: bool = True) -> str | None:
    """Why nobody can tell which host an address means, in words that show nothing of it; None if one can.

    Args:
        parts: the address. Its server may be several, with commas between them.
        needs_host: whether it has to name a host.
    """
    if "@" in parts.rest and not _ends_before(parts):
        return _TWO_WAYS
    for server in parts.server.split(","):
        match = _SERVER.fullmatch(server)
        if match is None or not _is_host(match["host"]) or (needs_host and not match["host"]):
            return _NO_SERVER
        if match["port"] and not 1 <= int(match["port"]) <= 65535:
            return _NO_SERVER
    return None


def _ends_before(parts: AddressParts) -> bool:
    """Whether host and port surely end where they seem to, and an at sign in path or query belongs there.

    An at sign there could end user and password. Not where there is no colon before it, since a password follows one,
    and nobody is called like an IP address: some cameras want ``http://10.0.0.7:81/main?user=viewer&pwd=p@ss``.
    """
    path, at, _ = parts.rest.partition("?")[0].partition("@")
    if parts.user_info is not None or (at and ":" in path) or parts.rest.startswith("#"):
        return False
    return ":" not in parts.server or _IP_SERVER.fullmatch(parts.server) is not None


def _is_host(host: str) -> bool:
    """Whether a name can be looked up: Python's way of looking up fails on others with errors that show them."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def camera_address_error(address: str) -> str | None:
    """Why no camera, file or folder can have this address, in words that show its scheme alone; None if one can."""
    if address != address.strip():
        return "expected an address or a path without blanks around it"
    parts = split_address(address)
    if parts is not None:
        if parts.scheme in LIVE_SCHEMES:
            return _live_address_error(parts)
        if parts.scheme == "file":
            return None
        known, scheme = ", ".join(LIVE_SCHEMES), parts.scheme
        return f"expected a path, or an address of {known} or file, got {scheme[:30]}://{_meant(scheme, _USUAL)}"
    nearly = _NEARLY.match(address)
    if nearly is None:
        return None
    scheme = nearly["scheme"].lower()
    meant = scheme if scheme in LIVE_SCHEMES else _similar(scheme, _USUAL) if nearly["after"] == ":/" else None
    return f"expected :// after the scheme, got something else there (did you mean {meant}://?)" if meant else None


def _live_address_error(parts: AddressParts) -> str | None:
    error = server_error(parts, needs_host=parts.scheme not in _LISTENING)
    if error is None and parts.user_info is not None:
        error = _user_info_error(parts.scheme, parts.user_info)
    if error is None and _SECRET_CUT.search(parts.rest):  # whoever sends it, gets it or shows it ends it there
        error = f"expected a secret's special characters percent-encoded ({_ENCODED}, a blank as %20), got others"
    return error


def _user_info_error(scheme: str, user_info: str) -> str | None:
    """Why FFmpeg would send another user or password than the one that is written."""
    sent = _sent_user_info(scheme, user_info)
    longest = _LONGEST_USER_INFO_BYTES.get(scheme, _LONGEST_OTHER_USER_INFO_BYTES)
    try:
        length = len(sent.encode())
    except UnicodeEncodeError:
        return "expected user and password in UTF-8, got other bytes"
    if length > longest:
        return f"expected user and password of at most {longest} bytes together, percent-encoded, got more"
    if b"\0" in unquote_to_bytes(user_info):
        return "expected user and password without control characters, got a NUL"
    if re.search("[/?#]", sent):
        return f"expected user and password without # / ? for {scheme}, which has no way to send them, got one"
    return None


def fills_user_info(before: str, after: str) -> bool:
    """Whether what is put between two pieces of an address becomes a part of its user and password.

    >>> fills_user_info("rtsp://viewer:", "@10.0.0.7/main"), fills_user_info("rtsp://10.0.0.7/", "@main")
    (True, False)
    """
    begins = split_address(before)
    return begins is not None and not begins.rest and "@" in re.split("[/?#]", after, maxsplit=1)[0]


def encoded_user_info(text: str) -> str:
    """User or password, or both with a colon between them, as they can stand in an address.

    Text without ``/``, ``?`` and ``#`` can as it is, and may be percent-encoded already; other text cannot be that.

    >>> encoded_user_info("50%#off"), encoded_user_info("p%23ss")
    ('50%25%23off', 'p%23ss')
    """
    return quote(text, safe=":", errors="surrogateescape") if re.search("[/?#]", text) else text


def ffmpeg_address(address: str) -> str:
    """A live stream's address as FFmpeg is to get it: it decodes user and password itself, but not for RTMP.

    >>> ffmpeg_address("rtmp://viewer:p%40ss@10.0.0.7/live/main"), ffmpeg_address("rtsp://viewer:p%40ss@10.0.0.7/main")
    ('rtmp://viewer:p@ss@10.0.0.7/live/main', 'rtsp://viewer:p%40ss@10.0.0.7/main')
    """
    parts = split_address(address)
    if parts is None or parts.user_info is None or parts.scheme not in _RTMP:
        return address
    return f"{parts.scheme}://{_sent_user_info(parts.scheme, parts.user_info)}@{parts.server}{parts.rest}"


def _sent_user_info(scheme: str, user_info: str) -> str:
    return unquote(user_info, errors="surrogateescape") if scheme in _RTMP else user_info


def redis_address_error(address: str) -> str | None:
    """Why no Redis can have this address, in words that show its scheme alone; None if one can."""
    known = " or ".join([", ".join(f"{name}://" for name in REDIS_SCHEMES), "'embedded'"])
    if address == "embedded":
        return None
    parts = split_address(address)
    if parts is not None and address.startswith(tuple(f"{name}://" for name in REDIS_SCHEMES)):
        return _socket_error(parts) if parts.scheme == "unix" else _redis_server_error(parts)
    if parts is not None:
        scheme = address[: len(parts.scheme)]
        return f"expected {known}, got {scheme[:30]}://{_meant(scheme, REDIS_SCHEMES)}"
    if _similar(address, ("embedded",)) is not None:
        return f"expected {known}, got another word (did you mean embedded?)"
    return f"expected {known}, got an address without any of these"


def _socket_error(parts: AddressParts) -> str | None:
    path = parts.rest.partition("?")[0]
    if parts.server or len(path) < 2 or (parts.user_info is not None and "@" in parts.rest):
        return f"expected unix:///path/to/socket (special characters percent-encoded: {_ENCODED}), got something else"
    return _credentials_error(parts)


def _redis_server_error(parts: AddressParts) -> str | None:
    # Without any host, user and port it is this machine.
    names_more = parts.user_info is not None or ":" in parts.server
    if error := server_error(parts, needs_host=names_more):
        return error
    if error := _credentials_error(parts):
        return error
    if "," in parts.server and "+" not in parts.scheme:
        several = f"{parts.scheme}+cluster:// or {parts.scheme}+sentinel://"
        return f"expected one server behind {parts.scheme}://, got several (did you mean {several}?)"
    path = parts.rest.partition("?")[0]
    if parts.scheme.endswith("+sentinel"):  # the name of a master comes first
        path = re.sub(r"\A/[^/]+", "", path)
    database = _DATABASE.fullmatch(path)
    stated = dict(_options(parts)).get("db")
    if database is None or (stated is not None and (database["number"] or not re.fullmatch("[0-9]{1,9}", stated))):
        return (
            "expected the number of a database, if any, behind the host, as /0 or ?db=0 (special characters of user "
            f"and password percent-encoded: {_ENCODED}), got something else"
        )
    return None


def _credentials_error(parts: AddressParts) -> str | None:
    """Why redis-py would read another password than the one that is written."""
    query = parts.rest.partition("?")[2]
    names = [name for name, _ in _options(parts)]
    odd = "#" in parts.rest or re.search(r"[+\s]", query) or any("=" not in part for part in query.split("&") if query)
    try:
        unquote(f"{parts.user_info or ''}&{query}", errors="strict").encode()
    except UnicodeError:
        odd = True
    if not odd and len(set(names)) == len(names):
        return None
    return (
        f"expected special characters percent-encoded ({_ENCODED}, & as %26, + as %2B, a blank as %20), and behind the "
        "question mark, if any, each option once as name=value, got something else"
    )


def _options(parts: AddressParts) -> list[tuple[str, str]]:
    return parse_qsl(parts.rest.partition("?")[2])


def redis_client_address(address: str) -> str:
    """A Redis address whose user and password redis-py cannot misread: both before the host, percent-encoded.

    redis-py's parser of addresses refuses brackets and some other characters there, and decodes those in the query
    once or twice, depending on its version.

    Args:
        address: one without ``redis_address_error``.

    >>> redis_client_address("redis://:p@[ss@cache:6379/0"), redis_client_address("unix:///run/redis.sock?password=p%2Fss")
    ('redis://:p%40%5Bss@cache:6379/0', 'unix://:p%2Fss@/run/redis.sock')
    """
    parts = split_address(address)
    if parts is None:
        return address
    path, options = parts.rest.partition("?")[0], dict(_options(parts))
    user, _, password = (parts.user_info or "").partition(":")
    user = unquote(user) or options.pop("username", "")
    password = unquote(password) or options.pop("password", "")
    user_info = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    others = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in options.items())
    return f"{parts.scheme}://{user_info}{parts.server}{path}{'?' if others else ''}{others}"


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
