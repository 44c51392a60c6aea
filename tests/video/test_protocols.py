"""Cameras and encoders that speak something other than RTSP, each for real on this machine."""

import contextlib
import ctypes
import itertools
import socket
import threading
import time
from pathlib import Path

import av
import pytest

from pipeline.addresses import camera_address_error
from pipeline.errors import VideoError
from pipeline.video.source import DecodedFrame, open_source
from tests.videos import SIZE_PX, frame_number, write_video

FRAMES, FPS = 50, 100


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("footage") / "a.mp4", FRAMES, fps=FPS)


@contextlib.contextmanager
def sent(send):
    """Call ``send`` in a thread, with an event that is set when the block ends."""
    over = threading.Event()

    def run():
        with contextlib.suppress(OSError):  # whoever reads has left
            send(over)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20.0)
        assert not thread.is_alive()


def push(footage, target, container_format, over):
    """Send footage as an encoder does, over and over in real time."""
    began_s, shift = time.monotonic(), 0
    with av.open(target, "w", format=container_format) as out:
        stream = None
        while not over.is_set():
            with av.open(str(footage)) as source:
                video = source.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in source.demux(video):
                    if not packet.size:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    if over.wait(max(began_s + float(packet.dts * video.time_base) - time.monotonic(), 0.0)):
                        return
                    out.mux(packet)
                shift += round(FRAMES / FPS / video.time_base)


def shows_the_camera(url, frames=12):
    """Open a live address and see numbered frames in a row."""
    with open_source(url, SIZE_PX, open_timeout_s=5.0, read_timeout_s=5.0) as source:
        assert source.live
        sound = (arrival for arrival in source.arrivals() if isinstance(arrival, DecodedFrame))
        numbers = [frame_number(frame.image) for frame in itertools.islice(sound, frames)]
    assert numbers == [(numbers[0] + i) % FRAMES for i in range(frames)]


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize(
    ("target", "container_format", "url"),
    [
        ("udp://127.0.0.1:{}?pkt_size=1316", "mpegts", "udp://127.0.0.1:{}"),
        ("udp://127.0.0.1:{}?pkt_size=1316", "mpegts", "udp://@:{}"),
        ("rtp://127.0.0.1:{}", "rtp_mpegts", "rtp://127.0.0.1:{}"),
    ],
)
def test_a_transport_stream_that_is_sent_to_this_machine_is_read(footage, target, container_format, url):
    port = free_udp_port()
    with sent(lambda over: push(footage, target.format(port), container_format, over)):
        shows_the_camera(url.format(port))


@pytest.mark.parametrize("container", ["a.ts", "a.h264", "a.flv"])
def test_what_a_tcp_server_sends_is_read(tmp_path, container):
    data = write_video(tmp_path / container, FRAMES).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(over):
            with listener.accept()[0] as client:
                client.sendall(data)
                over.wait(20.0)

        with sent(serve):
            shows_the_camera(f"tcp://127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize("segments", ["mpegts", "fmp4"])
def test_a_live_playlist_is_read(footage, http_folder, segments):
    folder, address = http_folder
    options = {"hls_time": "0.1", "hls_list_size": "0", "hls_flags": "omit_endlist", "hls_segment_type": segments}
    with av.open(str(folder / "live.m3u8"), "w", format="hls", options=options) as out, av.open(str(footage)) as source:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    assert "ENDLIST" not in (folder / "live.m3u8").read_text()
    (folder / "all.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nlive.m3u8\n")
    shows_the_camera(f"{address}/all.m3u8")


class RtmpServer:
    """FFmpeg's own, for one reader: an open file to write FLV into. PyAV has no option that makes it listen."""

    def __init__(self, url):
        folder = Path(av.__file__).parents[1] / "av.libs"
        self._format, util = (ctypes.CDLL(str(next(folder.glob(f"{name}*")))) for name in ("libavformat", "libavutil"))
        options, self._io = ctypes.c_void_p(), ctypes.c_void_p()
        for key, value in ((b"listen", b"1"), (b"timeout", b"10")):
            util.av_dict_set(ctypes.byref(options), key, value, 0)
        if self._format.avio_open2(ctypes.byref(self._io), url.encode(), 2, None, ctypes.byref(options)) < 0:
            raise OSError(url)

    def write(self, data):
        self._format.avio_write(self._io, bytes(data), len(data))
        self._format.avio_flush(self._io)
        return len(data)


@pytest.mark.server
def test_an_rtmp_server_is_read(footage):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"rtmp://127.0.0.1:{taken.getsockname()[1]}/live/gate"
    give_up_at = time.monotonic() + 10.0
    with sent(lambda over: push(footage, RtmpServer(url), "flv", over)):
        while True:
            try:
                return shows_the_camera(url)
            except VideoError as error:  # it does not listen yet
                assert "Connection refused" in str(error)
                assert time.monotonic() < give_up_at


@pytest.mark.parametrize("scheme", ["srt", "rist", "webrtc", "whep", "onvif", "hls"])
def test_what_this_ffmpeg_cannot_read_is_named_with_the_way_round_it(scheme):
    error = camera_address_error(f"{scheme}://10.0.0.7:9000")
    assert error is not None
    assert f"got {scheme}://, which this FFmpeg does not read: " in error
