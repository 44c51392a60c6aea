"""What a Redis, or whoever is there in its place, means by what a call raised: the cause, in one line."""

from __future__ import annotations

import re
from typing import NamedTuple

import redis
from redis.exceptions import AuthorizationError
from redis.sentinel import MasterNotFoundError

from pipeline.errors import RedisError
from pipeline.redaction import redact
from pipeline.sinks.base import Reason

_LONGEST_TEXT = 200
_ABOUT = re.compile(r"Command # \d+ \((?P<command>[A-Z]+)(?: (?P<key>cflow:[^\s)]+))?")
_CODE = re.compile(r"[A-Z]{3,}(?= )")

# What a server's error codes ask of whoever runs it.
_MEANINGS = {
    "MOVED": "it is a node of a Redis Cluster, and the key is in another one",
    "ASK": "it is a node of a Redis Cluster that hands the key to another one",
    "CROSSSLOT": "it is a node of a Redis Cluster, which has no transactions over several keys",
    "TRYAGAIN": "the Redis Cluster is moving the key",
    "CLUSTERDOWN": "the Redis Cluster lacks nodes",
    "MASTERDOWN": "it is a replica that has lost its master",
    "READONLY": "it is a replica; name its master, or the Sentinels with redis+sentinel://",
    "NOREPLICAS": "too few replicas follow it (min-replicas-to-write)",
    "OOM": "it is full (maxmemory)",
    "MISCONF": "it cannot save to its disk",
    "BUSY": "a script keeps it busy",
    "NOPERM": "docs/operations.md lists what its user must be allowed",
    "WRONGTYPE": "somebody else's value stands under a key of ours; move it away",
}
# The same for answers without a code of their own, by what stands in them.
_MEANINGS_OF_TEXTS = {
    "unknown command 'SENTINEL'": "it is no Sentinel",
    "unknown command": "streams need Redis 5 or later with no command renamed; a Sentinel and some proxies have none",
    "DB index is out of range": "it has not the database that redis.url names",
    "SELECT is not allowed in cluster mode": "a Redis Cluster has database 0 alone",
    "cluster support disabled": "it is no node of a Redis Cluster: redis:// instead of redis+cluster://",
}


class _Trouble(NamedTuple):
    """What keeps a Redis that works from answering.

    Attributes:
        what: in our words.
        words: with which redis-py tells of it.
        classes: of its errors.
        is_told: whether its words say more than ours.
    """

    what: str
    words: str = ""
    classes: tuple[type[Exception], ...] = (Exception,)
    is_told: bool = True


_LOGIN = "Redis refuses the password or user name in redis.url"
_NO_REDIS = "expected a Redis server, but what answers there is not one"
_CONNECTION = (redis.ConnectionError, OSError)
_TROUBLES = (  # the first that fits
    _Trouble(
        "its TLS certificate is not trusted: name that of its authority with ?ssl_ca_certs=FILE",
        ".*CERTIFICATE_VERIFY_FAILED",
    ),
    _Trouble(
        "it ends the TLS connection: it may want a certificate (?ssl_certfile=FILE&ssl_keyfile=FILE), or speak no TLS",
        ".*(SSL:.*ALERT|EOF occurred in violation of protocol)",
    ),
    _Trouble("a FILE behind ssl_ in redis.url is no certificate, or no key of it", ".*(X509:|PEM lib|KEY_VALUES_MISM)"),
    _Trouble("it does not speak TLS: redis:// instead of rediss://?", ".*(SSL:|handshake)"),
    _Trouble(
        "the Sentinels refuse ?sentinel_password= in redis.url", ".* : .*(uthentica|passw)", (MasterNotFoundError,)
    ),
    _Trouble("no Sentinel answers there that knows a living master", ".* : ", (MasterNotFoundError,)),
    _Trouble("the Sentinels know no living master of the name in redis.url", "", (MasterNotFoundError,)),
    _Trouble(_LOGIN, "", (redis.AuthenticationError, AuthorizationError)),
    _Trouble(_LOGIN, "NOAUTH |WRONGPASS "),
    # A page of advice follows.
    _Trouble("Redis is in protected mode: without a password it takes nobody from elsewhere", "DENIED ", is_told=False),
    _Trouble("Redis is still loading its data", "", (redis.BusyLoadingError,)),
    _Trouble(_NO_REDIS, "", (redis.InvalidResponse,)),
    _Trouble(_NO_REDIS, ".*Protocol"),
    _Trouble("no replica has what was written; one may be taking over", "no replica has", _CONNECTION, is_told=False),
    _Trouble("Redis takes no more clients (maxclients)", ".*max number of clients", _CONNECTION, is_told=False),
    _Trouble(
        "what answers there ends the connection: does it want TLS (rediss://), or is it no Redis?",
        ".*(closed by server|reset by peer|Broken pipe)",
        _CONNECTION,
    ),
    _Trouble("no answer from Redis in time", "", (redis.TimeoutError, TimeoutError)),
    _Trouble("nobody answers there: is Redis running?", "", _CONNECTION),
)


def explain(error: Exception, about: str = "") -> Reason:
    """What a call raised, without credentials.

    Args:
        error: of redis-py, or of the system.
        about: the key that it was about, where one call has one.
    """
    said = redact(" ".join(str(error).split()))
    if isinstance(error, redis.TimeoutError) and error.__context__ is not None:  # which tells a handshake's from others
        said = f"{said}: {error.__context__}"
    # redis-py puts the whole command before the answer when it came in a transaction.
    if (command := _ABOUT.match(said)) is not None:
        about = " ".join(filter(None, command.groups()))
    text = said.rsplit("of pipeline caused error: ", 1)[-1].split(", with args beginning with", 1)[0].replace("`", "'")
    for trouble in _TROUBLES:
        if isinstance(error, trouble.classes) and re.match(trouble.words, text):
            return Reason(trouble.what, text[:_LONGEST_TEXT] if trouble.is_told else "")
    text = text[:_LONGEST_TEXT]
    found = _CODE.match(text)
    code = getattr(error, "status_code", None) or (found.group() if found else "")
    if code in {"MOVED", "ASK"}:  # the text alone is a slot and an address
        text = f"{code} {text}"
    meanings = (meaning for part, meaning in _MEANINGS_OF_TEXTS.items() if part in text)
    meaning = _MEANINGS.get(code) or next(meanings, "")
    return Reason(f"Redis refuses: {text}", "; ".join(filter(None, (about, meaning))))


def is_away(error: RedisError) -> bool:
    """Whether nobody answered who could have refused: a Redis may come there yet, with nothing changed.

    Args:
        error: one of ours.
    """
    cause = error.__cause__
    if isinstance(cause, redis.AuthenticationError | AuthorizationError) or "SSL" in str(cause):
        return False
    return isinstance(cause, redis.ConnectionError | redis.TimeoutError | OSError)


def is_refusal(error: RedisError) -> bool:
    """Whether a Redis that works answered, and said no: waiting alone changes nothing.

    Args:
        error: one of ours.
    """
    return isinstance(error.__cause__, redis.ResponseError)
