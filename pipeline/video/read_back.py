"""Reading recorded segments back: whether one holds a picture, and what can be kept of one that was cut off.

Footage that the system does not let be read now is not damaged, and nobody may delete it.
"""

from __future__ import annotations

import errno
from pathlib import Path

import av.error

from pipeline.errors import RunError, VideoError
from pipeline.video.container import ContainerFeed, RawFrame, main_stream
from pipeline.video.opening import open_file
from pipeline.video.packet_timeline import packet_timeline
from pipeline.video.segment import DISK_ERRORS, Segment, VideoFormatReader

_CHUNK_BYTES = 1 << 20


def is_readable(path: Path) -> bool:
    """Whether a sound picture can be decoded from a segment, whole or in the making.

    Raises:
        RunError: the disk fails.
        OSError: the system does not let it be read now: too many open files, say.
    """
    try:
        return _holds_picture(path)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise RunError(f"{path}: cannot be read back: {error.strerror}") from None
        raise


def _holds_picture(path: Path) -> bool:
    try:
        feed = ContainerFeed(open_file(path, str(path)), live=False, label=str(path))
    except VideoError as error:
        _raise_if_of_system(path, error.__cause__)
        return False
    try:
        found = any(isinstance(arrival, RawFrame) for arrival in feed.frames())
    finally:
        feed.close()
    if not found:
        _raise_if_of_system(path, feed.failure)
    return found


def copy_readable(path: Path, target: Path) -> int:
    """Copy what can be read of a segment that was cut off into a whole one.

    Returns:
        Packets copied; 0 (and no target) when nothing can be read.

    Raises:
        RunError: the disk is full, or cannot be written.
        OSError: the system does not let it be read, or does not let it be read to its end.
    """
    segment: Segment | None = None
    try:
        with open_file(path, str(path)) as container:
            stream = main_stream(container.streams, str(path))
            timeline, format_reader = packet_timeline(stream), VideoFormatReader(stream)
            for packet in container.demux(stream):
                if not packet.size or packet.is_corrupt:
                    continue
                for stamped in timeline.push(packet):
                    if segment is None and (video_format := format_reader.video_format(packet, None)) is not None:
                        segment = Segment(target, stream, video_format, stamped.pts_ms)
                    if segment is not None:
                        segment.write(stamped)
    except VideoError as error:
        _raise_if_of_system(path, error.__cause__)
    except av.error.FFmpegError as error:  # it was cut off here, or is damaged
        _raise_if_of_system(path, error)
    if segment is None:
        return 0
    segment.close()
    return segment.packets


def _raise_if_of_system(path: Path, failure: BaseException | None) -> None:
    """Raise what says nothing of the footage itself: it may be read another time."""
    if not isinstance(failure, OSError | MemoryError):
        return
    if isinstance(failure, MemoryError) or failure.errno != errno.EIO:
        raise failure
    with path.open("rb") as file:  # FFmpeg says this of damaged Matroska, too; if it is the disk, it says so here
        while file.read(_CHUNK_BYTES):
            pass
