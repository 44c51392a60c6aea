"""Cameras at HTTP addresses: one that sends JPEG after JPEG, one that answers with a single picture, or a video stream.

What an address is says its answer. Pictures are read here, whatever dialect they come in, and an address that answers
with one picture is asked again and again. Any other stream is FFmpeg's, over the same connection, since some encoders
let one reader in only; playlists and files it opens itself, since it has to go about in them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator

import av
import av.error
import httpx
from av.container import InputContainer
from av.stream import Stream

from pipeline.errors import VideoError
from pipeline.video.http_client import CameraClient
from pipeline.video.http_pictures import HTML, HttpPictures, PictureStream, is_pictures

_LEADS_ELSEWHERE = re.compile(rb"(\xef\xbb\xbf)?\s*(#EXTM3U|<\?xml[^>]*>\s*<MPD|<MPD|v=0\r?\n)")  # playlists, SDP
_NOWHERE_ELSE = {"protocol_whitelist": ""}  # what FFmpeg reads here opens nothing itself
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]")
_NO_VIDEO = re.compile(r"text/|application/(json|xml|xhtml|javascript)")


def open_http(
    url: str,
    label: str,
    *,
    open_timeout_s: float,
    read_timeout_s: float,
    sample_fps: float | None,
    options: dict[str, str],
) -> PictureStream | HttpVideo | None:
    """Open what an HTTP address answers with; None where FFmpeg had better open it itself.

    Args:
        url: ``http://`` or ``https://`` address.
        label: what errors call the camera, redacted.
        open_timeout_s: longest wait for the connection; opening takes twice that at most where anything comes at all.
        read_timeout_s: half the longest wait for what comes next, as with FFmpeg.
        sample_fps: pictures per second that are wanted; None for all.
        options: of FFmpeg, for what it reads.

    Raises:
        RefusedError: access is refused, or there is no such stream.
        VideoError: nobody answers, or with neither video nor pictures.
    """
    within_s = 2 * open_timeout_s
    ends_at = time.monotonic() + within_s
    with contextlib.ExitStack() as stack:
        try:
            client = CameraClient(url, label, open_timeout_s=open_timeout_s, read_timeout_s=read_timeout_s)
            stack.callback(client.close)
            answer = client.ask(within_s)
        except (httpx.ProtocolError, ValueError):
            return None  # FFmpeg bears with more of what cameras say, and says what is wrong with an address
        stack.callback(answer.body.close)
        head = answer.head
        if is_pictures(answer):
            pictures = HttpPictures(client, label, answer, sample_fps, poll_within_s=2 * read_timeout_s)
            opened = PictureStream(pictures, label, ends_at)
            opened.connection = stack.pop_all()
            return opened
        if not head:
            raise VideoError(f"{label}: expected video or pictures, got an empty answer")
        if _LEADS_ELSEWHERE.match(head):
            return None
        if HTML.match(head) or (_NO_VIDEO.match(answer.kind) and not _BINARY.search(head)):
            raise VideoError(f"{label}: expected video or pictures, got {answer.kind or 'text/html'}")
        if answer.length is not None:
            return None
        file = _AnswerFile(itertools.chain([head], answer.body), label)
        file.ends_at = ends_at
        try:
            container = av.open(file, "r", options=options | _NOWHERE_ELSE, metadata_errors="replace")
        except av.error.FFmpegError:
            what = answer.kind or "something without a content type"
            raise VideoError(f"{label}: expected video or pictures, got {what} that FFmpeg does not know") from None
        stack.callback(container.close)
        return HttpVideo(container, file, stack.pop_all().close, packet_within_s=2 * read_timeout_s)


class HttpVideo:
    """A video stream that FFmpeg reads out of an answer; the thread that reads is the one that closes.

    Args:
        container: what FFmpeg made of it.
        file: what it was made of.
        close: closes it and the connection.
        packet_within_s: longest wait for a packet, whatever else comes.

    Attributes:
        streams: its streams.
        format: FFmpeg's name and nature of it.
        size: -1: nobody knows how long it will be.
    """

    size = -1

    def __init__(
        self, container: InputContainer, file: _AnswerFile, close: Callable[[], None], *, packet_within_s: float
    ) -> None:
        self.streams, self.format = container.streams, container.format
        self._container, self._file, self._close = container, file, close
        self._packet_within_s = packet_within_s

    def demux(self, *streams: Stream) -> Iterator[av.Packet]:
        """Packets, as PyAV gives them.

        Raises:
            VideoError: nothing comes in time, or the connection breaks.
        """
        packets = self._container.demux(*streams)
        while True:
            self._file.ends_at = time.monotonic() + self._packet_within_s
            packet = next(packets, None)
            if packet is None:
                return
            yield packet

    def close(self) -> None:
        """End the connection."""
        self._close()


class _AnswerFile:
    """An answer's body as a file that FFmpeg reads.

    Attributes:
        ends_at: monotonic time after which nothing more is read.
    """

    def __init__(self, chunks: Iterator[bytes], label: str) -> None:
        self._chunks, self._label = chunks, label
        self._left = memoryview(b"")
        self.ends_at = math.inf

    def read(self, size: int) -> bytes:
        """What has come, up to ``size`` bytes; empty at the end."""
        if time.monotonic() > self.ends_at:
            raise VideoError(f"{self._label}: expected a video stream, got no answer in time")
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = memoryview(chunk)
        given, self._left = self._left[:size], self._left[size:]
        return bytes(given)
