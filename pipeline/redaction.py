"""Taking credentials out of text before it is shown, logged or stored."""

from __future__ import annotations

import re

# Every repetition that could begin anywhere is bounded, or a long text would take time with its square.
_SCHEME = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}://)"
_WHOLE_ADDRESS = re.compile(rf"\A{_SCHEME}.*@", re.DOTALL)
_USERINFO = re.compile(rf"{_SCHEME}[^\s'\"<>]{{0,500}}@")
# A password with blanks or quotes in it; not over the beginning of another address.
_ODD_USERINFO = re.compile(rf"{_SCHEME}(?!\*\*\*@)(?:(?!://)[^\n]){{0,500}}@")
# An address that was mistyped (rtsp:/user:password@host) or lacks its scheme.
_BARE_USERINFO = re.compile(r"[^\s:@(]{0,64}:(?!//|\s)(?:(?!://)[^\n]){0,500}@")
# Some cameras want user=admin&loginpas=secret, some rtsp://host/user=admin_password=secret_channel=1.
_NAMES = "pas|pwd|pw|psw|token|key|secret|auth|sig|cred|sess|sid|api"  # or parts of such
SECRET_KEY = rf"(?P<key>[?&;/_](?:[\w.-]{{0,40}}?(?:{_NAMES})[\w.-]{{0,40}}|p)=)"
"""Regular expression of what stands before a secret in a path or query, in letters of any size."""

# What follows an ampersand and is no option of its own may well be the rest of a password.
SECRET_VALUE = r"(?:[^&\s]|&(?![\w.%\[\]-]{1,500}=))"
"""Regular expression of a character of such a secret."""

_SECRET_QUERY = re.compile(rf"(?i){SECRET_KEY}(?!\*\*\*){SECRET_VALUE}+")
_HIDDEN, _HIDDEN_WITH_AT = "***", "***@***"


def redact(text: object) -> str:
    """Replace the user information and secret query values of every URL in a text by ``***``.

    A text that begins with an address is taken to be one, up to its last ``@``: better too much is hidden than too
    little.

    >>> redact("rtsp://admin:pa@ss@10.0.0.7/main?token=abc&ch=1")
    'rtsp://***@10.0.0.7/main?token=***&ch=1'
    """
    # First, since a secret there may hold an at sign, behind which the host would seem to follow.
    masked = _SECRET_QUERY.sub(lambda found: found["key"] + _mask(found[0]), str(text))
    masked = _WHOLE_ADDRESS.sub(r"\g<scheme>***@", masked)
    masked = _USERINFO.sub(r"\g<scheme>***@", masked)
    masked = _ODD_USERINFO.sub(r"\g<scheme>***@", masked)
    masked = _BARE_USERINFO.sub("***@", masked)
    return masked.replace(_HIDDEN_WITH_AT, _HIDDEN)


def _mask(hidden: str) -> str:
    """What is shown instead; it keeps an at sign, which may end user and password that begin before."""
    return _HIDDEN_WITH_AT if "@" in hidden else _HIDDEN
