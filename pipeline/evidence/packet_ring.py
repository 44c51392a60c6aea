"""The newest packets of one camera, bounded in time and in bytes; what is kept always begins with a keyframe."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import av
from av.video.stream import VideoStream

from pipeline.evidence.packets import Cut, KeptPacket, KeptStream
from pipeline.video.orientation import orientation_of

_PACKET_BYTES = 250  # what Python keeps beside the data of each
_MOST_LOOKED_AT = 64


@dataclass(slots=True, eq=False)
class _Group:
    """Packets from a keyframe to the next one."""

    stream: KeptStream
    at_s: float
    packets: list[KeptPacket] = field(default_factory=list[KeptPacket])
    size: int = 0

    def newest(self) -> Iterator[KeptPacket]:
        """The newest first."""
        return reversed(self.packets)


class PacketRing:
    """Keeps what came last of a camera, over its connections. For any thread. Implements ``PacketKeeper``.

    Args:
        reach_s: how far back it reaches at least, as far as the bytes allow: to the last keyframe before.
        most_bytes: of all packets together.
        now: monotonic clock in seconds.

    Attributes:
        size: bytes that are kept.
    """

    def __init__(self, reach_s: float, most_bytes: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._reach_s, self._most_bytes, self._now = reach_s, most_bytes, now
        self._lock = threading.Lock()
        self._groups: deque[_Group] = deque()
        self._order = 0
        self._incomplete: int | None = None  # the newest session of which something was let go
        self.size = 0

    def connect(self) -> RingTap:
        """What is to be told of the next connection."""
        return RingTap(self)

    def cut(self, session: int, from_s: float) -> Cut:
        """What there is of a session from a media time on: from the last keyframe at or before it.

        Args:
            session: of the camera.
            from_s: media time in seconds.
        """
        with self._lock:
            groups = [group for group in self._groups if group.stream.session == session and group.packets]
            first, reaches_back = 0, False
            for number, group in enumerate(groups):
                begins_s = group.packets[0].media_s
                if begins_s is not None and begins_s <= from_s:
                    first, reaches_back = number, True
            kept = [(group.stream, packet) for group in groups[first:] for packet in group.packets]
        return Cut(kept, reaches_back, is_late=not reaches_back and session == self._incomplete)

    def after(self, session: int, order: int) -> Cut:
        """What has come of a session after a packet.

        Args:
            session: of the camera.
            order: of that packet. Where the ring no longer reaches back to it, ``reaches_back`` is false.
        """
        with self._lock:
            kept = list(self._of_session(session))
        later = [pair for pair in kept if pair[1].order > order]
        return Cut(later, not later or later[0][1].order == order + 1)

    def forget_before(self, media_s: float) -> None:
        """Let go of what comes before the last keyframe at or before a media time.

        Args:
            media_s: media time in seconds.
        """
        with self._lock:
            while len(self._groups) > 1:
                begins_s = self._groups[1].packets[0].media_s
                if begins_s is None or begins_s > media_s:
                    return
                self._let_go()

    def add(self, stream: KeptStream, unit: av.Packet) -> None:
        """Keep an access unit of a stream; nothing of it before a first keyframe."""
        number = unit.opaque
        with self._lock:
            last = self._groups[-1] if self._groups else None
            if unit.is_keyframe or (last is not None and last.stream is not stream):
                if not unit.is_keyframe:
                    return
                last = _Group(stream, self._now())
                self._groups.append(last)
            if last is None:
                return
            self._order += 1
            data = bytes(unit)
            number = number if isinstance(number, int) else None
            last.packets.append(KeptPacket(self._order, data, bool(unit.is_keyframe), number))
            last.size += len(data) + _PACKET_BYTES
            self.size += len(data) + _PACKET_BYTES
            self._trim()

    def note_shown(self, stream: KeptStream, number: int | None, media_s: float) -> None:
        """Note the media time of a picture.

        Args:
            stream: its stream.
            number: what the decoder calls its packet; None takes the newest.
            media_s: media time in seconds.
        """
        with self._lock:
            newest = (packet for group in reversed(self._groups) if group.stream is stream for packet in group.newest())
            for packet in islice(newest, _MOST_LOOKED_AT):
                if number is None or packet.number == number:
                    packet.media_s = media_s
                    return

    def _trim(self) -> None:
        """Let go of the oldest groups that nobody could ask for, and of those for which there is no room."""
        too_old_s = self._now() - self._reach_s
        while len(self._groups) > 1 and (self._groups[1].at_s <= too_old_s or self.size > self._most_bytes):
            self._let_go()
        if self.size > self._most_bytes:  # one group alone: begun anew with the next keyframe
            self._let_go()

    def _let_go(self) -> None:
        oldest = self._groups.popleft()
        self.size -= oldest.size
        self._incomplete = oldest.stream.session

    def _of_session(self, session: int) -> Iterator[tuple[KeptStream, KeptPacket]]:
        for group in self._groups:
            if group.stream.session == session:
                yield from ((group.stream, packet) for packet in group.packets)


class RingTap:
    """One connection's end of a ring. Implements ``PacketTap``; one that is stuck only ever adds to its own session."""

    def __init__(self, ring: PacketRing) -> None:
        self._ring = ring
        self._session = 0
        self._stream = KeptStream(0)
        self._is_sized = False

    def begin_session(self, session: int) -> None:
        """What comes from here on belongs to this session."""
        self._session = session

    def begin(self, stream: VideoStream | None) -> None:
        """Another stream begins."""
        self._stream, self._is_sized = KeptStream.of(self._session, stream, self._stream), False

    def add(self, unit: av.Packet) -> None:
        """Keep an access unit."""
        self._ring.add(self._stream, unit)

    def shown(self, frame: av.VideoFrame, media_time_s: float) -> None:
        """Note the time of its packet, and what its pictures are like."""
        if not self._is_sized:
            self._stream.size_px, self._stream.orientation = (frame.height, frame.width), orientation_of(frame)
            self._is_sized = True
        number = frame.opaque
        self._ring.note_shown(self._stream, number if isinstance(number, int) else None, media_time_s)
