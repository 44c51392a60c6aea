"""Pictures that an HTTP address answers with, as a stream: many in one answer, or one each time it is asked.

They have no clock: nothing says when one was taken but its arrival.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import time
from collections.abc import Generator, Iterator

import av
import av.error
import httpx
from av.container import InputContainer
from av.container.streams import StreamContainer
from av.format import ContainerFormat
from av.stream import Stream

from pipeline.errors import RefusedError, VideoError
from pipeline.video.http_client import CameraClient, HttpAnswer
from pipeline.video.jpeg_splitter import MAX_PICTURE_BYTES, JpegSplitter

USUAL_POLLS_FPS = 1.0
"""How often a camera is asked for its picture that is to be scored as it comes."""

LEAST_POLLS_FPS = 0.5
"""How often at least, or one that is gone would be noticed too late."""

_MOST_FAILED_POLLS = 3  # in a row: a camera that is busy once has not gone
_TICK_S = 0.2
_JPEG_WITHIN_BYTES = 4 << 20
_JPEG = b"\xff\xd8\xff"
_OTHER_PICTURE = re.compile(rb"\x89PNG\r\n|BM.{4}\0\0\0\0|GIF8[79]a|II\*\0|MM\0\*|RIFF.{4}WEBP", re.DOTALL)
_PARTS = re.compile(rb"\s*--[^\r\n]{1,200}\r?\n")
HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!--|!doctype html|html|head|body)", re.IGNORECASE)
"""How a web page begins: a camera's login, mostly."""

_FORMAT = ContainerFormat("mjpeg", "r")
_FORMATS = {"format_whitelist": "jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif_pipe,gif"}


class HttpPictures:
    """Pictures of one address, and None now and then while none has come; to be iterated once.

    An answer with more than one picture is a stream, and its end is the end. One with a single picture is asked for
    again and again, each time by the same clock, however long the answer before took.

    Args:
        client: asks for them.
        label: what errors call the camera, redacted.
        answer: the first answer.
        sample_fps: pictures per second that are wanted; None for all.
        poll_within_s: longest wait for an answer after the first.
    """

    def __init__(
        self, client: CameraClient, label: str, answer: HttpAnswer, sample_fps: float | None, *, poll_within_s: float
    ) -> None:
        self._client, self._label = client, label
        self._answer, self._poll_within_s = answer, poll_within_s
        self._is_polled = False
        self._poll_s = 1.0 / max(sample_fps or USUAL_POLLS_FPS, LEAST_POLLS_FPS)
        self._is_sampled = sample_fps is None or sample_fps >= LEAST_POLLS_FPS

    @property
    def is_thinned(self) -> bool:
        """Whether no more pictures come than are wanted."""
        return self._is_polled and self._is_sampled

    def __iter__(self) -> Iterator[bytes | None]:
        """Pictures until the stream ends.

        Raises:
            RefusedError: access is refused.
            VideoError: none comes any more.
        """
        due_at = time.monotonic()
        brought = yield from self._pictures(self._answer)
        if not brought:
            raise VideoError(f"{self._label}: expected pictures, got the end of the stream")
        failed = 0
        while brought <= 1:
            self._is_polled = True
            due_at = max(due_at + self._poll_s, time.monotonic())
            while (wait_s := due_at - time.monotonic()) > 0.0:
                time.sleep(min(wait_s, _TICK_S))
                yield None
            try:
                brought = yield from self._poll()
                failed = 0
            except RefusedError:
                raise
            except VideoError:
                failed += 1
                if failed == _MOST_FAILED_POLLS:
                    raise
                brought = 0

    def _poll(self) -> Generator[bytes | None, None, int]:
        try:
            answer = self._client.ask(self._poll_within_s)
        except httpx.ProtocolError as error:
            raise VideoError(f"{self._label}: expected a picture, got {error}") from None
        if not is_pictures(answer):
            answer.body.close()
            raise VideoError(f"{self._label}: expected a picture, got {answer.kind or 'something else'}")
        brought = yield from self._pictures(answer)
        if not brought:
            raise VideoError(f"{self._label}: expected a picture, got an answer without one")
        return brought

    def _pictures(self, answer: HttpAnswer) -> Generator[bytes | None, None, int]:
        """Pictures of one answer; returns how many they were."""
        chunks = itertools.chain([answer.head], answer.body)
        if not _comes_in_parts(answer):
            yield (yield from self._whole(answer, chunks))
            return 1
        splitter, brought = JpegSplitter(), 0
        for chunk in chunks:
            try:
                pictures = splitter.push(chunk)
            except ValueError as error:
                raise VideoError(f"{self._label}: {error}") from None
            brought += len(pictures)
            yield from pictures or [None]
            strange_bytes = splitter.strange_bytes
            if not brought and strange_bytes > _JPEG_WITHIN_BYTES:
                raise VideoError(f"{self._label}: expected JPEGs, got {strange_bytes:,} bytes of something else")
        return brought

    def _whole(self, answer: HttpAnswer, chunks: Iterator[bytes]) -> Generator[None, None, bytes]:
        """The one picture of an answer. A JPEG is whole with its own end, since lengths are wrong or missing."""
        picture, splitter = bytearray(), JpegSplitter()
        jpegs: list[bytes] = []
        is_other = _OTHER_PICTURE.match(answer.head)
        for chunk in chunks:
            picture += chunk
            if len(picture) > MAX_PICTURE_BYTES:
                raise VideoError(f"{self._label}: expected a picture of at most {MAX_PICTURE_BYTES:,} bytes, got more")
            jpegs += [] if is_other else splitter.push(chunk)
            if jpegs and (answer.length is None or len(picture) < answer.length):
                answer.body.close()  # nobody knows whether more would come; else the connection can be kept
                break
            yield None
        return jpegs[0] if jpegs else bytes(picture)


class PictureStream:
    """A stream of pictures of one kind; the thread that reads is the one that closes.

    Args:
        pictures: the pictures; the first is waited for.
        label: what errors call the camera, redacted.
        ends_at: monotonic time until which the first is waited for.

    Raises:
        VideoError: no picture comes, or one that FFmpeg does not know.

    Attributes:
        connection: closed with it.
    """

    def __init__(self, pictures: HttpPictures, label: str, ends_at: float) -> None:
        self.connection = contextlib.ExitStack()
        self._source, self._pictures = pictures, iter(pictures)
        self._first: bytes | None = None
        while self._first is None:
            self._first = next(self._pictures)  # it raises where there is none
            if self._first is None and time.monotonic() > ends_at:
                raise VideoError(f"{label}: expected a picture, got none in time")
        try:
            # FFmpeg finds out which kind of picture it is, and has a decoder for it.
            self._container: InputContainer = av.open(io.BytesIO(self._first), "r", options=_FORMATS)
        except av.error.FFmpegError:
            raise VideoError(f"{label}: expected pictures, got some that cannot be decoded") from None
        self._stream = self._container.streams.video[0]

    @property
    def is_thinned(self) -> bool:
        """Whether no more pictures come than are wanted."""
        return self._source.is_thinned

    @property
    def streams(self) -> StreamContainer:
        """The one stream."""
        return self._container.streams

    @property
    def format(self) -> ContainerFormat:
        """That of raw pictures, which have no times."""
        return _FORMAT

    @property
    def size(self) -> int:
        """Unknown: -1."""
        return -1

    def demux(self, *streams: Stream) -> Iterator[av.Packet | None]:
        """Pictures as packets without a time, each as soon as it is there; None now and then while none is."""
        if self._first is not None:
            yield self._packet(self._first)
            self._first = None
        for picture in self._pictures:
            yield None if picture is None else self._packet(picture)

    def close(self) -> None:
        """End the connection."""
        self._container.close()
        self.connection.close()

    def _packet(self, picture: bytes) -> av.Packet:
        packet = av.Packet(picture)
        packet.stream = self._stream
        packet.is_keyframe = True
        return packet


def is_pictures(answer: HttpAnswer) -> bool:
    """Whether an answer is made of pictures; what it holds says more than its type."""
    if _comes_in_parts(answer) or _OTHER_PICTURE.match(answer.head):
        return True
    return bool(answer.head) and answer.kind.startswith("image/") and not HTML.match(answer.head)


def _comes_in_parts(answer: HttpAnswer) -> bool:
    """Whether JPEGs are to be looked for in it; of an image its whole body is one picture."""
    head, is_image = answer.head, answer.kind.startswith("image/")
    return (
        answer.kind.startswith("multipart/")
        or bool(_PARTS.match(head))
        or (head.lstrip().startswith(_JPEG) and not is_image)
    )
