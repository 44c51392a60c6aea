"""Opening and decoding live streams: sources that end, refuse, fail or stay silent."""

import itertools
import socket
import time

import av
import pytest

import pipeline.video.live_clock as live_clock_module
from pipeline.errors import RefusedError, VideoError
from pipeline.video.source import open_source
from tests.rtsp import FPS, RtspServer, require_rtsp, write_footage
from tests.tcp_proxy import peer
from tests.video.decoding import complaint, numbers
from tests.videos import (
    SIZE_PX,
    write_images,
    write_video,
)


def test_a_live_stream_ends_without_an_error_and_promises_no_count(http_folder):
    folder, address = http_folder
    write_video(folder / "camera.ts", 40, b_frames=2)
    with open_source(f"{address}/camera.ts", SIZE_PX, name="gate") as source:
        frames = list(source)
    assert numbers(frames) == list(range(40))
    assert source.live
    assert (source.expected_frames, source.missing()) == (None, 0)


def test_a_live_address_that_is_not_there_is_an_error(http_folder):
    _, address = http_folder
    assert "404" in complaint(f"{address}/nothing.ts", name="gate")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (401, "access is refused (401): check user and password"),
        (403, "access is refused (403): check user and password"),
        (404, "no such stream (404)"),
    ],
)
def test_a_server_that_says_no_is_told_from_one_that_fails(code, said):
    answer = f"HTTP/1.0 {code} No\r\nContent-Length: 0\r\n\r\n".encode()
    with peer(answer) as port, pytest.raises(RefusedError) as caught:
        open_source(f"http://admin:s3cret@127.0.0.1:{port}/main", SIZE_PX, name="gate")
    assert str(caught.value).endswith(said)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_has_trouble_does_not_count_as_one_that_says_no():
    with peer(b"HTTP/1.0 503 Busy\r\nContent-Length: 0\r\n\r\n") as port, pytest.raises(VideoError) as caught:
        open_source(f"http://127.0.0.1:{port}/main", SIZE_PX)
    assert not isinstance(caught.value, RefusedError)


def test_a_live_stream_joined_between_keyframes_begins_at_the_next_one_without_damage(http_folder):
    folder, address = http_folder
    without_first_packets(write_video(folder / "whole.ts", 40, gop=10), folder / "joined.ts", 4)
    with open_source(f"{address}/joined.ts", SIZE_PX) as source:
        came = list(source.arrivals())
    assert numbers([arrival for arrival in came if arrival is not None]) == list(range(10, 40))
    assert came[:6] == [None] * 6
    assert (source.corrupt, source.decode_errors) == (0, 0)


def without_first_packets(path, out, packets):
    with av.open(str(path)) as whole, av.open(str(out), "w") as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if number >= packets and packet.size:
                packet.stream = stream
                cut.mux(packet)


def test_a_camera_that_sends_jpegs_is_read_from_its_first_one(tmp_path):
    folder = write_images(tmp_path / "images", 5, suffix=".jpg")
    parts = [path.read_bytes() for path in sorted(folder.iterdir())]
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=cut\r\n\r\n"
    body = b"".join(
        b"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(p), p) for p in parts
    )
    with peer(head + body + b"--cut--\r\n") as port, open_source(f"http://127.0.0.1:{port}/mjpeg", SIZE_PX) as source:
        assert numbers(list(itertools.islice(source, 5))) == list(range(5))


def test_nobody_at_the_address_is_an_error():
    assert "Connection refused" in complaint("rtsp://127.0.0.1:9/main", name="gate")


def test_a_server_that_accepts_and_stays_silent_does_not_hold_the_reader():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        started = time.monotonic()
        text = complaint(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/main", open_timeout_s=0.3, read_timeout_s=0.3)
        assert time.monotonic() - started < 20.0
    assert "no answer in time" in text


@pytest.mark.server
def test_a_camera_whose_clock_runs_at_half_speed_is_timed_by_arrival(tmp_path, monkeypatch):
    require_rtsp()
    monkeypatch.setattr(live_clock_module, "_WINDOW_S", 0.2)
    monkeypatch.setattr(live_clock_module, "_MOST_BEHIND_S", 0.3)
    monkeypatch.setattr(live_clock_module, "_MOST_BEHIND_SLOWLY_S", 0.3)  # what comes late may make it seem less slow
    with RtspServer({"gate": write_footage(tmp_path / "gate.mp4")}) as camera:
        camera.command("clock", "gate", 0.5)
        with open_source(camera.url("gate"), SIZE_PX) as source:
            own_s = arrival_s = 0.0
            before_s = None
            for frame in source:  # to the end of the test's time, were it timed by its own clock
                time_s = float(frame.pts * frame.time_base)
                if source.untimed and before_s is not None:
                    own_s, arrival_s = own_s + 0.5 / FPS, arrival_s + time_s - before_s
                before_s = time_s
                if arrival_s > own_s + 0.3:
                    break
            assert source.untimed.startswith("its clock runs at 0.")
