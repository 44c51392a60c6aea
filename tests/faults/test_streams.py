"""What live streams do to a reader: a real RTSP server, real sockets, one test per fault.

Leaving ``station`` checks every camera's frame counts: each frame that came was dispatched, dropped for a reason, or
waits.
"""

from urllib.parse import quote

import numpy as np
import pytest

import pipeline.video.live_reader as live_reader_module
from pipeline.video.source import open_camera
from tests.http_camera import whose_video_stops
from tests.rtsp import FPS, RtspServer, require_rtsp, write_footage
from tests.tcp_proxy import TcpProxy, black_hole, peer
from tests.video.station import Station, until
from tests.videos import frame_number, numbered_frame, write_video

USER, PASSWORD = "viewer", "s3cret"


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Four seconds of numbered frames with a keyframe every 0.4 s."""
    require_rtsp()
    return write_footage(tmp_path_factory.mktemp("footage") / "gate.mp4")


@pytest.fixture
def server(footage):
    with RtspServer({"gate": footage, "yard": footage}) as running:
        yield running


@pytest.fixture
def proxy(server):
    with TcpProxy(server.port) as running:
        yield running


@pytest.fixture
def station(tmp_path, caplog):
    with Station(tmp_path) as running:
        yield running
        for camera_id in running.readers:
            assert PASSWORD not in str(running.status(camera_id))
        assert PASSWORD not in caplog.text


@pytest.fixture
def tries(monkeypatch):
    """Every attempt to open a stream leaves its address here."""
    urls = []

    def open_and_note(camera, *arguments, **options):
        urls.append(camera.url.get_secret_value())
        return open_camera(camera, *arguments, **options)

    monkeypatch.setattr(live_reader_module, "open_camera", open_and_note)
    return urls


def streams(station, camera_id="gate", frames=5):
    """Wait until so many more frames have come; returns how many there were before."""
    before = len(station.frames_of(camera_id))
    until(lambda: len(station.frames_of(camera_id)) >= before + frames, f"{frames} frames of {camera_id} come")
    return before


def comes_back(station, camera_id="gate", *, after_session):
    """Wait until frames of a later session come; returns the status."""
    until(
        lambda: station.frames_of(camera_id) and station.frames_of(camera_id)[-1].header.session > after_session,
        f"{camera_id} streams in a session after {after_session}",
    )
    status = station.status(camera_id)
    assert (status.state, status.error) == ("streaming", "")
    return status


def fails(station, said, camera_id="gate"):
    """Wait until the reader says that and waits; returns the status."""
    until(lambda: said in station.status(camera_id).error, f"{camera_id} says {said!r}, {station.status(camera_id)}")
    error = station.status(camera_id).error
    assert error.startswith(f"{camera_id} (")
    assert len(error.splitlines()) == 1
    return station.status(camera_id)


# --- a sound stream -----------------------------------------------------------------------------------------------


def test_frames_of_a_sound_stream_come_in_order_and_whole(station, server):
    station.add("gate", server.url("gate"))
    streams(station, frames=3 * FPS)
    frames = station.frames_of()
    assert [frame.header.index for frame in frames] == list(range(len(frames)))
    numbers = np.array([frame_number(frame.image) for frame in frames])
    assert set(np.diff(numbers)) <= {1, 1 - 4 * FPS}  # by one, or from the last frame back to the first
    times_s = np.array([frame.header.media_time_s for frame in frames])
    assert np.allclose(np.diff(times_s), 1 / FPS)
    assert station.status().dropped == {}


# --- the camera goes away -----------------------------------------------------------------------------------------


def test_a_server_that_dies_and_returns_on_its_port_is_read_again(station, server):
    station.add("gate", server.url("gate"))
    streams(station)
    server.kill()
    status = fails(station, "Connection refused")
    assert status.state in {"waiting", "opening"}
    server.restart()
    comes_back(station, after_session=0)
    assert station.status().session == 1  # attempts that failed are no sessions


def test_a_host_that_freezes_is_noticed_and_read_again_when_it_thaws(station, server):
    station.add("gate", server.url("gate"))
    streams(station)
    server.freeze()
    try:
        fails(station, "no answer in time")
    finally:
        server.thaw()
    comes_back(station, after_session=0)


def test_a_camera_that_sends_nothing_while_its_server_answers_is_opened_anew(station, server):
    station.add("gate", server.url("gate"))
    streams(station)
    server.command("stall", "gate")
    fails(station, "no answer in time")
    server.command("resume", "gate")
    comes_back(station, after_session=0)


def test_a_camera_whose_sound_goes_on_without_its_video_is_opened_anew_by_its_own_thread(station, tmp_path, caplog):
    with whose_video_stops(tmp_path / "camera.ts") as url:
        station.add("gate", url, stall_timeout_s=1.0)
        fails(station, "expected a frame within 1 s (stall_timeout_s)")
        comes_back(station, after_session=0)
    assert "stuck" not in caplog.text


def test_a_server_that_ends_the_connection_is_connected_to_again(station, server):
    station.add("gate", server.url("gate"))
    streams(station)
    server.command("drop")
    comes_back(station, after_session=0)


def test_a_camera_that_is_down_at_the_start_is_read_once_it_is_up(station, server):
    server.kill()
    station.add("gate", server.url("gate"))
    assert fails(station, "Connection refused").last_frame_at_s is None
    server.restart()
    streams(station)
    assert (station.status().session, station.frames_of()[0].header.session) == (0, 0)


def test_a_camera_that_is_paused_leaves_its_server_and_returns(station, server, proxy):
    reader = station.add("gate", server.url("gate", port=proxy.port))
    streams(station)
    reader.pause()
    decoded = station.status().decoded
    connections = len(proxy.accepted_at_s)
    until(lambda: not any(thread.is_alive() for thread in station.threads[2:]), "its thread ends")
    assert (station.status().state, station.status().decoded) == ("paused", decoded)
    assert len(proxy.accepted_at_s) == connections
    reader.resume()
    comes_back(station, after_session=0)


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["corrupt", "cut"])
def test_damaged_pictures_are_counted_and_the_stream_goes_on(station, server, fault):
    station.add("gate", server.url("gate"))
    streams(station)
    server.command(fault, "gate", 8)
    until(lambda: sum(station.status().dropped.values()) >= 3, "damaged frames are counted")
    streams(station, frames=20)
    status = station.status()
    assert status.dropped.keys() <= {"corrupt", "decode_error"}
    assert (status.session, status.state, status.error) == (0, "streaming", "")
    indices = [frame.header.index for frame in station.frames_of()]
    assert len(indices) < indices[-1] + 1  # damaged ones leave gaps
    assert indices == sorted(set(indices))


def test_a_camera_of_which_only_damage_comes_is_opened_anew(station, server):
    station.add("gate", server.url("gate"), stall_timeout_s=1.0)
    streams(station)
    server.command("cut", "gate", 10_000)
    fails(station, "expected a frame within 1 s (stall_timeout_s)")
    server.command("cut", "gate", 0)
    comes_back(station, after_session=0)


def test_a_camera_that_changes_its_resolution_is_read_on_and_its_pictures_are_right(station, server, tmp_path):
    class Watch:
        resets = 0

        def update(self, image, now):
            return frozenset()

        def reset(self):
            self.resets += 1

    watch = Watch()
    station.add("gate", server.url("gate"), watch=watch)
    streams(station)
    size_px = (120, 128)
    other = (numbered_frame(512 + i, size_px) for i in range(50))
    server.command("switch", "gate", write_video(tmp_path / "other.mp4", other, size_px=size_px, fps=FPS))
    before = watch.resets
    until(lambda: frame_number(station.frames_of()[-1].image) >= 512, "frames of the other video come")
    streams(station)
    numbers = [frame_number(frame.image) for frame in station.frames_of()]
    assert numbers[-5:] == list(range(numbers[-5], numbers[-5] + 5))
    assert watch.resets == before + 1
    assert {frame.image.shape for frame in station.frames_of()} == {station.frames[0].image.shape}
    assert (station.status().session, station.status().error) == (0, "")


@pytest.mark.server
def test_a_rare_keyframe_is_waited_for_on_one_connection_which_is_said_and_one_that_never_comes_is_given_up(
    tmp_path, footage, tries
):
    videos = {"rare": (3, "a.mp4"), "never": (30, "b.mp4")}
    made = {name: write_footage(tmp_path / path, gop=1000, seconds=s) for name, (s, path) in videos.items()}
    with RtspServer(made) as server, Station(tmp_path) as station:
        for name in made:
            station.add(f"first-{name}", server.url(name))
            streams(station, f"first-{name}")
        # Three seconds of pictures come to it before the keyframe: many times its limit.
        station.add("rare", server.url("rare"), stall_timeout_s=0.4)
        station.add("never", server.url("never"), stall_timeout_s=0.2)
        assert fails(station, "expected a keyframe, got", "rare").state == "opening"
        fails(station, "expected a frame within 0.2 s (stall_timeout_s), got", "never")
        assert "no keyframe" in station.status("never").error
        streams(station, "rare")
        status = station.status("rare")
        assert (status.state, status.error, status.session, status.dropped) == ("streaming", "", 0, {})
        assert tries.count(server.url("rare")) == 2  # the first reader's, and its own
        assert frame_number(station.frames_of("rare")[0].image) == 0
        assert station.status("never").decoded == 0


@pytest.mark.server
def test_who_waits_for_a_keyframe_notices_that_pictures_no_longer_come(tmp_path):
    """Its sound goes on, so FFmpeg's own limit ends nothing."""
    with whose_video_stops(tmp_path / "camera.ts", keyframes=False) as url, Station(tmp_path) as station:
        station.add("gate", url, stall_timeout_s=0.7)
        fails(station, "expected a frame within 0.7 s (stall_timeout_s)")


# --- the network --------------------------------------------------------------------------------------------------


def test_a_slow_network_costs_speed_and_no_frame(station, server, proxy):
    proxy.rate_bytes_s = 3_000.0  # about half of what the camera sends
    # Room for all that the network held back: it comes in one burst, and a busy machine takes it up slowly.
    station.add("gate", server.url("gate", port=proxy.port), buffer_frames=1000)
    streams(station, frames=10)
    proxy.rate_bytes_s = None
    streams(station, frames=2 * FPS)
    assert (station.status().state, station.status().dropped) == ("streaming", {})


def test_a_network_that_freezes_is_noticed_and_the_camera_is_read_again(station, server, proxy):
    station.add("gate", server.url("gate", port=proxy.port))
    streams(station)
    proxy.mode = "freeze"
    fails(station, "no answer in time")
    proxy.mode = "pass"
    comes_back(station, after_session=0)


def test_a_network_that_resets_connections_is_used_again(station, server, proxy):
    station.add("gate", server.url("gate", port=proxy.port))
    streams(station)
    proxy.reset()
    comes_back(station, after_session=0)


def test_noise_in_the_place_of_a_stream_is_survived(station, server, proxy):
    station.add("gate", server.url("gate", port=proxy.port), stall_timeout_s=1.0)
    streams(station)
    proxy.mode = "garbage"
    until(lambda: station.status().error, "the reader says that something is wrong")
    proxy.mode = "pass"
    comes_back(station, after_session=0)


@pytest.mark.parametrize(
    "answer", [None, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", bytes(range(256))]
)
def test_a_peer_that_is_no_camera_is_tried_again_and_again(station, answer):
    with peer(answer) as port, TcpProxy(port) as proxy:
        station.add("gate", f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}/main", open_timeout_s=0.3)
        fails(station, "expected a video stream, got")
        tries = len(proxy.accepted_at_s)
        until(lambda: len(proxy.accepted_at_s) >= tries + 2, "it is tried again")
    assert station.status().decoded == 0


def test_a_host_that_swallows_connection_requests_does_not_hold_the_reader(station, tries, caplog):
    with black_hole() as port:
        station.add("gate", f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{port}/main", open_timeout_s=0.3)
        fails(station, "expected a video stream, got no answer in time")
        until(lambda: len(tries) >= 3, "it is tried again and again")
    assert "stuck" not in caplog.text  # FFmpeg's own limit ends it


def test_a_closed_port_is_tried_again_and_again(station, tries):
    with peer(None) as port:
        pass
    station.add("gate", f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{port}/main")
    fails(station, "Connection refused")
    until(lambda: len(tries) >= 4, "it is tried again and again")
    assert station.status().state in {"opening", "waiting"}


# --- a server that says no ----------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.parametrize("method", ["basic", "digest"])
def test_only_the_right_password_lets_a_reader_in_and_its_special_characters_are_percent_encoded(
    station, footage, method
):
    password = PASSWORD + '@/:#?% "\\+€'
    with RtspServer({"gate": footage}, password=(USER, password, method)) as server:
        station.add("gate", server.url("gate", credentials=f"{USER}:{quote(password, safe='')}"))
        station.add("wrong", server.url("gate", credentials=f"{USER}:{PASSWORD}x"))
        station.add("none", server.url("gate"))
        streams(station)
        for camera_id in ("wrong", "none"):
            fails(station, "access is refused (401): check user and password", camera_id)
            assert station.status(camera_id).decoded == 0


@pytest.mark.server
def test_a_server_that_says_no_is_left_alone_for_longer(station, footage):
    with RtspServer({"gate": footage}) as server, TcpProxy(server.port) as proxy:
        station.add("gate", server.url("nothing", port=proxy.port), reconnect_max_s=0.25)
        fails(station, "no such stream (404)")
        until(lambda: len(proxy.accepted_at_s) >= 2, "it is tried again")
        first, second = proxy.accepted_at_s[:2]
        assert second - first >= 2.4


# --- many cameras, and nobody who takes frames --------------------------------------------------------------------


def test_the_fault_of_one_camera_leaves_the_others_alone(station, server):
    station.add("gate", server.url("gate"))
    station.add("yard", server.url("yard"))
    station.add("down", "rtsp://127.0.0.1:9/main")
    streams(station, "yard")
    server.command("stall", "gate")
    fails(station, "no answer in time")
    streams(station, "yard", frames=2 * FPS)
    status = station.status("yard")
    assert (status.session, status.error, status.dropped) == (0, "", {})
    frames = station.frames_of("yard")
    assert [frame.header.index for frame in frames] == list(range(len(frames)))


def test_a_reader_whose_frames_nobody_takes_keeps_up_with_its_camera(tmp_path, server):
    with Station(tmp_path, takes=False) as station:
        station.add("gate", server.url("gate"), buffer_frames=4)
        until(lambda: station.status().decoded >= 1, "the first frame comes")
        first = station.take()[0].header
        until(lambda: station.status().decoded >= 4 * FPS, "four seconds of frames come")
        newest = [frame.header for frame in station.take()]
        status = station.status()
        assert len(newest) <= 4
        assert newest[-1].index >= 4 * FPS - 2
        filmed_s = newest[-1].media_time_s - first.media_time_s
        took_s = newest[-1].captured_at_s - first.captured_at_s
        assert abs(took_s - filmed_s) < 0.5  # no lag builds up
        assert status.dropped["overload"] >= status.decoded - 20
        assert station.take() == [] or station.status().decoded > status.decoded
