"""JPEGs out of whatever cameras send around them."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import pipeline.video.jpeg_splitter as jpeg_splitter_module
from pipeline.video.jpeg_splitter import JpegSplitter
from tests.videos import numbered_frame


def jpeg(number, size_px=(48, 64), **options):
    buffer = io.BytesIO()
    Image.fromarray(numbered_frame(number, size_px)).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


PLAIN = jpeg(1)
PICTURES = [
    PLAIN,
    jpeg(2, progressive=True),
    jpeg(3, restart_marker_blocks=2),
    jpeg(4, comment=b"\xff\xd9\xff\xd8\xff"),
    jpeg(5, exif=b"Exif\0\0" + PLAIN),  # with a picture of its own in it
    PLAIN.replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),  # filled up, as the standard allows
]


def stream(before, after=b"\r\n"):
    return b"".join(before + picture + after for picture in PICTURES)


@given(
    chunk=st.integers(1, 3000),
    before=st.sampled_from([b"", b"\xff", b"--cut\r\nContent-Length: 3\r\n\r\n", b"\xff\xd8", b"\0" * 70_000]),
    after=st.sampled_from([b"", b"\r\n", b"\n", b"\xff\xd9", b"\xff" * 3]),
)
def test_pictures_come_whole_in_whatever_pieces_and_with_whatever_between_them(chunk, before, after):
    splitter, data, found = JpegSplitter(), stream(before, after), []
    for start in range(0, len(data), chunk):
        found += splitter.push(data[start : start + chunk])
    assert found == PICTURES


def test_a_picture_is_there_with_its_last_byte():
    splitter = JpegSplitter()
    assert splitter.push(PLAIN[:-1]) == []
    assert splitter.push(PLAIN[-1:]) == [PLAIN]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
def test_a_picture_that_was_cut_off_takes_none_of_the_next_one_with_it(share):
    cut = PLAIN[: round(share * len(PLAIN))] + b"\r\n--cut\r\n\r\n"
    assert JpegSplitter().push(cut + PLAIN) == [cut, PLAIN]


@given(st.binary(max_size=300), st.integers(0, len(PLAIN)), st.integers(0, 300))
def test_whatever_is_damaged_a_sound_picture_is_found_in_time(noise, at, length):
    splitter = JpegSplitter()
    damaged = PLAIN[:at] + noise + PLAIN[at + length :]
    found = splitter.push(damaged)
    for _ in range(120):  # a damaged length may reach over 64 kB
        found += splitter.push(b"--cut\r\n\r\n" + PLAIN)
    assert found[-1] == PLAIN


def test_a_picture_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(jpeg_splitter_module, "MAX_PICTURE_BYTES", 1000)
    splitter = JpegSplitter()
    splitter.push(PLAIN[:600])
    with pytest.raises(ValueError, match="expected a JPEG of at most 1,000 bytes, got one without an end"):
        splitter.push(bytes(1000))
