"""Cameras that are read over HTTP, on this machine."""

import contextlib
import io
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
from PIL import Image

from tests.rtsp import FPS
from tests.videos import numbered_frame


@contextlib.contextmanager
def that_sends(
    send: Callable[[Callable[[bytes], object], Callable[[float | None], bool]], None], content_type: str | None = None
):
    """A camera at an address, until the block ends.

    Args:
        send: called for everybody who reads it, with what writes bytes, and with what waits some seconds (None: as long
            as it takes) and says whether the block has ended.
        content_type: of its answer.
    """
    over = threading.Event()

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if content_type is not None:
                self.send_header("Content-Type", content_type)
            self.end_headers()
            with contextlib.suppress(OSError):  # the reader has left
                send(self.wfile.write, over.wait)

        def log_message(self, format, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/main"
    finally:
        over.set()
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def that_says(say, tls=None):
    """What answers at an address, byte for byte, until the block ends; yields the address.

    Args:
        say: called for every connection once it has asked, with the socket and with what waits some seconds and says
            whether the block has ended; the connection is closed when it returns.
        tls: the server's context.
    """
    over = threading.Event()

    def serve(client):
        with contextlib.suppress(OSError), client:
            plain = tls.wrap_socket(client, server_side=True) if tls else client
            plain.recv(65_536)
            say(plain, over.wait)
            if tls:
                plain.close()

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}/x"
        over.set()
        listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept


def jpeg(number, size_px=(64, 96)):
    """A picture with a number on it."""
    buffer = io.BytesIO()
    Image.fromarray(numbered_frame(number, size_px)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


class Snapshots:
    """A camera that answers every request with one picture, with the next number on it.

    Args:
        answer: makes status, headers and body of the request's number and its handler.

    Attributes:
        url: its address.
        requests: authorization, address of the connection and path of every request so far.
    """

    def __init__(self, answer, host="127.0.0.1"):
        self.requests = []

        class Camera(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(camera):
                self.requests.append((camera.headers.get("Authorization"), camera.client_address, camera.path))
                status, headers, body = answer(len(self.requests) - 1, camera)
                camera.send_response(status)
                for name, value in {"Content-Length": len(body), **headers}.items():
                    camera.send_header(name, value)
                camera.end_headers()
                with contextlib.suppress(OSError):
                    camera.wfile.write(body)

            def log_message(self, format, *arguments):
                pass

        self._server = ThreadingHTTPServer((host, 0), Camera)
        self.at = f"{host}:{self._server.server_port}"
        self.url = f"http://{self.at}/snap.jpg"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def picture(number, camera=None, kind="image/jpeg"):
    """What a snapshot camera answers."""
    return 200, {"Content-Type": kind}, jpeg(number % 1000)


def whose_video_stops(path, *, keyframes=True):
    """A camera with a microphone: two seconds of video, and sound for as long as anybody listens.

    Args:
        path: a file to write.
        keyframes: whether its video has any.
    """
    with av.open(str(path), "w", format="mpegts") as container:
        video, sound = (
            container.add_stream("libx264", rate=FPS),
            container.add_stream("mp2", rate=48_000, layout="mono"),
        )
        video.height, video.width, video.pix_fmt = 64, 96, "yuv420p"
        for i in range(2 * FPS):
            packets = video.encode(av.VideoFrame.from_ndarray(numbered_frame(i, (64, 96)), format="rgb24"))
            container.mux([packet for packet in packets if keyframes or not packet.is_keyframe])
        container.mux(video.encode(None))
        for i in range(2000):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts = 48_000, 1152 * i
            container.mux(sound.encode(silence))
    stream = path.read_bytes()

    def send(write, wait):
        for begin in range(0, len(stream), 1316):
            write(stream[begin : begin + 1316])
            if wait(0.02):
                return

    return that_sends(send)
