"""A password goes to the server it was written for; here real servers send readers elsewhere and note what arrives."""

import base64
import contextlib
import re
import socket
import ssl
import subprocess
import threading

import pytest

from pipeline.errors import RefusedError, VideoError
from pipeline.video.opening import open_live
from pipeline.video.redirects import WatchedOpening, is_home
from pipeline.video.source import open_source
from tests.rtsp import RtspServer, require_rtsp, write_footage
from tests.video.station import Station, until

USER, PASSWORD = "viewer", "hunter2"
CHALLENGES = {"basic": 'Basic realm="x"', "digest": 'Digest realm="x", nonce="abc", qop="auth"'}
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
VARIANTS = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n{}\n"


class Server:
    """Answers RTSP and HTTP requests with what ``answer`` makes of their heads, and keeps the heads.

    Attributes:
        at: host and port.
        heads: of all requests so far.
    """

    def __init__(self, answer, host="127.0.0.1", tls=None):
        self.heads = []
        self._answer, self._tls = answer, tls
        self._listener = socket.create_server((host, 0))
        self.at = f"{host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection):
        received = b""
        with contextlib.suppress(OSError), connection:
            plain = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            while data := plain.recv(4096):
                *heads, received = (received + data).split(b"\r\n\r\n")
                for head in heads:
                    self.heads.append(head.decode())
                    plain.sendall(self._answer(head.decode()).encode())


def respond(head, status, *lines, body=""):
    sequence = re.findall(r"(?im)^cseq:.*$", head)
    first = f"{'RTSP/1.0' if 'RTSP/1.0' in head else 'HTTP/1.1'} {status}"
    return "\r\n".join([first, *(line.strip() for line in sequence), *lines, f"Content-Length: {len(body)}", "", body])


def challenge(head, method):
    return respond(head, "401 Unauthorized", f"WWW-Authenticate: {CHALLENGES[method]}")


def with_password(url):
    return url.replace("://", f"://{USER}:{PASSWORD}@", 1)


def opened(url):
    open_live(url, "gate", open_timeout_s=0.5, read_timeout_s=0.5).close()


def secrets_in(server):
    return [head for head in server.heads if "authorization" in head.lower() or PASSWORD in head]


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
@pytest.mark.parametrize(
    ("written", "sent"),
    [("p@ss:wörd 50%", "p@ss:wörd 50%"), ("a[b]'\"\\c", "a[b]'\"\\c"), ("%23%2F%3F%40%25%C3%A9%20", "#/?@%é ")],
)
def test_ffmpeg_sends_the_password_that_is_written_as_it_is_or_percent_encoded(scheme, written, sent):
    with Server(lambda head: challenge(head, "basic")) as server:
        with pytest.raises(RefusedError):
            opened(f"{scheme}://{USER}:{written}@{server.at}/main")
        (answer,) = {found[1] for head in server.heads if (found := re.search(r"Authorization: Basic (\S+)", head))}
    assert base64.b64decode(answer).decode() == f"{USER}:{sent}"


# --- RTSP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["basic", "digest"])
@pytest.mark.parametrize("at", ["OPTIONS", "DESCRIBE", "SETUP"])
@pytest.mark.parametrize("after_challenge", [False, True])
def test_an_rtsp_redirect_to_another_server_gets_no_password_at_any_step(method, at, after_challenge, caplog):
    sdp = "v=0\r\no=- 0 0 IN IP4 0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:v\r\n"

    def sends_away(head):
        if after_challenge and "authorization" not in head.lower():
            return challenge(head, method)
        if head.startswith(at):
            return respond(head, "302 Moved", f"Location: rtsp://{other.at}/main?token=s3cret")
        body = sdp if head.startswith("DESCRIBE") else ""
        return respond(head, "200 OK", "Content-Type: application/sdp", body=body)

    with Server(lambda head: challenge(head, method), "127.0.0.2") as other, Server(sends_away) as server:
        for _ in range(2):  # FFmpeg says the same thing the second time
            with pytest.raises(VideoError) as caught:
                opened(with_password(f"rtsp://{server.at}/main"))
        assert bool(secrets_in(server)) == after_challenge
        assert other.heads == []
    assert caplog.text == ""  # FFmpeg itself stays mute
    text = str(caught.value)
    assert not re.search(f"{USER}|{PASSWORD}|s3cret", text)
    if at != "SETUP":  # which FFmpeg takes for an error
        assert isinstance(caught.value, RefusedError)
        assert f"got a redirect to rtsp://{other.at}; user and password are for {server.at} alone" in text


def test_another_port_is_another_server():
    with (
        Server(lambda head: challenge(head, "basic")) as other,
        Server(lambda head: respond(head, "301 Moved", f"Location: rtsp://{other.at}/main")) as server,
    ):
        with pytest.raises(RefusedError, match=f"a redirect to rtsp://{other.at}"):
            opened(with_password(f"rtsp://{server.at}/main"))
        assert other.heads == []


@pytest.mark.parametrize(
    ("location", "home"),
    [
        ("rtsp://cam/other", True),
        ("rtsp://CAM:554", True),
        ("RTSP://cam:554/x?y#z", True),
        ("rtsp://cam:555/", False),
        ("rtsp://cam.evil/", False),
        ("rtsp://cam:554@evil/", False),
        ("rtsp://evil?@cam:554/", False),
        ("rtsp://evil#cam:554/", False),
        ("rtsp://x@cam/", False),
        ("rtsp:/cam/", False),
        ("rtsp:cam", False),
        ("rtsps://cam:554/", False),
        ("http://cam:554/", False),
        ("rtsp://cam\\@evil/", False),
        ("rtsp://cam %0a/", False),
        ("/other", False),
        ("", False),
    ],
)
def test_only_the_same_scheme_host_and_port_is_the_same_server(location, home):
    assert is_home(WatchedOpening("rtsp", "cam:554", 1.0), location) is home


@pytest.mark.server
def test_readers_and_others_that_open_at_the_same_time_are_kept_apart(tmp_path):
    """One is refused again and again while another one, without a password, is let through to a sound camera."""
    require_rtsp()
    with (
        RtspServer({"gate": write_footage(tmp_path / "gate.mp4")}) as camera,
        Server(lambda head: respond(head, "302 Moved", f"Location: {camera.url('gate')}")) as server,
        Station(tmp_path) as station,
    ):
        station.add("gate", with_password(f"rtsp://{server.at}/main"), open_timeout_s=0.3)
        until(lambda: "a redirect to" in station.status("gate").error, "the one with a password is refused")
        station.add("yard", f"rtsp://{server.at}/main", open_timeout_s=5.0)
        until(lambda: len(station.frames_of("yard")) >= 10, "the one without is led to the camera")
        assert station.status("gate").decoded == 0


class Front(Server):
    """In front of a camera: what asks for ``/old`` is sent to ``/gate``, on the same host and port."""

    def __init__(self, camera_port):
        super().__init__(self._move)
        self._camera_port = camera_port

    def _move(self, head):
        if head.startswith("OPTIONS"):
            return respond(head, "200 OK", "Public: DESCRIBE")
        return respond(head, "302 Moved", f"Location: rtsp://{self.at}/gate")

    def _serve(self, connection):
        if b"/old" in connection.recv(4096, socket.MSG_PEEK):
            return super()._serve(connection)
        camera = socket.create_connection(("127.0.0.1", self._camera_port))
        ends = [(connection, camera), (camera, connection)]
        for thread in [threading.Thread(target=self._pump, args=end, daemon=True) for end in ends]:
            thread.start()
        return None

    @staticmethod
    def _pump(source, target):
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65_536):
                target.sendall(data)


@pytest.mark.server
@pytest.mark.parametrize("method", ["basic", "digest"])
def test_a_redirect_on_the_same_server_is_followed_with_the_password(tmp_path, method):
    require_rtsp()
    footage = write_footage(tmp_path / "gate.mp4")
    with RtspServer({"gate": footage}, password=(USER, PASSWORD, method)) as camera, Front(camera.port) as front:
        url = with_password(f"rtsp://{front.at}/old")
        with open_source(url, (32, 48)) as source:
            assert next(iter(source)).image.shape == (32, 48, 3)
        assert any(head.startswith("DESCRIBE") for head in front.heads)


# --- RTSP in TLS, HTTP --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A camera's certificate, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=camera"
    subprocess.run(
        [*make.split(), "-keyout", "key", "-out", "certificate"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    return context


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps"])
def test_an_rtsps_redirect_to_another_server_gets_no_password(tls, scheme):
    with (
        Server(lambda head: challenge(head, "basic"), "127.0.0.2", tls) as other,
        Server(lambda head: respond(head, "302 Moved", f"Location: {scheme}://{other.at}/x"), tls=tls) as server,
    ):
        with pytest.raises(RefusedError, match=f"a redirect to {scheme}://{other.at}"):
            opened(with_password(f"rtsps://{server.at}/main"))
        assert len(server.heads) == 1
        assert other.heads == []


@pytest.mark.parametrize("method", ["basic", "digest"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("way", ["location", "without scheme", "segment", "variant", "playlist"])
def test_over_http_no_other_server_gets_the_password_either(tls, scheme, method, way):
    """Redirects of a stream, and playlists that lie or lead elsewhere: FFmpeg sees to these, and is held to it here."""
    context = tls if scheme == "https" else None
    kind = "Content-Type: application/vnd.apple.mpegurl"

    def elsewhere(head):
        if ".m3u8" in head.split("\r\n")[0] and way == "playlist":
            return respond(head, "200 OK", kind, body=PLAYLIST.format("segment.ts"))
        return challenge(head, method)

    def sends_away(head):
        if "authorization" not in head.lower():
            return challenge(head, method)
        if way == "segment":
            return respond(head, "200 OK", kind, body=PLAYLIST.format(f"{scheme}://{other.at}/segment.ts"))
        if way == "variant":
            return respond(head, "200 OK", kind, body=VARIANTS.format(f"//{other.at}/variant.m3u8"))
        target = "" if way == "without scheme" else f"{scheme}:"
        return respond(head, "302 Found", f"Location: {target}//{other.at}/other.m3u8")

    with Server(elsewhere, "127.0.0.2", context) as other, Server(sends_away, tls=context) as server:
        with pytest.raises(VideoError):
            opened(with_password(f"{scheme}://{server.at}/main.m3u8"))
        assert secrets_in(server)
        assert other.heads
        assert secrets_in(other) == []
