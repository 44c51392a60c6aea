"""A picture is shown as it was meant, whatever says so: stills, files, and what ``record`` makes of them."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image

from pipeline.video.orientation import Orientation, orientation_of
from pipeline.video.read_back import copy_readable
from pipeline.video.resizer import Resizer
from tests.video.decoding import decode
from tests.videos import SIZE_PX, write_video

EXIF_ORIENTATION = 0x0112
# What each of EXIF's orientations asks for, and the 2 x 2 matrix (a, b, c, d) by which an mp4 says the same.
UPRIGHT = {
    1: (lambda image: image, (1, 0, 0, 1)),
    2: (lambda image: image[:, ::-1], (-1, 0, 0, 1)),
    3: (lambda image: image[::-1, ::-1], (-1, 0, 0, -1)),
    4: (lambda image: image[::-1], (1, 0, 0, -1)),
    5: (lambda image: image.swapaxes(0, 1), (0, 1, 1, 0)),
    6: (lambda image: np.rot90(image, -1), (0, 1, -1, 0)),
    7: (lambda image: image[::-1, ::-1].swapaxes(0, 1), (0, -1, -1, 0)),
    8: (np.rot90, (0, -1, 1, 0)),
}
ORIENTATIONS = pytest.mark.parametrize("orientation", UPRIGHT)


def quarters() -> np.ndarray:
    """A picture that looks different in all eight orientations."""
    image = np.zeros((*SIZE_PX, 3), np.uint8)
    for colour, area in zip(
        [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)],
        [np.s_[:24, :32], np.s_[:24, 32:], np.s_[24:, :32], np.s_[24:, 32:]],
        strict=True,
    ):
        image[area] = colour
    return image


def only_image(path: Path, orientation: int) -> np.ndarray:
    """The first frame at the size that it has when it is upright."""
    frames, source = decode(path, SIZE_PX if orientation < 5 else SIZE_PX[::-1])
    assert source.corrupt + source.decode_errors == 0
    return frames[0].image


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[EXIF_ORIENTATION] = orientation
    return tags


def with_matrix(path: Path, orientation: int) -> Path:
    """Write a matrix into an mp4's track header."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 5 * 4 + 8 + 8
    a, b, c, d = (value << 16 for value in UPRIGHT[orientation][1])
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = path.with_name("turned.mp4")
    turned.write_bytes(data)
    return turned


SUFFIXES = pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])


@SUFFIXES
@ORIENTATIONS
def test_a_still_is_shown_as_its_exif_says(tmp_path, suffix, orientation):
    for name, tags in (("plain", exif(1)), ("turned", exif(orientation))):
        (tmp_path / name).mkdir()
        Image.fromarray(quarters()).save(tmp_path / name / f"a{suffix}", exif=tags)
    plain = only_image(tmp_path / "plain", 1)
    turned = only_image(tmp_path / "turned", orientation)
    assert np.array_equal(turned, UPRIGHT[orientation][0](plain))


@ORIENTATIONS
def test_a_video_is_shown_as_its_container_says_and_once_only_when_it_was_recorded(tmp_path, orientation):
    path = write_video(tmp_path / "a.mp4", [quarters()] * 3, gop=1)
    expected = UPRIGHT[orientation][0](only_image(path, 1))
    turned = with_matrix(path, orientation)
    assert np.array_equal(only_image(turned, orientation), expected)
    assert copy_readable(turned, tmp_path / "recorded.mkv") == 3
    assert np.array_equal(only_image(tmp_path / "recorded.mkv", orientation), expected)


def test_vp9_which_another_decoder_watches_over_keeps_its_containers_matrix(tmp_path):
    path = write_video(tmp_path / "a.mp4", [quarters()] * 3, codec="libvpx-vp9")
    expected = UPRIGHT[5][0](only_image(path, 1))
    assert np.array_equal(only_image(with_matrix(path, 5), 5), expected)


@ORIENTATIONS
def test_motion_jpeg_is_shown_as_the_exif_of_its_pictures_says(tmp_path, orientation):
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", exif=exif(orientation))
    Image.fromarray(quarters()).save(tmp_path / "plain.jpg")
    paths = [as_motion_jpeg(tmp_path / name) for name in ("plain.jpg", "a.jpg")]
    expected = UPRIGHT[orientation][0](only_image(paths[0], 1))
    assert np.array_equal(only_image(paths[1], orientation), expected)


def as_motion_jpeg(jpeg: Path) -> Path:
    return as_video(jpeg, jpeg.with_suffix(".avi"), "mjpeg", "yuvj420p")


def as_video(image: Path, path: Path, codec: str, pixel_format: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        (stream.height, stream.width), stream.pix_fmt = SIZE_PX, pixel_format
        packet = av.Packet(image.read_bytes())
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        packet.is_keyframe = True
        container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("flip=horizontal", Orientation(mirrored=True)),
        ("flip=vertical", Orientation(upside_down=True)),
        ("rotate=90", Orientation(transposed=True, upside_down=True)),  # counterclockwise
        ("rotate=90:flip=horizontal", Orientation(transposed=True)),
    ],
)
def test_a_camera_that_says_it_in_its_h264_is_believed(tmp_path, said, expected):
    path = write_video(tmp_path / "a.mp4", 1)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        insert = BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{said}", stream)
        packets = [packet for sent in container.demux(stream) if sent.size for packet in insert.filter(sent)]
        frames = [frame for packet in packets for frame in stream.codec_context.decode(packet)]
        frames += stream.codec_context.decode(None)
    assert [orientation_of(frame) for frame in frames] == [expected]


@SUFFIXES
def test_a_picture_with_a_colour_profile_is_read_like_one_without_and_ends_nothing(tmp_path, suffix):
    """PyAV frees the name of a PNG's profile twice, once somebody has looked for an orientation."""
    for name, profile in (("plain", None), ("profile", bytes(200))):
        (tmp_path / name).mkdir()
        Image.fromarray(quarters()).save(tmp_path / name / f"a{suffix}", exif=exif(2), icc_profile=profile)
    plain = only_image(tmp_path / "plain", 2)
    assert np.array_equal(only_image(tmp_path / "profile", 2), plain)
    if suffix == ".png":
        video = as_video(tmp_path / "profile" / "a.png", tmp_path / "a.mov", "png", "rgb24")
        assert np.array_equal(only_image(video, 2), plain)


def test_a_frame_without_a_matrix_stays_as_it_is_and_is_copied():
    frame = av.VideoFrame.from_ndarray(quarters(), format="rgb24")
    assert orientation_of(frame) == Orientation()
    image = Resizer(SIZE_PX)(frame)
    assert image is not None
    assert np.array_equal(image, quarters()) and image.flags.owndata
