"""Cameras that are sound and unusual: other codecs and pixel formats, other tracks, other networks, other addresses."""

import itertools
import socket
from fractions import Fraction

import av
import pytest

from pipeline.errors import VideoError
from pipeline.video.source import open_source
from tests.faults.test_streams import comes_back, fails, streams
from tests.rtsp import FPS, RtspServer, require_rtsp, write_footage
from tests.tcp_proxy import peer
from tests.video.station import SIZE_PX, Station, until
from tests.videos import frame_number, numbered_frame

pytestmark = pytest.mark.server

FRAMES = 50
X264 = {"threads": "1", "crf": "12"}
X265 = "log-level=none:pools=1:frame-threads=1:ctu=16:keyint=10:bframes="
# Encoder, pixel format, options; B-frames among them.
ENCODED = {
    "h265.h265.mp4": ("libx265", "yuv420p", {"crf": "4", "x265-params": X265 + "2"}),
    "h265-422.h265.mp4": ("libx265", "yuv422p10le", {"crf": "4", "x265-params": X265 + "0"}),
    "reordered.mp4": ("libx264", "yuv420p", {**X264, "bf": "3", "b-pyramid": "normal"}),
    "422.mp4": ("libx264", "yuv422p", {**X264, "bf": "0"}),
    "422-10.mp4": ("libx264", "yuv422p10le", {**X264, "bf": "0"}),
    # RTP carries no Huffman tables; by itself the encoder makes its own wherever it has one core.
    "jpeg.jpeg.mov": ("mjpeg", "yuvj420p", {"qmin": "1", "qmax": "4", "huffman": "default"}),
}
TRACKS = {
    "sound-first": "+sound+video",
    "metadata-first": "+metadata+video",
    "metadata": "+video+metadata",
    "thumbnail-first": "+thumbnail+video",
    "thumbnail": "+video+thumbnail",
}
PATHS = ["cam/realmonitor?channel=1&subtype=0", "main?", "stream1/"]

# Many cameras, on a machine that may stand still for seconds: what is looked at here are pictures, not limits.
PATIENT = {"open_timeout_s": 30.0, "read_timeout_s": 30.0, "stall_timeout_s": 50.0, "buffer_frames": 1000}


def encode(path, encoder, pixel_format, options, *, first=0, size_px=(64, 96)):
    """Two seconds of numbered frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=FPS, options=options)
        stream.height, stream.width = size_px
        stream.pix_fmt, stream.codec_context.gop_size = pixel_format, 10
        stream.codec_context.max_b_frames = int(options.get("bf", 0))
        if encoder == "mjpeg":
            stream.codec_context.color_range = 2
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(numbered_frame(first + number, size_px), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    require_rtsp()
    return write_footage(tmp_path_factory.mktemp("footage") / "gate.mp4", seconds=2.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory, footage):
    folder = tmp_path_factory.mktemp("odd")
    encoded = {name.split(".")[0]: encode(folder / name, *how) for name, how in ENCODED.items()}
    tracks = {name + words: footage for name, words in TRACKS.items()}
    paths = {path.rstrip("?/").split("?")[0]: footage for path in PATHS}
    with RtspServer({**encoded, **tracks, **paths, "later": footage, "moved": footage, "capitals": footage}) as running:
        yield running


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    with Station(tmp_path_factory.mktemp("station")) as running:
        yield running


def is_whole(station, camera_id):
    """Wait for a second of a camera, and look at all that came."""
    until(lambda: len(station.frames_of(camera_id)) >= FPS, f"a second of {camera_id} comes")
    numbers = [frame_number(frame.image) for frame in station.frames_of(camera_id)]
    assert numbers == [(numbers[0] + i) % FRAMES for i in range(len(numbers))]
    times_s = [frame.header.media_time_s for frame in station.frames_of(camera_id)]
    assert all(0.03 < later - earlier < 0.05 for earlier, later in itertools.pairwise(times_s))
    status = station.status(camera_id)
    assert (status.state, status.error, status.session, status.dropped) == ("streaming", "", 0, {})


@pytest.fixture(scope="module")
def started(server, station):
    """All odd cameras, read at the same time."""
    names = [name.split(".")[0] for name in ENCODED] + list(TRACKS)
    for name in names:
        station.add(name, server.url(name), **PATIENT)
    for number, path in enumerate(PATHS):
        station.add(f"path-{number}", server.url(path), **PATIENT)
    station.add("capitals", server.url("capitals").replace("rtsp", "RTSP"), **PATIENT)
    return station


@pytest.mark.parametrize("name", [name.split(".")[0] for name in ENCODED])
def test_every_codec_and_pixel_format_comes_whole_and_in_order(started, name):
    is_whole(started, name)


@pytest.mark.parametrize("name", TRACKS)
def test_the_pictures_are_found_among_other_tracks(started, name):
    is_whole(started, name)


@pytest.mark.parametrize("number", range(len(PATHS)))
def test_addresses_keep_what_stands_behind_the_path(started, number):
    is_whole(started, f"path-{number}")


def test_a_scheme_in_capitals_means_the_same(started):
    is_whole(started, "capitals")


@pytest.mark.parametrize("name", ["h265.h265.mp4", "jpeg.jpeg.mov"])
def test_every_codec_may_change_its_picture_size(started, server, tmp_path, name):
    camera_id = name.split(".")[0]
    other = encode(tmp_path / name, *ENCODED[name], first=512, size_px=(128, 112))
    server.command("switch", camera_id, other)
    until(lambda: frame_number(started.frames_of(camera_id)[-1].image) >= 512, "frames of the other size come")
    streams(started, camera_id, frames=10)
    numbers = [frame_number(frame.image) for frame in started.frames_of(camera_id)]
    after = numbers[next(i for i, number in enumerate(numbers) if number >= 512) :]
    assert after == [512 + i % FRAMES for i in range(len(after))]
    assert (started.status(camera_id).session, started.status(camera_id).error) == (0, "")


def test_joining_between_keyframes_waits_for_the_next_one_and_counts_no_damage(tmp_path, footage):
    long_gop = write_footage(tmp_path / "long.mp4", gop=2 * FPS)
    with RtspServer({"gate": long_gop}) as server, Station(tmp_path) as station:
        station.add("first", server.url("gate"))
        until(lambda: len(station.frames_of("first")) % (2 * FPS) == 10, "the first one is between keyframes")
        station.add("second", server.url("gate"))
        streams(station, "second", frames=20)
        assert frame_number(station.frames_of("second")[0].image) % (2 * FPS) == 0
        assert station.status("second").dropped == {}
        assert station.frames_of("second")[0].header.index == 0


def test_a_camera_that_has_sound_alone_for_a_while_is_said_to_and_read_once_it_has_pictures(station, server):
    server.command("tracks", "later", "sound")
    station.add("later", server.url("later"))
    fails(station, "expected a video stream, got", "later")
    assert "no video" in station.status("later").error
    server.command("tracks", "later", "sound", "video")
    streams(station, "later")
    assert station.status("later").error == ""


def test_a_camera_whose_pictures_stop_while_its_sound_goes_on_is_opened_anew(station, server):
    session = station.status("later").session
    server.command("stall", "later")
    fails(station, "no answer in time", "later")
    server.command("resume", "later")
    comes_back(station, "later", after_session=session)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_camera_that_knows_one_transport_alone_is_read_over_it(tmp_path, footage, transport):
    with RtspServer({"gate": footage}, transport=transport) as server, Station(tmp_path) as station:
        station.add("gate", server.url("gate"))
        streams(station, frames=10)
        server.command("stall", "gate")
        fails(station, "no answer in time")
        server.command("resume", "gate")
        comes_back(station, after_session=0)


def test_a_camera_at_an_ipv6_address_is_read(tmp_path, footage):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine lets nobody use IPv6: {error}")
    with RtspServer({"gate": footage}, address="::1") as server, Station(tmp_path) as station:
        station.add("gate", server.url("gate"))
        streams(station)
        assert station.status().error == ""


@pytest.mark.parametrize("zone", ["%lo", "%25lo"])
def test_the_zone_of_a_link_local_address_is_understood_encoded_or_not(zone):
    with pytest.raises(VideoError) as caught:
        open_source(f"rtsp://[fe80::1{zone}]:9/main", SIZE_PX, open_timeout_s=0.3)
    assert "Invalid argument" not in str(caught.value)  # what the system says of a zone that it does not know
    with pytest.raises(VideoError, match="Invalid argument"):
        open_source("rtsp://[fe80::1%25nosuch]:9/main", SIZE_PX, open_timeout_s=0.3)


def test_a_camera_that_moved_is_followed_to_another_server(server):
    answer = f"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {server.url('moved')}\r\n\r\n"
    with peer(answer.encode()) as port, open_source(f"rtsp://127.0.0.1:{port}/old", SIZE_PX) as source:
        assert next(iter(source)).image.shape == (*SIZE_PX, 3)


def test_a_server_that_ends_every_connection_after_a_while_costs_a_short_gap_each_time(tmp_path, footage):
    with RtspServer({"gate": footage}) as server, Station(tmp_path) as station:
        station.add("gate", server.url("gate"), reconnect_max_s=30.0)
        for session in range(3):
            comes_back(station, after_session=session - 1)
            streams(station)
            server.command("drop")
        comes_back(station, after_session=2)
        sessions = [station.frames_of(session=number) for number in range(4)]
        for before, after in itertools.pairwise(sessions):
            assert after[0].header.captured_at_s - before[-1].header.captured_at_s < 10.0
