"""What a Redis, or whoever is there in its place, means by what a call raised: the cause, in one line."""

from __future__ import annotations

import re

import redis
from redis.exceptions import AuthorizationError
from redis.sentinel import MasterNotFoundError

from pipeline.redaction import redact
from pipeline.sinks.base import Reason

_LONGEST_TEXT = 200
_SAYS_NO_MORE = {"DENIED ", ".* : ", ".* : .*AuthenticationError"}  # a page of advice; names of classes
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
# Why nobody answers as a Redis that works does, by class and words; the first that fits.
_OF_CONNECTIONS: tuple[tuple[tuple[type[Exception], ...], str, str], ...] = (
    ((redis.AuthenticationError, AuthorizationError), "", "Redis refuses the password or user name in redis.url"),
    ((Exception,), "NOAUTH |WRONGPASS ", "Redis refuses the password or user name in redis.url"),
    ((Exception,), "DENIED ", "Redis is in protected mode: without a password it takes nobody from another machine"),
    ((redis.BusyLoadingError,), "", "Redis is still loading its data"),
    ((MasterNotFoundError,), ".* : .*AuthenticationError", "the Sentinels refuse ?sentinel_password= in redis.url"),
    ((MasterNotFoundError,), ".* : ", "no Sentinel answers there that knows a living master: are they running?"),
    ((MasterNotFoundError,), "", "the Sentinels know no living master of the name in redis.url"),
    ((redis.InvalidResponse,), "", "expected a Redis server, but what answers there is not one"),
    ((Exception,), ".*Protocol", "expected a Redis server, but what answers there is not one"),
    (
        (Exception,),
        ".*SSL:.*CERTIFICATE_VERIFY_FAILED",
        "its TLS certificate is not trusted: name that of its authority with ?ssl_ca_certs=FILE",
    ),
    (
        (Exception,),
        ".*SSL:.*ALERT",
        "it refuses TLS with us; it may want a certificate: ?ssl_certfile=FILE&ssl_keyfile=FILE",
    ),
    ((Exception,), ".*SSL:", "it does not speak TLS: redis:// instead of rediss://?"),
    ((redis.ConnectionError,), "no replica has", "no replica has what was written; one may be taking over"),
    ((redis.ConnectionError,), ".*max number of clients", "Redis takes no more clients (maxclients)"),
    (
        (redis.ConnectionError, OSError),
        ".*(closed by server|reset by peer)",
        "what answers there ends the connection: does it want TLS (rediss://), or is it no Redis?",
    ),
    ((redis.TimeoutError, TimeoutError), "", "no answer from Redis in time"),
    ((redis.ConnectionError, OSError), "", "nobody answers there: is Redis running?"),
)


def explain(error: Exception, about: str = "") -> Reason:
    """What a call raised, without credentials.

    Args:
        error: of redis-py, or of the system.
        about: the key that it was about, where one call has one.
    """
    said = redact(" ".join(str(error).split()))
    # redis-py puts the whole command before the answer when it came in a transaction.
    if (command := _ABOUT.match(said)) is not None:
        about = " ".join(filter(None, command.groups()))
    text = said.rsplit("of pipeline caused error: ", 1)[-1].split(", with args beginning with", 1)[0]
    for classes, words, what in _OF_CONNECTIONS:
        if isinstance(error, classes) and re.match(words, text):
            return Reason(what, "" if words in _SAYS_NO_MORE else text[:_LONGEST_TEXT])
    text = text[:_LONGEST_TEXT]
    found = _CODE.match(text)
    code = getattr(error, "status_code", None) or (found.group() if found else "")
    if code in {"MOVED", "ASK"}:  # the text alone is a slot and an address
        text = f"{code} {text}"
    meanings = (meaning for part, meaning in _MEANINGS_OF_TEXTS.items() if part in text)
    meaning = _MEANINGS.get(code) or next(meanings, "")
    return Reason(f"Redis refuses: {text}", "; ".join(filter(None, (about, meaning))))
