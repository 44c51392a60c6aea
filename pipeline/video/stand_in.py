"""A file in the place of a live camera (``loop: true``): in real time, over and over, on one clock that goes on.

To whoever reads it, it is a camera: frames (or packets, to be recorded) come when they are due, and no round is told
from the one before, but by its picture. Each round opens the file anew, so that every container reads alike, and a file
that was replaced plays from its next round on; one that is gone fails as a camera that was switched off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.error
from av.container import InputContainer
from av.container.streams import StreamContainer
from av.format import ContainerFormat
from av.stream import Stream
from av.video.stream import VideoStream

from pipeline.errors import VideoError
from pipeline.video.container import Feed, FrameDamage, RawFrame, frame_rate, main_stream
from pipeline.video.images import FOLDER_FPS, list_images, refuse_rate
from pipeline.video.opening import ffmpeg_message, open_file

TIME_BASE = Fraction(1, 90_000)
"""Seconds per tick of a stand-in's clock: a camera's over RTSP."""

_UNKNOWN_RATE_FPS = 25.0
_SHORTEST_STEP_S, _LONGEST_STEP_S = 0.001, 2.0
_SHORTEST_USUAL_STEP_S = 0.01  # a single picture must not be opened a thousand times per second
_CATCH_UP_S = 0.5  # who is later than this goes on from there, and so does the clock: nobody films in the past
_IMAGE_OPTIONS = {
    "format_whitelist": "bmp_pipe,gif_pipe,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe",
    "protocol_whitelist": "file",
}
_LONGEST_SLEEP_S = 0.1  # whoever iterates is to be asked often whether it may go on


class Due(NamedTuple):
    """When something is to come.

    Attributes:
        pts: time stamp in ticks of ``TIME_BASE`` since the first.
        at_s: the same as monotonic time in seconds.
        cut: whether the file leapt or began anew before it, which the clock does not show.
    """

    pts: int
    at_s: float
    cut: bool = False


class StandInClock:
    """A clock that rises with real time from frame to frame, whatever a file says. Pure: time is passed in.

    Steps are the file's own. Where it says nothing, leaps (joined recordings, the gaps between events), or begins anew,
    the next frame comes one usual step after the last.

    Args:
        rate_fps: frames per second that the file states, or None.
    """

    def __init__(self, rate_fps: float | None) -> None:
        step_s = 1.0 / (rate_fps or _UNKNOWN_RATE_FPS)
        self._usual_step_s = min(max(step_s, _SHORTEST_USUAL_STEP_S), _LONGEST_STEP_S)
        self._began_at_s: float | None = None
        self._time_s = 0.0
        self._media_time_s: float | None = None
        self._damaged = 0

    def begin_round(self) -> None:
        """The file begins anew."""
        self._media_time_s = None

    def next_frame(self, media_time_s: float | None, now: float) -> Due:
        """When the next frame is due.

        Args:
            media_time_s: its time in the file in seconds, any start; None where the file has none.
            now: monotonic seconds.
        """
        cut = False
        if self._began_at_s is None:
            self._began_at_s = now
        else:
            last_s = self._media_time_s
            step_s = 0.0 if media_time_s is None or last_s is None else media_time_s - last_s
            cut = last_s is None or not 0.0 <= step_s <= _LONGEST_STEP_S
            self._time_s += step_s if _SHORTEST_STEP_S <= step_s <= _LONGEST_STEP_S else self._usual_step_s
        if now - self._began_at_s - self._time_s > _CATCH_UP_S:
            self._time_s = now - self._began_at_s
        self._media_time_s, self._damaged = media_time_s, 0
        return Due(round(self._time_s / TIME_BASE), self._began_at_s + self._time_s, cut)

    def next_damage(self, now: float) -> float:
        """When something is due that has no time, such as a damaged frame, in monotonic seconds.

        Args:
            now: monotonic seconds.
        """
        self._damaged += 1
        return (self._began_at_s or now) + self._time_s + self._damaged * self._usual_step_s


class StandInFeed:
    """Frames of a file as a live camera sends them. Implements ``pipeline.video.container.Feed``.

    Args:
        open_round: opens the file for one round.
        label: what errors call it.
        now: monotonic clock in seconds.
        sleep: waits some seconds.

    Raises:
        VideoError: the file cannot be opened.
    """

    expected_frames = None
    before_keyframe = 0
    is_thinned = False
    untimed = ""

    def __init__(
        self,
        open_round: Callable[[], Feed],
        label: str,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._open_round, self._label, self._now, self._sleep = open_round, label, now, sleep
        self._round = open_round()
        self.frame_rate_fps, self.codec = self._round.frame_rate_fps, self._round.codec

    def frames(self) -> Iterator[RawFrame | FrameDamage | None]:
        """Decode round after round, each frame when it is due; None now and then while none is.

        Raises:
            VideoError: the file cannot be opened any more, or brings no frame that can be decoded.
        """
        clock = StandInClock(self.frame_rate_fps)
        while True:
            sound = 0
            for raw in self._round.frames():
                if isinstance(raw, RawFrame):
                    sound += 1
                    due = clock.next_frame(float(raw.pts * raw.time_base), self._now())
                    yield from _waiting(due.at_s, self._now, self._sleep)
                    yield RawFrame(due.pts, TIME_BASE, raw.frame, due.cut)
                elif raw is not None:
                    yield from _waiting(clock.next_damage(self._now()), self._now, self._sleep)
                    yield raw
            if not sound:
                raise VideoError(f"{self._label}: expected frames, got none that can be decoded")
            self._round.close()
            self._round = self._open_round()
            clock.begin_round()

    @property
    def first_unreadable(self) -> str:
        """One line on the first frame of this round that could not be read, where something is known of it."""
        return self._round.first_unreadable

    def close(self) -> None:
        """Close the file."""
        self._round.close()


class StandInPackets:
    """Packets of a file, or of a folder's images, as a live camera sends them, to be recorded.

    Implements ``pipeline.video.opening.LiveContainer``.

    Args:
        path: the file or folder.
        label: what errors call it.
        image_fps: how many images of a folder were filmed per second; None takes ``FOLDER_FPS``.
        now: monotonic clock in seconds.
        sleep: waits some seconds.

    Raises:
        VideoError: it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        label: str,
        *,
        image_fps: float | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        refuse_rate(path, image_fps, label)
        self._path, self._label, self._now, self._sleep = path, label, now, sleep
        self._image_fps = image_fps or FOLDER_FPS
        self._is_folder = path.is_dir()
        parts = self._parts()
        if not parts:
            raise VideoError(f"{label}: expected a folder of images, got a folder without any")
        # Stays open: whoever records asks its streams until the end.
        self._first = self._open(parts[0])

    @property
    def streams(self) -> StreamContainer:
        """Streams of the file."""
        return self._first.streams

    @property
    def format(self) -> ContainerFormat:
        """What the file is."""
        return self._first.format

    @property
    def size(self) -> int:
        """Bytes of the file: it brings its times."""
        return self._first.size

    def demux(self, *streams: Stream) -> Iterator[av.Packet | None]:
        """Packets of the main video stream, each when it is due; None now and then while none is.

        Args:
            streams: as a camera's; no other comes in any case.

        Raises:
            VideoError: the file cannot be opened any more, is another one that what was asked of ``streams`` does not
                describe, or holds no packets.
        """
        first = main_stream(self._first.streams, self._label)
        tick_s = first.time_base or TIME_BASE
        clock = StandInClock(self._image_fps if self._is_folder else frame_rate(first))
        while True:
            came = 0
            for packet, decoded_s in self._round(clock, _description(first)):
                came += 1
                due = clock.next_frame(decoded_s, self._now())
                for _ in _waiting(due.at_s, self._now, self._sleep):
                    yield None
                yield _restamped(packet, due, tick_s)
            if not came:
                raise VideoError(f"{self._label}: expected packets of video, got none")

    def _round(
        self, clock: StandInClock, described: tuple[str, bytes | None]
    ) -> Iterator[tuple[av.Packet, float | None]]:
        """Packets of one round, with their times in the file in seconds."""
        for part in self._parts():
            clock.begin_round()
            try:
                container = self._open(part)
            except VideoError:
                if self._is_folder:
                    continue  # one damaged picture of many
                raise
            with closing(container):
                stream = main_stream(container.streams, self._label)
                if not self._is_folder and _description(stream) != described:
                    raise VideoError(f"{self._label}: expected the file that was opened, got another one in its place")
                for packet in container.demux(stream):
                    if packet.size:
                        base = packet.time_base or TIME_BASE
                        yield packet, None if packet.dts is None else float(packet.dts * base)

    def _parts(self) -> Sequence[Path]:
        """What is opened in one round."""
        return list_images(self._path) if self._is_folder else (self._path,)

    def _open(self, path: Path) -> InputContainer:
        if not self._is_folder:
            return open_file(path, self._label)
        try:
            return av.open(f"file:{path}", options=_IMAGE_OPTIONS)
        except av.error.FFmpegError as error:
            raise VideoError(f"{self._label}: expected an image, got {ffmpeg_message(error)}: {path.name}") from error

    def close(self) -> None:
        """Close the file."""
        self._first.close()


def _description(stream: VideoStream) -> tuple[str, bytes | None]:
    """What a decoder must know before the first packet."""
    return stream.codec_context.name, stream.codec_context.extradata


def _restamped(packet: av.Packet, due: Due, tick_s: Fraction) -> av.Packet:
    """The packet on the stand-in's clock; the time from its decoding to its showing stays."""
    base = packet.time_base or tick_s
    shown_later_s = (packet.pts - packet.dts) * base if packet.pts is not None and packet.dts is not None else None
    dts = round(due.pts * TIME_BASE / tick_s)
    packet.pts = None if shown_later_s is None else dts + round(shown_later_s / tick_s)
    packet.dts = dts
    packet.time_base = tick_s
    return packet


def _waiting(until_s: float, now: Callable[[], float], sleep: Callable[[float], object]) -> Iterator[None]:
    """Wait until a monotonic time, in short steps; whoever iterates may stop between them."""
    while (delay_s := until_s - now()) > 0.0:
        sleep(min(delay_s, _LONGEST_SLEEP_S))
        if delay_s > _LONGEST_SLEEP_S:
            yield None
