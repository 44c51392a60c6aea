"""Passwords of any characters, and what of them a message shows."""

from hypothesis import strategies as st

from pipeline.addresses import camera_address_error, redis_address_error

# What is said of any address, whatever its password is.
_WORDS = "\n".join(
    str(error)
    for error in [
        *map(camera_address_error, ["rtsp://a/b:@c", "rtsp://", f"rtsp://{'u' * 200}:@h", "rtsp://u:%00@h"]),
        *map(camera_address_error, ["rtmp://u:%2F@h", "rtsp://h/?pwd= ", "rstp://h", f"http://{'u' * 2000}:@h"]),
        *map(redis_address_error, ["redis://u:/@h", "redis://:x", "redis://h/x", "redis://h?db", "unix://h", "x"]),
        "config: cameras.gate.url: sinks.0.url: redis.url: address without line breaks and other control characters",
        "address that begins with https:// or http:// and names host, got something else; known options only",
        "expected redis://, rediss:// or unix:// (special characters of a password percent-encoded",
    ]
)
_special = st.sampled_from(
    [*"#/?@:%&=+;[]\\'\"${}<>~abcé密\u2100\uff03", "%41", "%zz", "%ff", "57", "://", "h@", "@h:1/"]
)
_any = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
passwords = st.lists(_special | _any, min_size=1, max_size=8).map("".join)


def pieces_shown(password, text):
    """Pieces of a password, three characters long, that stand in a text and not in every text of its kind."""
    pieces = {password[i : i + 3] for i in range(len(password) - 2)}
    return sorted(piece for piece in pieces if piece in text and piece not in _WORDS)
