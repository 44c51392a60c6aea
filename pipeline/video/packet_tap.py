"""Whoever keeps a camera's packets as they pass, so that a clip can be cut out of them without encoding anything."""

from __future__ import annotations

from typing import Protocol

import av
from av.video.stream import VideoStream


class PacketTap(Protocol):
    """Is told of every access unit of one connection, and of the pictures that came out of it; by one thread."""

    def begin_session(self, session: int) -> None:
        """What comes from here on belongs to this session of the camera."""
        ...

    def begin(self, stream: VideoStream | None) -> None:
        """Another stream begins: a connection's, or the next round of a file that stands in for one.

        Args:
            stream: what its packets are of; None where each is a whole image.
        """
        ...

    def add(self, unit: av.Packet) -> None:
        """An access unit, which its decoder has just been given (its ``opaque`` is the decoder's number for it)."""
        ...

    def shown(self, frame: av.VideoFrame, media_time_s: float) -> None:
        """A picture, with the media time that everybody else knows it by."""
        ...


class PacketKeeper(Protocol):
    """Keeps the packets of one camera over its connections."""

    def connect(self) -> PacketTap:
        """What is to be told of the next connection."""
        ...
