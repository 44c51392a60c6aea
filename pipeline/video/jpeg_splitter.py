"""JPEGs out of a byte stream, whatever lies between them.

Cameras that send JPEGs over HTTP agree on little: boundaries are quoted, begin with dashes of their own, lack at the
start or altogether, lines end with CR LF or LF, lengths are wrong, types are missing or misspelt. A JPEG itself says
where it ends. So nothing of the rest is read, and a picture is there with its last byte, not with the next one's first.
"""

from __future__ import annotations

import re

MAX_PICTURE_BYTES = 64 << 20
"""A picture that is larger is none."""

_START = b"\xff\xd8\xff"
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # there, zeros and restart markers belong to the data
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_EMPTY_BYTES = 4
_MAY_HOLD_PICTURES = frozenset({*range(0xE0, 0xF0), 0xFE})  # applications' data, such as a thumbnail, and comments
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


class JpegSplitter:
    """Takes bytes as they come, gives JPEGs as they are complete.

    A JPEG without its end counts as one up to where the next begins: whoever decodes it will see that it is damaged.

    Attributes:
        strange_bytes: how many so far belonged to no picture.
    """

    def __init__(self) -> None:
        self.strange_bytes = 0
        self._data = bytearray()
        self._is_inside = self._is_in_scan = False
        self._at = 0  # up to here the picture is known

    def push(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes; returns the pictures that are complete with them.

        Raises:
            ValueError: a picture does not end.
        """
        self._data += chunk
        pictures: list[bytes] = []
        while self._finds_start() and (end := self._end()) is not None:
            if end > _EMPTY_BYTES:
                pictures.append(bytes(self._data[:end]))
            del self._data[:end]
            self._is_inside = False
        if len(self._data) > MAX_PICTURE_BYTES:
            raise ValueError(f"expected a JPEG of at most {MAX_PICTURE_BYTES:,} bytes, got one without an end")
        return pictures

    def _finds_start(self) -> bool:
        if self._is_inside:
            return True
        start = self._data.find(_START)
        none = max(len(self._data) - len(_START) + 1, 0)
        self.strange_bytes += none if start < 0 else start
        del self._data[: none if start < 0 else start]
        self._is_inside, self._is_in_scan, self._at = start >= 0, False, 2
        return self._is_inside

    def _end(self) -> int | None:
        """Where the picture at the beginning ends; None if that has not come yet."""
        data = self._data
        while True:
            if self._is_in_scan:
                marker = _MARKER_IN_SCAN.search(data, self._at)
                if marker is None:
                    self._at = max(self._at, len(data) - 1)
                    return None
                self._at, self._is_in_scan = marker.start(), False
            head = data[self._at : self._at + 4]
            if len(head) < 2:
                return None
            code = head[1] if head[0] == 0xFF else None
            if code in {_SOI, _EOI}:
                return self._at + (2 if code == _EOI else 0)
            if code is None:  # damaged: on to the next marker
                self._is_in_scan = True
            elif code == 0xFF or code in _WITHOUT_LENGTH:
                self._at += 1 if code == 0xFF else 2
            elif len(head) < 4:
                return None
            else:
                after = self._at + 2 + int.from_bytes(head[2:])
                if code not in _MAY_HOLD_PICTURES and (start := data.find(_START, self._at, after)) >= 0:
                    return start
                if after > len(data):
                    return None
                self._is_in_scan, self._at = code == _SOS, after
