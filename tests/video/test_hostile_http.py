"""HTTP servers that are broken, slow for ever or hostile, on real sockets: read where it can be, and left in time."""

import gzip
import itertools
import ssl
import subprocess

import pytest

from pipeline.errors import RefusedError
from pipeline.video.source import open_source
from tests.http_camera import jpeg, that_says
from tests.video.decoding import complaint, numbers
from tests.videos import SIZE_PX, write_video

PICTURE = jpeg(7)
IMAGE = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"
QUICK = {"open_timeout_s": 2.0, "read_timeout_s": 2.0}


def length(of):
    return b"Content-Length: %d\r\n\r\n" % of


PICTURES = {
    "length too large": [IMAGE + length(len(PICTURE) + 2) + PICTURE],
    "no length": [IMAGE + b"\r\n" + PICTURE],
    "HTTP 1.0": [IMAGE.replace(b"1.1", b"1.0") + b"\r\n" + PICTURE],
    "lines before": [IMAGE + length(len(PICTURE) + 2) + b"\r\n" + PICTURE],
    "chunks without an end": [IMAGE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(PICTURE) + PICTURE + b"\r\nq"],
    "compressed": [
        IMAGE + b"Content-Encoding: gzip\r\n" + length(len(gzip.compress(PICTURE))) + gzip.compress(PICTURE)
    ],
    "one byte first": [b"HTTP/1.1 200 OK\r\n" + length(len(PICTURE)), PICTURE[:1], PICTURE[1:]],
}


@pytest.mark.parametrize("stays_open", [False, True])
@pytest.mark.parametrize("answer", PICTURES)
def test_a_picture_is_read_as_soon_as_it_is_whole_whatever_its_answer_says_of_its_length(answer, stays_open):
    def say(connection, wait):
        asked = True
        while asked:
            for piece in PICTURES[answer]:
                connection.sendall(piece)
                wait(0.01)
            asked = stays_open and connection.recv(65_536)

    with that_says(say) as url, open_source(url, SIZE_PX, sample_fps=50, **QUICK) as source:
        assert numbers(itertools.islice(source, 2)) == [7, 7]


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    ],
)
def test_a_camera_that_says_a_little_again_and_again_is_not_listened_to_for_ever(begin, again):
    def say(connection, wait):
        connection.sendall(begin)
        while not wait(0.02):
            connection.sendall(again)

    with that_says(say) as url:
        assert complaint(url, open_timeout_s=0.1, read_timeout_s=5.0).endswith("got no answer in time")


def test_a_stream_of_which_only_bytes_come_is_left_in_time(tmp_path):
    stream = write_video(tmp_path / "a.ts", 40).read_bytes()

    def say(connection, wait):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + stream)
        while not wait(0.02):
            connection.sendall(b"\0")

    with that_says(say) as url:
        said = complaint(url, open_timeout_s=5.0, read_timeout_s=0.25)
        assert said.endswith("expected a video stream, got no answer in time")


def test_a_refusal_is_not_read_to_its_end():
    sent = []

    def say(connection, wait):
        connection.sendall(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n\r\n")
        for _ in range(2000):
            connection.sendall(bytes(65_536))
            sent.append(65_536)

    with that_says(say) as url, pytest.raises(RefusedError):
        open_source(url.replace("://", "://viewer:hunter2@"), SIZE_PX, **QUICK)
    assert sum(sent) < 50e6


def test_a_picture_without_an_end_is_read_no_further_than_its_limit():
    def say(connection, wait):
        connection.sendall(IMAGE + b"Content-Length: 10000000000\r\n\r\n" + PICTURE[:-2])
        while not wait(0.0):
            connection.sendall(bytes(1 << 20))

    with that_says(say) as url:
        assert "expected a picture of at most 67,108,864 bytes, got more" in complaint(url, **QUICK)


@pytest.mark.parametrize(
    "body", [b"ffconcat version 1.0\nfile a.ts\n", b"#EXTM3U\n#EXTINF:2,\nfile:a.ts\n#EXT-X-ENDLIST\n"]
)
def test_no_camera_makes_files_of_this_machine_its_own(tmp_path, monkeypatch, body):
    write_video(tmp_path / "a.ts", 40)
    monkeypatch.chdir(tmp_path)
    with that_says(lambda connection, wait: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)) as url:
        assert "expected" in complaint(url, **QUICK)


def test_a_session_description_is_left_to_ffmpeg_which_can_end_its_waiting():
    body = b"v=0\r\no=- 0 0 IN IP4 0\r\ns=x\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    with that_says(lambda connection, wait: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)) as url:
        assert "expected a video stream" in complaint(url, open_timeout_s=0.2, read_timeout_s=0.2)


def test_a_content_type_that_is_none_is_not_repeated():
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/\x9b31m" + b"a" * 5000 + b"\r\n\r\nno video, but some text"
    with that_says(lambda connection, wait: connection.sendall(answer)) as url:
        assert complaint(url, **QUICK).endswith("got something without a content type that FFmpeg does not know")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Signed by itself, with a key and a digest that are out of use."""
    path = tmp_path_factory.mktemp("tls") / "camera.pem"
    make = f"openssl req -x509 -newkey rsa:1024 -sha1 -nodes -subj /CN=camera -keyout {path} -out {path}.crt"
    subprocess.run(make.split(), check=True, capture_output=True)
    return path


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(("newest", "ciphers"), [("TLSv1_2", "AES128-SHA"), ("TLSv1", "ALL")])
def test_an_old_cameras_tls_will_do(certificate, newest, ciphers):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion[newest]
    context.load_cert_chain(f"{certificate}.crt", certificate)
    with (
        that_says(lambda connection, wait: connection.sendall(PICTURES["no length"][0]), context) as url,
        open_source(url, SIZE_PX, **QUICK) as source,
    ):
        assert numbers(itertools.islice(source, 1)) == [7]


def test_what_speaks_no_tls_is_named():
    with that_says(lambda connection, wait: connection.sendall(b"HTTP/1.1 400 No\r\n\r\n")) as url:
        assert "got no TLS (wrong version number)" in complaint(url.replace("http:", "https:"), **QUICK)
