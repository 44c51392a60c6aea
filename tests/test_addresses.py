"""Which addresses a config takes: those that FFmpeg can read as a camera, and Redis's own, each in one way alone.

Who reads an address is asked itself: FFmpeg's own function that cuts it, redis-py's parser and httpx's.
"""

import ctypes
import functools
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes

import av
import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.addresses import LIVE_SCHEMES, camera_address_error, ffmpeg_address, is_live, redis_address_error
from pipeline.config_file import fill_variables, parse_config
from pipeline.errors import ConfigError
from pipeline.redaction import redact
from pipeline.sinks.redis_address import parse_redis_address
from tests.passwords import passwords, pieces_shown

_OF_DEMUXERS = {"rtsp": "rtsp", "rtsps": "rtsp"}  # by scheme; FFmpeg has no protocol of that name
_RTMP = ("rtmp", "rtmps", "rtmpt", "rtmpts")


@functools.cache
def libavformat():
    (path,) = (Path(av.__file__).parent.parent / "av.libs").glob("libavformat-*")
    return ctypes.CDLL(str(path))


def read_by_ffmpeg(address):
    """User and password (percent-encoded as given), host and port, as the FFmpeg inside PyAV cuts an address."""
    scheme, user_info, host, path = (ctypes.create_string_buffer(4096) for _ in range(4))
    port = ctypes.c_int()
    texts = [argument for buffer in (scheme, user_info, host) for argument in (buffer, 4096)]
    libavformat().av_url_split(*texts, ctypes.byref(port), path, 4096, address.encode())
    return user_info.value, host.value.decode(), port.value


def input_protocols():
    """What the FFmpeg inside PyAV reads, asked of its own library."""
    ask = libavformat().avio_enum_protocols
    ask.restype = ctypes.c_char_p
    state, found = ctypes.c_void_p(), set()
    while name := ask(ctypes.byref(state), 0):
        found.add(name.decode())
    return found


def test_every_scheme_that_a_camera_may_have_is_one_that_this_ffmpeg_reads():
    protocols = input_protocols()
    assert {"rtmp", "http"} <= protocols
    for scheme in LIVE_SCHEMES:
        assert scheme in protocols or _OF_DEMUXERS.get(scheme) in av.formats_available, scheme


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("rstp://viewer:hush@10.0.0.7/main", "rtsp"),
        ("RTPS://10.0.0.7/main", "rtsp"),
        ("rtspp://10.0.0.7/main", "rtsp"),
        ("htp://10.0.0.7/x.ts", "http"),
        ("rtsp:/viewer:hush@10.0.0.7/main", "rtsp"),
        ("rtsp:viewer:hush@10.0.0.7/main", "rtsp"),
        ("rtsp//10.0.0.7/main", "rtsp"),
        ("rstp:/10.0.0.7/main", "rtsp"),
    ],
)
def test_a_mistyped_scheme_is_refused_with_what_was_meant_and_without_the_password(address, meant):
    with pytest.raises(ConfigError) as caught:
        parse_config({"cameras": [{"id": "gate", "url": address}]})
    (line,) = str(caught.value).splitlines()
    assert line.startswith("config: cameras.gate.url: expected ")
    assert f"did you mean {meant}://?" in line
    assert "hush" not in line
    assert "10.0.0.7" not in line


@pytest.mark.parametrize("address", ["ftp://h/x.mp4", "concat://a|b", "subfile://x", "s3://bucket/x", "gopher://h:1"])
def test_a_scheme_that_is_no_cameras_is_refused_with_those_that_are(address):
    said = camera_address_error(address)
    assert said is not None
    assert "rtsp, rtsps, http" in said
    assert said.endswith(f"got {address.split('/')[0]}//")


def test_blanks_around_an_address_are_refused_as_nothing_could_be_opened_there():
    assert camera_address_error(" rtsp://10.0.0.7/main") == "expected an address or a path without blanks around it"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://viewer:p:ss@10.0.0.7/main", "RTSPS://h", "udp://@:5000", "file:///a/b.mp4", "a.mp4", "/a/b c.mp4",
        "C:/films/gate.mp4", "2026-11-25T10:00.mp4", "gate:1.mp4", "videos//gate.mp4", "viewer:rtsp@host",
        "http-archive:1.mp4",
    ],
)  # fmt: skip
def test_what_ffmpeg_or_the_file_system_may_know_passes(address):
    assert camera_address_error(address) is None


@pytest.mark.parametrize(
    "address",
    [
        *("embedded", "redis://:p@h:6379/0", "rediss://h", "unix:///run/redis.sock?db=1"),
        *("redis+cluster://:p@h:6379,i", "rediss+sentinel://:p@h:26379,i/mymaster/0?sentinel_password=q"),
    ],
)
def test_an_address_of_redis_passes(address):
    assert parse_config({"redis": {"url": address}}).redis.url.get_secret_value() == address


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("rediis://:hush@h", "got rediis:// (did you mean redis://?)"),
        ("REDIS://:hush@h", "got REDIS:// (did you mean redis://?)"),
        ("http://:hush@h", "got http://"),
        ("embeded", "did you mean embedded?"),
        ("hush@localhost:6379", "got an address without any of these"),
    ],
)
def test_another_address_of_redis_is_refused_before_anything_starts(address, said):
    with pytest.raises(ConfigError) as caught:
        parse_config({"redis": {"url": address}})
    assert str(caught.value).startswith("config: redis.url: expected redis://, rediss://, unix://, ")
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)
    assert redis_address_error(address) is not None


@pytest.mark.parametrize(
    "url", ["rtsp://a/b", "RTSPS://a", "http://a", "https://a/x.mp4", "rtmp://a", "srt://a:1", "udp://@:1"]
)
def test_an_address_is_live(url):
    assert is_live(url)


@pytest.mark.parametrize("url", ["a.mp4", "/videos/a.mp4", "file:///videos/a.mp4", "C:\\videos\\a.mp4", "a:b"])
def test_a_path_is_not_live(url):
    assert not is_live(url)


# --- passwords ----------------------------------------------------------------------------------------------------


def camera(address):
    return parse_config({"cameras": [{"id": "gate", "url": address}]}).cameras[0].url.get_secret_value()


def webhook(address):
    (sink,) = parse_config({"sinks": [{"kind": "webhook", "url": address, "secret": "s" * 16}]}).sinks
    return sink


@settings(max_examples=120)
@given(password=passwords, scheme=st.sampled_from(LIVE_SCHEMES))
@example(password="57#Wc903z", scheme="rtsp")
@example(password="57/Wc903z", scheme="http")
@example(password="a@b/c?d", scheme="rtmp")
def test_any_password_of_a_camera_goes_with_its_host_or_is_refused_unseen(password, scheme):
    written = f"{scheme}://viewer:{password}@camera.example:8554/main?channel=1"
    try:
        address = camera(written)
    except ConfigError as error:
        assert not pieces_shown(password, str(error))
    else:
        user_info, *server = read_by_ffmpeg(ffmpeg_address(address))
        sent = user_info if scheme in _RTMP else unquote_to_bytes(user_info)  # as FFmpeg does before it sends it
        assert sent == b"viewer:" + unquote_to_bytes(password)
        assert server == ["camera.example", 8554]
        assert redact(address) == f"{scheme}://***@camera.example:8554/main?channel=1"


@settings(max_examples=120)
@given(
    password=passwords.filter(lambda text: "=" not in text),  # with "=" it may be the camera's next option
    written=st.sampled_from(
        [
            "http://10.0.0.7/snap.cgi?pwd={}",
            "rtsp://10.0.0.7/user=a_password={}_channel=1",
            "http://h/x?token={}&channel=1",
        ]
    ),
)
@example(password="corr&ect horse", written="http://10.0.0.7/snap.cgi?pwd={}")
@example(password="a&<b>", written="rtsp://10.0.0.7/user=a_password={}_channel=1")
def test_any_password_among_the_options_of_a_camera_is_hidden_or_refused_unseen(password, written):
    try:
        shown = redact(camera(written.format(password)))
    except ConfigError as error:
        shown = str(error)
    assert not pieces_shown(password, shown.replace(redact(written.format("x")), ""))


@settings(max_examples=120)
@given(password=passwords, scheme=st.sampled_from(["http", "https"]))
@example(password="1234#Wc903z", scheme="https")
def test_any_password_of_a_webhook_goes_with_its_host_or_is_refused_unseen(password, scheme):
    try:
        sink = webhook(f"{scheme}://viewer:{password}@alarms.example:8443/hook")
    except ConfigError as error:
        assert not pieces_shown(password, str(error))
    else:
        read = httpx.URL(sink.url.get_secret_value())
        assert (read.host, read.port, read.username, read.password) == (
            "alarms.example",
            8443,
            "viewer",
            unquote(password),
        )
        assert sink.redacted_url == f"{scheme}://alarms.example:8443"


@settings(max_examples=100)
@given(password=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8))
def test_a_password_that_is_percent_encoded_is_taken_everywhere_whatever_it_is(password):
    encoded = quote(password, safe="")
    assert camera(f"rtsp://viewer:{encoded}@camera/main")
    assert parse_redis_address(f"redis://:{encoded}@cache").options["password"] == password
    assert httpx.URL(webhook(f"https://viewer:{encoded}@alarms/hook").url.get_secret_value()).password == password


@settings(max_examples=100)
@given(password=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8))
@example(password="57#Wc903z")
def test_a_password_from_the_environment_is_encoded_where_it_could_not_stand(password):
    filled = fill_variables("rtsp://${WHO:-viewer}:${HUSH}@camera/main", {"HUSH": password}, source="config")
    user_info, *server = read_by_ffmpeg(ffmpeg_address(camera(filled)))
    is_encoded = not set(password) & set("/?#")
    assert unquote_to_bytes(user_info) == b"viewer:" + (unquote_to_bytes(password) if is_encoded else password.encode())
    assert server == ["camera", -1]


def test_variables_elsewhere_than_before_the_host_are_filled_in_as_they_are():
    known = {"HOST": "h:1/x?y#z", "PATH": "a/b?c=d@e"}
    for written in (
        "rtsp://u:p@${HOST}",
        "rtsp://h/${PATH}@x",
        "${PATH}:x@h",
        "https://${HOST}/a@b",
        "redis://h/${PATH}",
    ):
        assert fill_variables(written, known, source="config") == written.replace("${HOST}", known["HOST"]).replace(
            "${PATH}", known["PATH"]
        )


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.7:81/videostream.cgi?user=viewer&pwd=p@ss",
        "http://[fd00::7]:81/main?user=a@b:c",
        "rtsp://camera/user@main",
        "http://relay/api/stream.ts?src=rtsp://viewer:p@10.0.0.7/main",
        "udp://@239.0.0.1:5000",
        "tcp://:9000?listen",
        "rtsp://[fe80::1%eth0]:554/main",
    ],
)
def test_an_at_sign_that_cannot_end_a_password_is_part_of_path_or_query(address):
    assert camera_address_error(address) is None


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://us/er:pw@10.0.0.7/main",
        "rtsp://relay:8554/main?user=a@b",
        "rtsp://u:p@10.0.0.7/a@b",
        "rtsp://u:p/main",
        "rtsp://fe80::1/main",
        "rtsp:///main",
        "http://h:99999/",
        "rtsp://h:554x/",
        f"rtsp://u:{'x' * 126}@h/",
        f"rtmp://u:{'x' * 98}@h/",
        "rtmp://u:a%2Fb@h/",
        "rtmp://u:a%ffb@h/",
        "rtsp://u:a\udcffb@h/",
        "rtsp://u:a%00b@h/",
        "http://h/main?user=a&pwd=b#c",
        "http://h/main?user=a&pwd=b c",
    ],
)
def test_a_camera_that_ffmpeg_would_read_otherwise_than_it_is_meant_is_refused(address):
    assert str(camera_address_error(address)).startswith("expected ")


def test_the_longest_user_and_password_that_ffmpeg_sends_whole_is_taken():
    for scheme, longest in (("rtsp", 127), ("rtmp", 99), ("http", 1023)):
        assert camera_address_error(f"{scheme}://u:{'x' * (longest - 2)}@h/") is None
