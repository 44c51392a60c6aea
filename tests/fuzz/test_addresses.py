"""Whatever is given as a camera's address: it opens, or is refused in one line without its password, soon."""

import time

import pytest
from hypothesis import given, settings
from pydantic import SecretStr, ValidationError

from pipeline.camera_settings import CameraSettings
from pipeline.errors import VideoError
from pipeline.redaction import redact
from pipeline.video.source import open_source
from tests.fuzz.targets import SECRET, addresses, check_address
from tests.video.station import Station, until


@settings(max_examples=300)
@given(address=addresses)
def test_any_address_opens_or_is_refused_in_one_line_without_its_password(address):
    started = time.monotonic()
    check_address(address)
    assert time.monotonic() - started < 30.0


@pytest.mark.parametrize(
    "address",
    [
        f"rtsp://u:a {SECRET}@127.0.0.1:9/",
        f"rtsp://u:a'{SECRET}@127.0.0.1:9/",
        f"rtsp://u:a /'{SECRET}@127.0.0.1:9/",
        f"rtsp:/u:{SECRET}@127.0.0.1/main",
        f"rtsp//u:{SECRET}@127.0.0.1/main",
        f"u:{SECRET}@127.0.0.1:554/main",
        f"http://127.0.0.1:9/?password=a'{SECRET}&x=1",
        f"http://127.0.0.1:9/?loginuse=admin&loginpas={SECRET}",
        f"rtsp://127.0.0.1:9/user=admin_password={SECRET}_channel=1",
    ],
)
def test_no_password_of_any_camera_is_shown(address):
    with pytest.raises(VideoError) as caught, open_source(address, (16, 16), open_timeout_s=0.2) as source:
        list(source)
    assert SECRET not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize("text", ["x" * 200_000, "rtsp://" * 20_000 + "@", ":" * 100_000 + "@", "&pas_" * 40_000])
def test_hiding_passwords_takes_no_longer_than_reading(text):
    started = time.monotonic()
    redact(text)
    assert time.monotonic() - started < 30.0


@pytest.mark.parametrize(
    "address", ["x" * 300, "a/" * 3_000, "rtsp://127.0.0.1:9/\ud800", "a\nb", "rtsp://127.0.0.1:9/\n", "\ud800", "a\0b"]
)
def test_what_is_no_name_is_refused_in_one_line(address):
    with pytest.raises(VideoError) as caught, open_source(address, (16, 16), name="gate"):
        pass
    assert str(caught.value).isprintable()


@settings(max_examples=25)
@given(address=addresses)
def test_a_reader_of_any_address_fails_or_waits_with_one_line_without_the_password(tmp_path_factory, address):
    try:
        CameraSettings(id="gate", url=SecretStr(address))
    except ValidationError:
        return
    with Station(tmp_path_factory.mktemp("station")) as station:
        station.add("gate", address, open_timeout_s=0.2, read_timeout_s=0.2)
        until(lambda: station.status().error or station.status().ended, "it fails")
        error = station.status().error
    assert SECRET not in error
    assert len(error.splitlines()) == 1
