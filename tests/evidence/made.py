"""Rings filled from real footage, and clips read back."""

import av

from pipeline.evidence.packet_ring import PacketRing
from pipeline.video.source import open_source
from tests.videos import frame_number

SIZE_PX = (48, 64)


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def filled(path, *, reach_s=1000.0, most_bytes=1 << 30, session=0, fps=None, ring=None, **options):
    """A ring through which a file went, with the media time of every frame by its number.

    ``fps`` has time pass with the frames, as a live camera's would.
    """
    clock = Clock()
    ring = ring or PacketRing(reach_s, most_bytes, now=clock)
    tap = ring.connect()
    tap.begin_session(session)
    times = {}
    with open_source(str(path), SIZE_PX, tap=tap, **options) as source:
        for frame in source:
            times[frame_number(frame.image)] = float(frame.pts * frame.time_base)
            clock.now_s += 1.0 / fps if fps else 0.0
    return ring, times


def shown_in(path):
    """Number and time (s) of every frame that FFmpeg shows of a file."""
    with av.open(str(path)) as container:
        return [(frame_number(frame.to_ndarray(format="rgb24")), frame.time) for frame in container.decode(video=0)]
