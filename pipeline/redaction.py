"""Taking credentials out of text before it is shown, logged or stored."""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s'\"<>]*@")
_SECRET_QUERY = re.compile(r"(?i)(?P<key>[?&](?:password|passwd|pwd|token|key|secret|auth)=)[^&\s'\"]+")


def redact(text: object) -> str:
    """Replace the user information and secret query values of every URL in a text by ``***``.

    >>> redact("rtsp://admin:pa@ss@10.0.0.7/main?token=abc&ch=1")
    'rtsp://***@10.0.0.7/main?token=***&ch=1'
    """
    masked = _USERINFO.sub(r"\g<scheme>***@", str(text))
    return _SECRET_QUERY.sub(r"\g<key>***", masked)
