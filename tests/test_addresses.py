"""Which addresses a config takes: those that FFmpeg can read as a camera, and Redis's own."""

import ctypes
from pathlib import Path

import av
import pytest

from pipeline.addresses import LIVE_SCHEMES, camera_address_error, is_live, redis_address_error
from pipeline.config_file import parse_config
from pipeline.errors import ConfigError

_OF_DEMUXERS = {"rtsp": "rtsp", "rtsps": "rtsp"}  # by scheme; FFmpeg has no protocol of that name


def input_protocols():
    """What the FFmpeg inside PyAV reads, asked of its own library."""
    (path,) = (Path(av.__file__).parent.parent / "av.libs").glob("libavformat-*")
    ask = ctypes.CDLL(str(path)).avio_enum_protocols
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
        "rtsp://viewer:p://x@10.0.0.7/main", "RTSPS://h", "udp://@:5000", "file:///a/b.mp4", "a.mp4", "/a/b c.mp4",
        "C:/films/gate.mp4", "2026-11-25T10:00.mp4", "gate:1.mp4", "videos//gate.mp4", "viewer:rtsp@host",
        "http-archive:1.mp4",
    ],
)  # fmt: skip
def test_what_ffmpeg_or_the_file_system_may_know_passes(address):
    assert camera_address_error(address) is None


@pytest.mark.parametrize("address", ["embedded", "redis://:p@h:6379/0", "rediss://h", "unix:///run/redis.sock?db=1"])
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
    assert str(caught.value).startswith("config: redis.url: expected redis://, rediss://, unix:// or 'embedded', ")
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
