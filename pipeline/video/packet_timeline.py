"""Times for the packets of one connection, whatever its stream says."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median

import av
from av.video.stream import VideoStream

from pipeline.video.container import frame_rate
from pipeline.video.live_clock import LiveClock

_TICK = Fraction(1, 1000)
_UNKNOWN_INTERVAL_MS = 40.0
_REORDER_FRAMES = 16  # H.264 and HEVC never keep more pictures than that back
_GAP_MS = 1_000.0
_LEAP_MS = 600_000.0


@dataclass(frozen=True, slots=True)
class TimedPacket:
    """A packet with its times on its connection's clock.

    Attributes:
        packet: as FFmpeg's demuxer gave it.
        pts_ms: when it is shown; no two packets of a connection share one.
        dts_ms: when it is decoded, where the stream says so.
    """

    packet: av.Packet
    pts_ms: int
    dts_ms: int | None


class PacketTimeline:
    """Gives every packet of one connection a time, whatever its stream says.

    RTSP's first packet has no time, some streams have none at all, and a camera that sets its clock leaps: after a leap
    backwards (or forwards by more than ten minutes) times go on one frame after the newest.

    Args:
        time_base: seconds per tick of the stream.
        frame_rate_fps: frames per second as the stream states them, or None.
        reorders: whether the stream is known to hold frames that are shown in another order than they are decoded.
        clock: says when a live camera's pictures were taken; None where the stream's own times are all there is.

    Attributes:
        gaps: leaps, and frames that came more than a second (and five frames) after the one before.
    """

    def __init__(
        self,
        time_base: Fraction,
        frame_rate_fps: float | None,
        *,
        reorders: bool = False,
        clock: LiveClock | None = None,
    ) -> None:
        self.gaps = 0
        self._clock = clock
        self._tick_ms = time_base * 1000
        self._interval_ms = 1000.0 / frame_rate_fps if frame_rate_fps else _UNKNOWN_INTERVAL_MS
        self._reorders = reorders
        self._shift_ms = 0
        self._newest_ms: int | None = None
        self._recent_ms: deque[int] = deque(maxlen=2 * _REORDER_FRAMES)
        self._held: list[av.Packet] = []  # packets that wait for the first time stamp
        self._arrived_s: float | None = None
        self._bridged_ms = 0  # leaps forward that the clock has taken out
        self._since_ms: int | None = None  # what arrival is counted from; None while the stream's times are
        self._unordered: list[av.Packet] = []  # by arrival: packets before which others may be shown
        self._times_ms: list[int] = []  # as many times, rising

    def push(self, packet: av.Packet, arrived_s: float | None = None) -> list[TimedPacket]:
        """Take the next packet; returns those whose time is known, in their order.

        Args:
            packet: as it came.
            arrived_s: monotonic time at which it came; needed where there is a clock.
        """
        self._arrived_s = arrived_s
        if self._clock is not None and self._is_by_arrival(self._clock, packet):
            return self._by_arrival(packet, self._clock)
        if self._newest_ms is None and (self._held or packet.pts is None):
            self._held.append(packet)
            return self.flush() if len(self._held) > _REORDER_FRAMES else []
        return [self._stamp(packet, packet.pts)]

    def flush(self) -> list[TimedPacket]:
        """Packets that still wait; to be called at the end of the connection."""
        if self._unordered:
            return self._ordered(0)
        held, self._held = self._held, []
        known = sorted({packet.pts for packet in held if packet.pts is not None})
        steps = [later - earlier for earlier, later in pairwise(known)]
        step = max(round(median(steps) if steps else self._interval_ms / float(self._tick_ms)), 1)
        without = next((number for number, packet in enumerate(held) if packet.pts is not None), len(held))
        first = known[0] - without * step if known else 0
        # What comes first is a keyframe, which is shown before all others that could be of use.
        return [
            self._stamp(packet, first + number * step if number < without else packet.pts)
            for number, packet in enumerate(held)
        ]

    def _stamp(self, packet: av.Packet, pts: int | None) -> TimedPacket:
        if packet.pts is not None and packet.dts != packet.pts:
            self._reorders = True
        pts = packet.dts if pts is None else pts
        newest_ms = self._newest_ms
        if newest_ms is None:
            pts_ms = round((pts or 0) * self._tick_ms)
            self._newest_ms = pts_ms
        else:
            after_ms = newest_ms + max(round(self._interval_ms), 1)
            pts_ms = after_ms if pts is None else self._continued(round(pts * self._tick_ms), newest_ms, after_ms)
            self._newest_ms = max(newest_ms, pts_ms)
        if ahead_ms := self._ahead_ms(self._newest_ms):
            pts_ms = self._free(pts_ms - ahead_ms)
            self._newest_ms = max(self._newest_ms, pts_ms)
        self._recent_ms.append(pts_ms)
        dts_ms = None if packet.dts is None else round(packet.dts * self._tick_ms) + self._shift_ms
        return TimedPacket(packet, pts_ms, dts_ms)

    def _ahead_ms(self, newest_ms: int) -> int:
        """By how much the stream has just leapt ahead of what can have passed; taken out from here on."""
        if self._clock is None or self._arrived_s is None or self._clock.reason:
            return 0
        told_ms = newest_ms + self._bridged_ms
        ahead_ms = newest_ms - round(1000 * self._clock.time_s(told_ms / 1000, self._arrived_s))
        self._bridged_ms += ahead_ms
        self._shift_ms -= ahead_ms
        self._newest_ms = newest_ms - ahead_ms
        return ahead_ms

    def _is_by_arrival(self, clock: LiveClock, packet: av.Packet) -> bool:
        """Whether arrival says the time from here on: where pictures change places, from a keyframe on."""
        if self._since_ms is None and clock.reason and (packet.is_keyframe or not self._reorders):
            after_ms = 0 if self._newest_ms is None else self._newest_ms + max(round(self._interval_ms), 1)
            self._since_ms = after_ms - round(1000 * clock.time_s(None, self._arrived_s or 0.0))
        return self._since_ms is not None

    def _by_arrival(self, packet: av.Packet, clock: LiveClock) -> list[TimedPacket]:
        """Packets in the order in which they came, at the times at which they did, shown in the order of their stream.

        Of pictures that are shown in another order than they are sent the first to be shown gets the first time.
        """
        time_ms = round(1000 * clock.time_s(None, self._arrived_s or 0.0)) + (self._since_ms or 0)
        self._newest_ms = time_ms = time_ms if self._newest_ms is None else max(time_ms, self._newest_ms + 1)
        self._reorders = self._reorders or (packet.pts is not None and packet.dts != packet.pts)
        if not self._reorders:
            return [TimedPacket(packet, time_ms, None)]
        self._unordered.append(packet)
        self._times_ms.append(time_ms)
        return self._ordered(_REORDER_FRAMES)

    def _ordered(self, keep: int) -> list[TimedPacket]:
        """Those that can be told, since enough have come after them."""
        told: list[TimedPacket] = []
        while len(self._unordered) > keep:
            packet = self._unordered.pop(0)
            shown_before = sum((other.pts or 0) < (packet.pts or 0) for other in self._unordered)
            told.append(TimedPacket(packet, self._times_ms.pop(shown_before), None))
        return told

    def _continued(self, raw_ms: int, newest_ms: int, after_ms: int) -> int:
        """A time stamp on the timeline: leaps are taken out, and no two are the same."""
        backwards_ms = max(_GAP_MS, _REORDER_FRAMES * self._interval_ms)
        pts_ms = raw_ms + self._shift_ms
        if not newest_ms - backwards_ms <= pts_ms <= newest_ms + _LEAP_MS:
            self._shift_ms += after_ms - pts_ms
            self.gaps += 1
            return after_ms
        self.gaps += pts_ms > newest_ms + max(_GAP_MS, 5 * self._interval_ms)
        if not self._reorders:
            return max(pts_ms, newest_ms + 1)
        return self._free(pts_ms)

    def _free(self, pts_ms: int) -> int:
        """The time, or the next that none of the newest packets has."""
        while pts_ms in self._recent_ms:
            pts_ms += 1
        return pts_ms


def packet_timeline(stream: VideoStream, clock: LiveClock | None = None) -> PacketTimeline:
    """An empty timeline for a stream's packets.

    Args:
        stream: whose packets come.
        clock: says when a live camera's pictures were taken.
    """
    reorders = bool(stream.codec_context.has_b_frames)
    return PacketTimeline(stream.time_base or _TICK, frame_rate(stream), reorders=reorders, clock=clock)
