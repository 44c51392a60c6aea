"""FFmpeg decodes user and password of an address, but not for RTMP, where they have to be decoded for it."""

import contextlib
import re
import socket
import struct
import threading

import pytest

from pipeline.errors import VideoError
from pipeline.video.opening import open_live

_HANDSHAKE_BYTES = 1536
_ASKS_FOR_PASSWORD = b"[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ]"


def _received(connection, until):
    data = b""
    while not until(data):
        if not (more := connection.recv(4096)):
            raise ConnectionResetError
        data += more
    return data


def _text(value):
    return struct.pack(">H", len(value)) + value


def _refusal():
    """The command ``_error`` in AMF0, in chunks of 128 bytes."""
    status = _text(b"description") + b"\x02" + _text(_ASKS_FOR_PASSWORD) + b"\0\0\x09"
    body = b"\x02" + _text(b"_error") + b"\0" + struct.pack(">d", 1.0) + b"\x05\x03" + status
    head = b"\x03\0\0\0" + struct.pack(">I", len(body))[1:] + b"\x14\0\0\0\0"
    return head + b"\xc3".join(body[i : i + 128] for i in range(0, len(body), 128))


@contextlib.contextmanager
def camera_that_asks_for_a_password():
    """Speaks as much RTMP as it takes to be told a user; gives its address and what it was told."""
    told = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as connection, contextlib.suppress(OSError):
                    connection.settimeout(5.0)
                    hello = _received(connection, lambda data: len(data) > _HANDSHAKE_BYTES)
                    connection.sendall(b"\x03" + bytes(_HANDSHAKE_BYTES) + hello[1 : _HANDSHAKE_BYTES + 1])
                    told.append(_received(connection, lambda data: b"videoFunction" in data))
                    if len(told) == 1:
                        connection.sendall(_refusal())
                        while connection.recv(4096):  # until FFmpeg has read it, and connects again
                            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", told


def test_an_rtmp_user_arrives_decoded():
    with camera_that_asks_for_a_password() as (at, told):
        with pytest.raises(VideoError):
            open_live(f"rtmp://vie%40wer%25:p%40ss@{at}/app/main", "gate", open_timeout_s=5.0, read_timeout_s=5.0)
        commands = b"".join(told).replace(b"\xc3", b"")  # between chunks
    assert re.search(rb"\?authmod=adobe&user=([^\0]*)\0", commands)[1] == b"vie@wer%"
