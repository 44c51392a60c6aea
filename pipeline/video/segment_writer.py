"""One camera's packets cut into segments, which are read back and published when they are whole."""

from __future__ import annotations

import logging

from av.video.stream import VideoStream

from pipeline.errors import VideoError
from pipeline.video.packet_timeline import TimedPacket
from pipeline.video.read_back import is_readable
from pipeline.video.recordings import RecordingFolder
from pipeline.video.segment import Segment, VideoFormatReader

_READ_BACK_EVERY_S = 3.0  # the muxer holds up to a second back

_log = logging.getLogger(__name__)


class SegmentWriter:
    """Writes a camera's segments, one at a time; one thread at a time calls it.

    Args:
        folder: where segments go.
        scene: under whose name they are kept.
        segment_s: media time after which the next keyframe begins a new segment.
        unreadable_s: media time after which a segment in which nothing can be decoded is given up.
        label: what messages call the camera, redacted.

    Attributes:
        segments: whole segments.
        unreadable: segments in which nothing could be decoded when they were read back; they are not kept.
        waits_for: why packets are left out at present.
    """

    def __init__(
        self, folder: RecordingFolder, scene: str, *, segment_s: float, unreadable_s: float, label: str
    ) -> None:
        self._folder, self._scene, self._label = folder, scene, label
        self._segment_s, self._unreadable_s = segment_s, unreadable_s
        self._segment: Segment | None = None
        self._read_back_s: float | None = 0.0  # media time at which the segment was last tried; None: it can be read
        self._recorded_s = 0.0
        self._bytes = self._left_out = 0
        self.segments = self.unreadable = 0
        self.waits_for = ""

    @property
    def recorded_s(self) -> float:
        """Media time in whole segments and in the one in the making."""
        segment = self._segment
        return self._recorded_s + (segment.duration_s if segment else 0.0)

    @property
    def recorded_bytes(self) -> int:
        """Bytes of the packets in them."""
        segment = self._segment
        return self._bytes + (segment.payload_bytes if segment else 0)

    @property
    def left_out(self) -> int:
        """Packets that no player could use: before a first keyframe, or damaged."""
        segment = self._segment
        return self._left_out + (segment.left_out if segment else 0)

    def begin_connection(self) -> None:
        """Wait for a keyframe: what comes next does not follow what came before."""
        self.waits_for = "waiting for a keyframe"

    def write(self, stamped: TimedPacket, stream: VideoStream, format_reader: VideoFormatReader) -> bool:
        """Write an access unit, at a keyframe perhaps into a new segment.

        Args:
            stamped: the access unit.
            stream: where it came from.
            format_reader: of this connection.

        Returns:
            False when it was left out because there is no segment yet: see ``waits_for``.

        Raises:
            VideoError: the stream cannot be kept, or what was kept of it cannot be read back.
            RunError: the disk is full, or cannot be written.
        """
        if stamped.packet.is_keyframe and not stamped.packet.is_corrupt:
            self._begin_segment_at(stamped, stream, format_reader)
        if self._segment is None:
            self._left_out += 1
            return False
        self._segment.write(stamped)
        self._read_back(self._segment)
        return True

    def end(self) -> None:
        """End the segment in the making, if there is one, and publish it, unless nothing in it can be decoded.

        Raises:
            RunError: the disk is full, or cannot be written.
        """
        segment, self._segment = self._segment, None
        if segment is None:
            return
        segment.close()
        self._left_out += segment.left_out
        if not segment.packets:
            self._folder.discard(segment.path)
            return
        if self._read_back_s is not None and self._is_readable(segment) is False:
            self._folder.discard(segment.path)
            self.unreadable += 1
            _log.warning(
                "%s: a segment of %.1f s could not be read back and is not kept: nothing in it can be decoded",
                self._label,
                segment.duration_s,
            )
            return
        self._folder.publish(segment.path)
        self.segments += 1
        self._recorded_s += segment.duration_s
        self._bytes += segment.payload_bytes

    def _begin_segment_at(self, stamped: TimedPacket, stream: VideoStream, format_reader: VideoFormatReader) -> None:
        """Begin a segment at a keyframe, if there is none, or if the one there is long enough or shows others."""
        segment, mark = self._segment, format_reader.mark(stamped.packet)
        is_other = segment is not None and mark is not None and mark != segment.video_format.mark
        if segment is not None and not is_other and segment.duration_s < self._segment_s:
            return
        video_format = format_reader.video_format(stamped.packet, mark)
        if video_format is None:  # the next keyframe will do
            self.waits_for = "waiting for a keyframe that can be decoded"
            return
        self.end()
        path = self._folder.stage(self._scene)
        try:
            self._segment = Segment(path, stream, video_format, stamped.pts_ms)
        except VideoError as error:
            raise VideoError(f"{self._label}: {error}") from None
        self._read_back_s = 0.0

    def _read_back(self, segment: Segment) -> None:
        """Try every few seconds whether a new segment can be decoded, until it can.

        Raises:
            VideoError: it cannot, for too long.
        """
        if self._read_back_s is None or segment.duration_s < self._read_back_s + _READ_BACK_EVERY_S:
            return
        readable = self._is_readable(segment)
        self._read_back_s = None if readable else segment.duration_s
        if readable is False and segment.duration_s >= self._unreadable_s:
            raise VideoError(
                f"{self._label}: expected a recording that can be read back, got {segment.duration_s:.0f} s in which "
                "nothing can be decoded: not kept"
            )

    def _is_readable(self, segment: Segment) -> bool | None:
        """Whether a segment can be read back; None, said in the log, where the system does not let anybody tell."""
        try:
            return is_readable(segment.path)
        except OSError as error:
            _log.warning("%s: a segment is kept, though it could not be read back: %s", self._label, error.strerror)
            return None
