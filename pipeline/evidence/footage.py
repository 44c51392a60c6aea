"""Where the packets of an event come from: the ring of a live camera, or the file that is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import av.error
from av.container import InputContainer
from av.format import Flags

from pipeline.evidence.packet_ring import PacketRing, RingTap
from pipeline.evidence.packets import Cut
from pipeline.video.container import ContainerFeed, RawFrame
from pipeline.video.opening import open_file
from pipeline.video.source import file_feed

_MOST_BYTES = 256_000_000
_AFTER_S = 1.0  # by which pictures may come later than those that are shown after them


class Footage(Protocol):
    """Packets of one camera."""

    @property
    def is_live(self) -> bool:
        """Whether more comes as time goes on."""
        ...

    def cut(self, session: int, from_s: float, to_s: float) -> Cut:
        """Packets from the last keyframe at or before one media time on, at least up to another.

        Args:
            session: of the camera.
            from_s: media time in seconds.
            to_s: media time in seconds.

        Raises:
            VideoError: it cannot be read.
        """
        ...

    def after(self, session: int, order: int) -> Cut:
        """As ``PacketRing.after``."""
        ...


class RingFootage:
    """What a ring has kept of a live camera.

    Args:
        ring: the camera's.
    """

    is_live = True

    def __init__(self, ring: PacketRing) -> None:
        self._ring = ring

    def cut(self, session: int, from_s: float, to_s: float) -> Cut:
        """All that it has from there on."""
        return self._ring.cut(session, from_s)

    def after(self, session: int, order: int) -> Cut:
        """What came later."""
        return self._ring.after(session, order)


class FileFootage:
    """A file, or a folder of images, which is opened anew and read where it is needed.

    Args:
        path: where it is.
        label: what errors call it.
        image_fps: how many images of a folder were filmed per second.
    """

    is_live = False

    def __init__(self, path: Path, label: str, image_fps: float | None) -> None:
        self._path, self._label, self._image_fps = path, label, image_fps

    def cut(self, session: int, from_s: float, to_s: float) -> Cut:
        """Read it, from a keyframe on where it lets itself be asked for one."""
        found = self._read(session, from_s, to_s, seek=True)
        return found if found.reaches_back else self._read(session, from_s, to_s, seek=False)

    def after(self, session: int, order: int) -> Cut:
        """Nothing: what was cut is all there is."""
        return Cut([])

    def _read(self, session: int, from_s: float, to_s: float, *, seek: bool) -> Cut:
        ring = PacketRing(math.inf, _MOST_BYTES)
        tap = RingTap(ring)
        tap.begin_session(session)
        if self._path.is_dir() or not seek:
            feed = file_feed(self._path, self._label, self._image_fps, tap)
        else:
            container = open_file(self._path, self._label)
            _seek(container, from_s)
            feed = ContainerFeed(container, live=False, label=self._label, tap=tap)
        try:
            for raw in feed.frames():
                if isinstance(raw, RawFrame):
                    media_s = float(raw.pts * raw.time_base)
                    tap.shown(raw.frame, media_s)
                    if media_s > to_s + _AFTER_S:
                        break
                    ring.forget_before(from_s)
        finally:
            feed.close()
        return ring.cut(session, from_s)


def _seek(container: InputContainer, from_s: float) -> None:
    """Go to a keyframe at or before a media time; where that cannot be, it is read from its beginning."""
    if Flags(container.format.flags) & Flags.no_timestamps:
        return  # its times are counted, from its beginning
    try:
        container.seek(int(max(from_s, 0.0) * 1_000_000), backward=True)
    except av.error.FFmpegError:
        return
