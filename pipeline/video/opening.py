"""Opening video files and live streams: options and limits, and what to say when it fails.

The options and the behaviour on faults were measured with PyAV 18.1 (FFmpeg 8.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import av
import av.error
from av.container import InputContainer
from av.container.streams import StreamContainer
from av.format import ContainerFormat
from av.stream import Stream

from pipeline.addresses import ffmpeg_address
from pipeline.errors import RefusedError, VideoError
from pipeline.redaction import redact
from pipeline.video.redirects import password_stays

# Demuxers of video files. Without a list FFmpeg would also read a still image, a playlist that points elsewhere...
_FILE_FORMATS = (
    "mov,mp4,avi,matroska,webm,mpegts,mpeg,mpegvideo,h264,hevc,vvc,av1,obu,ivf,m4v,mjpeg,flv,asf,ogg,mxf,nut,rm,dhav,"
    "dv,yuv4mpegpipe"
)
_FILE_OPTIONS = {"format_whitelist": _FILE_FORMATS, "protocol_whitelist": "file"}
# Probing costs RTSP 2 to 5 s, and RTSP announces its codec; without probing it opens in 0.1 s. Over UDP pictures get
# lost: only where a camera refuses TCP.
_RTSP_OPTIONS = {
    "rtsp_transport": "tcp+udp+udp_multicast",
    "rtsp_flags": "prefer_tcp",
    "buffer_size": "1048576",  # UDP's: a large keyframe comes in one burst
    "allowed_media_types": "video",
    "analyzeduration": "0",
    "probesize": "32",
}
_OTHER_LIVE_OPTIONS = {"analyzeduration": "1000000", "fpsprobesize": "0"}
# RFC 6874 writes the zone of a link-local address as %25eth0; FFmpeg, and most people, as %eth0.
_ENCODED_ZONE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?\[[0-9A-Fa-f:.]+%)25(?=[^\]/?#]+\])")


class LiveContainer(Protocol):
    """A live stream, demuxed by FFmpeg or by ourselves; the thread that reads is the one that closes."""

    @property
    def streams(self) -> StreamContainer:
        """Its streams."""
        ...

    @property
    def format(self) -> ContainerFormat:
        """What FFmpeg knows of its nature."""
        ...

    @property
    def size(self) -> int:
        """Its bytes where they are known, else something negative."""
        ...

    def demux(self, *streams: Stream) -> Iterator[av.Packet | None]:
        """Packets as they come; None stands for something that came and makes none."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


def open_file(path: Path, label: str) -> InputContainer:
    """Open a video file.

    Raises:
        VideoError: it cannot be read, or is no video file; its cause is what the system or FFmpeg said.
    """
    head = _head(path, label)
    try:
        # "file:" keeps a name with a colon or a percent sign in it from meaning something else to FFmpeg.
        return av.open(f"file:{path}", options=_FILE_OPTIONS, metadata_errors="replace")
    except av.error.FFmpegError as error:
        if head[4:8] == b"ftyp":
            detail = "an mp4 without its index (moov): it was cut off before the recorder finished it"
        else:
            detail = f"something else ({ffmpeg_message(error)})"
        raise VideoError(f"{label}: expected a video file, got {detail}") from error


def open_live(
    url: str, label: str, *, open_timeout_s: float, read_timeout_s: float, sample_fps: float | None = None
) -> LiveContainer:
    """Open a live stream, waiting no longer than about twice ``open_timeout_s`` (FFmpeg arms the limit twice).

    A camera that answers with one picture is asked ``sample_fps`` times per second (once, if that is None).

    Raises:
        RefusedError: access is refused, there is no such stream, or a redirect would take the password elsewhere.
        VideoError: nobody answers, or what answers is no video stream.
    """
    url = ffmpeg_address(url)
    scheme = url.split(":", 1)[0].lower()
    options = _RTSP_OPTIONS if scheme in {"rtsp", "rtsps"} else _OTHER_LIVE_OPTIONS
    url = _ENCODED_ZONE.sub(r"\1", scheme + url[len(scheme) :])  # FFmpeg knows schemes in small letters alone
    if scheme in {"http", "https"}:
        from pipeline.video.http_camera import open_http  # httpx only where there are such cameras

        timeouts_s = {"open_timeout_s": open_timeout_s, "read_timeout_s": read_timeout_s}
        opened = open_http(url, label, **timeouts_s, sample_fps=sample_fps, options=options)
        if opened is not None:
            return opened
    try:
        with password_stays(url, label, timeout_s=open_timeout_s):
            return av.open(url, options=options, timeout=(open_timeout_s, read_timeout_s), metadata_errors="replace")
    except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError) as error:
        code = 401 if isinstance(error, av.error.HTTPUnauthorizedError) else 403
        raise RefusedError(
            f"{label}: expected a video stream, got: access is refused ({code}): check user and password"
        ) from None
    except av.error.HTTPNotFoundError:
        raise RefusedError(f"{label}: expected a video stream, got: no such stream (404)") from None
    except av.error.HTTPOtherClientError:
        raise VideoError(
            f"{label}: expected a video stream, got another refusal (4xx): too many viewers, or no video at present"
        ) from None
    except UnicodeEncodeError:
        raise VideoError(f"{label}: expected an address, got half of a surrogate pair in it") from None
    except av.error.InvalidDataError:  # FFmpeg's answer to silence, too
        raise VideoError(f"{label}: expected a video stream, got no answer in time, or none that is video") from None
    except av.error.FFmpegError as error:
        raise VideoError(f"{label}: expected a video stream, got {ffmpeg_message(error)}") from None


def ffmpeg_message(error: av.error.FFmpegError) -> str:
    """What FFmpeg says of an error, in one line without the address (which may hold a password)."""
    if isinstance(error, av.error.ExitError):  # the interrupt that bounds a wait
        return "no answer in time"
    return redact(" ".join(str(error.strerror or error.__class__.__name__).split()))


def _head(path: Path, label: str) -> bytes:
    """The file's first bytes, read to tell an unreadable or empty file from a damaged one."""
    if not path.exists():
        raise VideoError(f"{label}: expected a video file or a folder of images, got nothing there")
    if not path.is_file():
        raise VideoError(f"{label}: expected a video file or a folder of images, got neither")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise VideoError(f"{label}: expected a readable file, got: {error.strerror}") from error
    if not head:
        raise VideoError(f"{label}: expected a video file, got an empty file")
    return head
