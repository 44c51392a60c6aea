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
_SECRET_QUERY = re.compile(
    r"(?i)(?P<key>[?&;/_][\w.-]{0,40}?(?:pas|pwd|pw|token|key|secret|auth)[\w.-]{0,40}=)(?!\*\*\*)[^&\s]+"
)


def redact(text: object) -> str:
    """Replace the user information and secret query values of every URL in a text by ``***``.

    A text that begins with an address is taken to be one, up to its last ``@``: better too much is hidden than too
    little.

    >>> redact("rtsp://admin:pa@ss@10.0.0.7/main?token=abc&ch=1")
    'rtsp://***@10.0.0.7/main?token=***&ch=1'
    """
    masked = _WHOLE_ADDRESS.sub(r"\g<scheme>***@", str(text))
    masked = _USERINFO.sub(r"\g<scheme>***@", masked)
    masked = _ODD_USERINFO.sub(r"\g<scheme>***@", masked)
    masked = _BARE_USERINFO.sub("***@", masked)
    return _SECRET_QUERY.sub(r"\g<key>***", masked)
