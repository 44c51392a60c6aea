"""What answers at HTTP addresses, on real servers: JPEGs in every dialect, single pictures, video, and no camera."""

import base64
import hashlib
import itertools
import re
import threading
import time
from urllib.parse import quote

import pytest

import pipeline.video.live_clock as live_clock_module
from pipeline.camera_settings import HealthSettings
from pipeline.errors import RefusedError, VideoError
from pipeline.video.source import open_source
from pipeline.video.tamper import TamperMonitor
from tests.http_camera import Snapshots, jpeg, picture, that_sends
from tests.tcp_proxy import peer
from tests.video.decoding import complaint, numbers
from tests.video.station import Station, until
from tests.videos import SIZE_PX, write_images, write_video

QUICK = {"open_timeout_s": 2.0, "read_timeout_s": 2.0}


def parts(before, count=4):
    return b"".join(before.replace(b"LENGTH", b"%d" % len(jpeg(n))) + jpeg(n) + b"\r\n" for n in range(count))


USUAL = b"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: LENGTH\r\n\r\n"
DIALECTS = {
    "usual": ("multipart/x-mixed-replace;boundary=cut", USUAL),
    "image/jpg": ("multipart/x-mixed-replace; boundary=cut", USUAL.replace(b"jpeg", b"jpg")),
    "type with more": ("multipart/x-mixed-replace; boundary=cut", USUAL.replace(b"jpeg", b"jpeg; size=640x480")),
    "no type": ("multipart/x-mixed-replace; boundary=cut", b"--cut\r\nContent-Length: LENGTH\r\n\r\n"),
    "another type": ("multipart/x-mixed-replace; boundary=cut", USUAL.replace(b"image/jpeg", b"text/plain")),
    "no length": ("multipart/x-mixed-replace; boundary=cut", b"--cut\r\nContent-Type: image/jpeg\r\n\r\n"),
    "wrong length": ("multipart/x-mixed-replace; boundary=cut", USUAL.replace(b"LENGTH", b"17")),
    "no header": ("multipart/x-mixed-replace; boundary=cut", b"--cut\r\n\r\n"),
    "line feeds": ("multipart/x-mixed-replace; boundary=cut", USUAL.replace(b"\r", b"")),
    "quoted boundary": ('multipart/x-mixed-replace; boundary="cut"', USUAL),
    "boundary with dashes": ("multipart/x-mixed-replace; boundary=--cut", USUAL),
    "no boundary told": ("multipart/x-mixed-replace", USUAL),
    "another boundary": ("multipart/x-mixed-replace; boundary=other", USUAL),
    "mixed": ("multipart/mixed; boundary=cut", USUAL),
    "related": ("Multipart/Related;BOUNDARY=cut", USUAL),
    "no content type": (None, USUAL),
    "another content type": ("application/octet-stream", USUAL),
    "called an image": ("image/jpeg", USUAL),
    "no first boundary": ("multipart/x-mixed-replace; boundary=cut", USUAL),
    "text before": ("multipart/x-mixed-replace; boundary=cut", USUAL),
    "no parts": ("video/x-motion-jpeg", b""),
    "no parts but lines": (None, b"\r\n"),
    "extra lines": (
        "multipart/x-mixed-replace; boundary=cut",
        USUAL.replace(b"\r\n\r\n", b"\r\nX-Timestamp: 12.5\r\nDATE: x\r\n\r\n"),
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_jpegs_are_read_in_every_dialect_from_the_first_to_the_last(dialect):
    content_type, before = DIALECTS[dialect]
    body = parts(before)
    if dialect == "no first boundary":
        body = body.removeprefix(b"--cut\r\n") + b"--cut--\r\n"
    elif dialect == "text before":
        body = b"\r\nThis is a multi-part message.\r\n" + body
    with (
        that_sends(lambda write, wait: write(body), content_type) as url,
        open_source(url, SIZE_PX, **QUICK) as source,
    ):
        assert numbers(list(source)) == [0, 1, 2, 3]
    assert (source.corrupt, source.decode_errors) == (0, 0)


def one_after_the_other():
    """A camera that sends a picture each time it is told to; what tells it; when each was sent."""
    told, sent_s = threading.Semaphore(0), []

    def send(write, wait):
        for number in itertools.count():
            if not told.acquire(timeout=20.0):
                return
            sent_s.append(time.monotonic())
            write(USUAL.replace(b"LENGTH", b"%d" % len(jpeg(number))) + jpeg(number))

    return that_sends(send, "multipart/x-mixed-replace; boundary=cut"), told, sent_s


def test_a_picture_is_read_before_the_next_one_is_sent_and_its_time_is_that_of_its_arrival(caplog):
    camera, told, sent_s = one_after_the_other()
    came_s, times_s = [], []
    with camera as url:
        told.release()
        with open_source(url, SIZE_PX, name="gate", **QUICK) as source:
            for frame in source:
                came_s.append(time.monotonic())
                times_s.append(float(frame.pts * frame.time_base))
                if len(came_s) == 4:
                    break
                time.sleep(0.06)  # what FFmpeg would have called 0.04 s
                told.release()
    for first, second in itertools.combinations(range(4), 2):
        earliest, latest = sent_s[second] - came_s[first], came_s[second] - sent_s[first]
        assert earliest - 1e-4 <= times_s[second] - times_s[first] <= latest + 1e-4
    said = [record.getMessage() for record in caplog.records if "timed by" in record.getMessage()]
    assert said == [f"gate ({url}): its stream has no clock: its pictures are timed by their arrival"]


def test_a_clock_that_stands_still_is_said_once_and_replaced_by_arrival(tmp_path, monkeypatch, caplog):
    """The camera's frames are a ninety-thousandth of a second apart, whenever they come."""
    monkeypatch.setattr(live_clock_module, "_STILL_S", 0.05)
    stream = write_video(tmp_path / "slow.ts", 40, fps=90_000, gop=1).read_bytes()

    def send(write, wait):
        while not wait(0.01):
            write(stream)

    with that_sends(send, "video/mp2t") as url, Station(tmp_path) as station:
        station.add("gate", url, buffer_frames=100, read_timeout_s=2.0)

        def times_s():
            return [frame.header.media_time_s for frame in station.frames_of(session=0)]

        until(lambda: times_s()[-1:] > [0.1], "time passes")
        came_s = times_s()
    assert came_s == sorted(came_s)
    said = [record.getMessage() for record in caplog.records if "timed by" in record.getMessage()]
    assert said == [f"gate ({url}): its clock stands still: its pictures are timed by their arrival"]


# --- one picture per answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image/jpg", ""])
def test_a_camera_that_answers_with_one_picture_is_asked_again_and_again_in_one_session(tmp_path, kind):
    with Snapshots(lambda number, camera: picture(number, kind=kind)) as camera, Station(tmp_path) as station:
        station.add("gate", camera.url, sample_fps=40)
        until(lambda: len(station.frames_of()) >= 8, "eight pictures come")
        frames = station.frames_of()[:8]
        assert [frame.header.session for frame in frames] == [0] * 8
        assert [frame.header.index for frame in frames] == list(range(8))
        assert numbers(frames) == list(range(8))
        steps_s = [b.header.media_time_s - a.header.media_time_s for a, b in itertools.pairwise(frames)]
        assert min(steps_s) > 0.0
        # A late answer may follow closely upon the one before, but on the whole it is asked no more often than wanted.
        assert frames[7].header.media_time_s - frames[0].header.media_time_s > 5 / 40
        assert len({address for _, address, _ in camera.requests}) == 1
        assert station.status().dropped == {}


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "image/png"), (".webp", "image/webp"), (".bmp", "image/bmp")])
def test_other_kinds_of_pictures_are_read_as_well(tmp_path, suffix, kind):
    paths = sorted(write_images(tmp_path / "images", 3, suffix=suffix, first=0).iterdir())

    def answer(number, camera):
        return 200, {"Content-Type": kind}, paths[number % 3].read_bytes()

    with Snapshots(answer) as camera, open_source(camera.url, SIZE_PX, sample_fps=50, **QUICK) as source:
        assert len(list(itertools.islice(source, 3))) == 3


def test_a_part_that_comes_alone_makes_a_camera_that_is_asked_again():
    def answer(number, camera):
        return 200, {"Content-Type": "multipart/x-mixed-replace; boundary=cut"}, USUAL + jpeg(number) + b"\r\n--cut--"

    with Snapshots(answer) as camera, open_source(camera.url, SIZE_PX, sample_fps=50, **QUICK) as source:
        assert numbers(list(itertools.islice(source, 3))) == [0, 1, 2]


def test_a_camera_that_is_busy_now_and_then_stays_connected_and_one_that_stays_so_is_told():
    def answer(number, camera):
        return picture(number) if number in {0, 3, 4} else (503, {}, b"busy")

    with Snapshots(answer) as camera, open_source(camera.url, SIZE_PX, sample_fps=50, **QUICK) as source:
        frames = iter(source)
        assert numbers([next(frames) for _ in range(3)]) == [0, 3, 4]
        with pytest.raises(VideoError, match=r"expected a video stream, got: Service Unavailable \(503\)"):
            next(frames)
        assert len(camera.requests) == 8


def test_the_same_bytes_again_and_again_are_a_frozen_camera(tmp_path):
    still = TamperMonitor(HealthSettings(frozen_s=0.05), None)
    with Snapshots(lambda number, camera: picture(0)) as camera, Station(tmp_path) as station:
        station.add("gate", camera.url, sample_fps=50, watch=still)
        until(lambda: station.status().conditions == {"frozen"}, "it is noticed")
        assert station.status().session == 0


@pytest.mark.parametrize(("settings", "seconds"), [({}, 1.0), ({"sample_fps": 0.25}, 2.0), ({"sample_fps": 2.0}, 0.5)])
def test_it_is_asked_as_often_as_frames_are_wanted_or_once_a_second_and_every_two_seconds_at_least(
    settings, seconds, monkeypatch
):
    waited_s = []
    monkeypatch.setattr("pipeline.video.http_pictures.time.sleep", waited_s.append)
    now_s = [0.0]
    monkeypatch.setattr("pipeline.video.http_pictures.time.monotonic", lambda: now_s[0] + sum(waited_s))
    with Snapshots(picture) as camera, open_source(camera.url, SIZE_PX, **QUICK, **settings) as source:
        assert len(list(itertools.islice(source.arrivals(), 30))) == 30
    waits = round(sum(waited_s) / seconds, 3)
    assert waits - 1 <= len(camera.requests) - 1 <= waits  # the last one may still wait


# --- passwords and redirects --------------------------------------------------------------------------------------


PASSWORD = "p@ss wörd%".encode() + b"\xe9\n"  # bytes, of which not all are UTF-8


def basic_only(number, camera):
    expected = "Basic " + base64.b64encode(b"viewer:" + PASSWORD).decode()
    if camera.headers.get("Authorization") != expected:
        return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
    return picture(number)


def digest_only(number, camera):
    said = dict(re.findall(r'(\w+)="?([^",]+)', camera.headers.get("Authorization", "")))
    known, asked = (hashlib.md5(text).hexdigest() for text in (b"viewer:x:" + PASSWORD, b"GET:/snap.jpg"))
    proof = ":".join([known, "abc", said.get("nc", ""), said.get("cnonce", ""), "auth", asked])
    if (said.get("username"), said.get("response")) != ("viewer", hashlib.md5(proof.encode()).hexdigest()):
        return 401, {"WWW-Authenticate": 'Digest realm="x", nonce="abc", qop="auth"'}, b""
    return picture(number)


@pytest.mark.parametrize("answer", [basic_only, digest_only])
def test_a_camera_that_asks_for_a_password_gets_it_and_is_asked_for_none_again(answer):
    with Snapshots(answer) as camera:
        url = camera.url.replace("://", f"://viewer:{quote(PASSWORD)}@")
        with open_source(url, SIZE_PX, sample_fps=50, **QUICK) as source:
            assert len(list(itertools.islice(source, 3))) == 3
        assert [authorization is None for authorization, *_ in camera.requests][:4] == [True, False, False, False]


def test_a_digest_that_nobody_knows_is_no_reason_to_send_the_password_in_plain_text():
    challenge = {"WWW-Authenticate": 'Digest realm="x", nonce="abc", qop="auth", algorithm=WHIRLPOOL'}
    with Snapshots(lambda number, camera: (401, challenge, b"")) as camera:
        assert "access is refused (401)" in complaint(camera.url.replace("://", "://viewer:hunter2@"))
        assert [authorization for authorization, *_ in camera.requests] == [None]


def test_a_redirect_to_another_server_gets_no_password_and_is_named():
    with Snapshots(lambda number, camera: (401, {"WWW-Authenticate": "Basic"}, b""), host="127.0.0.2") as other:
        with (
            Snapshots(lambda number, camera: (302, {"Location": f"http://{other.at}/x?token=s3cret"}, b"")) as camera,
            pytest.raises(RefusedError) as caught,
        ):
            open_source(camera.url.replace("://", "://viewer:hunter2@"), SIZE_PX, **QUICK)
        assert f"got a redirect to http://{other.at}; user and password are for {camera.at} alone" in str(caught.value)
        assert "s3cret" not in str(caught.value)
        assert [authorization for authorization, *_ in other.requests] == [None]


def test_a_redirect_on_the_same_server_is_followed_with_the_password():
    def answer(number, camera):
        if camera.path != "/other":
            return 302, {"Location": "/other"}, b""
        said = camera.headers.get("Authorization", "")
        if 'uri="/other"' not in said:
            return 401, {"WWW-Authenticate": 'Digest realm="x", nonce="abc", qop="auth"'}, b""
        return picture(number)

    with Snapshots(answer) as camera:
        url = camera.url.replace("://", "://viewer:hunter2@")
        with open_source(url, SIZE_PX, sample_fps=50, **QUICK) as source:
            assert len(list(itertools.islice(source, 2))) == 2


@pytest.mark.parametrize(
    ("environment", "is_asked"),
    [
        ({"HTTP_PROXY": "http://{}", "ALL_PROXY": "http://{}", "all_proxy": "http://{}"}, False),
        ({"http_proxy": "http://{}"}, True),
        ({"http_proxy": "http://{}", "no_proxy": "cameras.example, *.0.0.1"}, False),
        ({"http_proxy": "http://{}", "no_proxy": "27.0.0.1,.example"}, True),
        ({"http_proxy": "socks5://{}"}, False),
    ],
)
def test_a_camera_is_asked_through_the_proxy_that_ffmpeg_takes_alone(monkeypatch, environment, is_asked):
    with Snapshots(picture) as camera, Snapshots(picture) as proxy:
        for name in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(proxy.at))
        with open_source(camera.url, SIZE_PX, sample_fps=50, **QUICK) as source:
            next(iter(source))
        assert (bool(proxy.requests), bool(camera.requests)) == (is_asked, not is_asked)
        assert all(path == camera.url for *_, path in proxy.requests)


def test_a_proxy_whose_address_can_be_read_in_two_ways_is_not_asked_and_not_shown(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://u:57#Wc903z@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    said = complaint("http://127.0.0.1:9/snap.jpg")
    assert "expected the address of a proxy in http_proxy (special characters" in said
    assert "903" not in said


def test_a_circle_of_redirects_ends():
    with Snapshots(lambda number, camera: (302, {"Location": "/again"}, b"")) as camera:
        assert "got more than 8 redirects" in complaint(camera.url)


# --- what is no camera --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"Content-Type": "text/html; charset=utf-8"}, b"<!DOCTYPE html><title>Login"), "got text/html"),
        ((200, {"Content-Type": "image/jpeg"}, b"<html>session expired</html>"), "got image/jpeg"),
        ((200, {}, b"\n<html><body>Login"), "got text/html"),
        ((200, {"Content-Type": "application/json"}, b'{"error": "busy"}'), "got application/json"),
        ((200, {"Content-Type": "text/plain"}, b"Error: no such channel"), "got text/plain"),
        ((200, {"Content-Type": "image/jpeg"}, b""), "got an empty answer"),
        ((200, {"Content-Type": "image/jpeg"}, b"\x00\x01 no picture"), "got some that cannot be decoded"),
        ((200, {"Content-Type": "multipart/x-mixed-replace"}, b"--x\r\n\r\nmotion=1\r\n"), "got the end of the stream"),
        ((204, {}, b""), "got: No Content (204)"),
        ((500, {}, b""), "got: Internal Server Error (500)"),
        ((302, {"Location": "rtsp://127.0.0.1/main"}, b""), "got a redirect to an address that is not HTTP"),
    ],
)
def test_what_is_neither_video_nor_a_picture_is_named(answer, said):
    with Snapshots(lambda number, camera: answer) as camera:
        assert said in complaint(camera.url, name="gate", **QUICK)


def test_nobody_there_and_somebody_silent_are_told():
    assert complaint("http://127.0.0.1:9/snap.jpg", name="gate").endswith("got Connection refused")
    with peer(b"") as port:
        assert "got" in complaint(f"http://127.0.0.1:{port}/snap.jpg", open_timeout_s=0.2, read_timeout_s=0.2)


def test_a_picture_that_trickles_is_not_waited_for_for_ever():
    def send(write, wait):
        write(b"--cut\r\n\r\n")
        for byte in jpeg(0):
            write(bytes([byte]))
            if wait(0.05):
                return

    with that_sends(send, "multipart/x-mixed-replace; boundary=cut") as url:
        assert "expected a picture, got none in time" in complaint(url, open_timeout_s=0.1, read_timeout_s=0.5)


def test_an_encoder_that_lets_one_reader_in_is_asked_once(tmp_path):
    stream = write_video(tmp_path / "a.ts", 40).read_bytes()
    asked = []

    def send(write, wait):
        asked.append(1)
        write(stream)

    with that_sends(send, "video/mp2t") as url, open_source(url, SIZE_PX, **QUICK) as source:
        assert numbers(list(source)) == list(range(40))
    assert len(asked) == 1


def test_a_camera_whose_header_is_none_is_left_to_ffmpeg(tmp_path):
    stream = write_video(tmp_path / "a.ts", 40).read_bytes()
    answer = b"ICY 200 OK\r\ncontent-type: video/mp2t\r\n\r\n" + stream
    with peer(answer) as port, open_source(f"http://127.0.0.1:{port}/x", SIZE_PX, **QUICK) as source:
        assert numbers(list(itertools.islice(source, 20))) == list(range(20))
