"""A damaged picture is counted as one, whatever it is coded with and wherever it lies, and a sound one never is."""

import io
import itertools
import resource
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.video.decoder import MAX_PIXELS
from pipeline.video.picture_header import codec_of, jpeg_frame_header, lacks_its_end, size_px
from pipeline.video.source import DecodedFrame, open_source
from tests.video.decoding import complaint, decode, numbers
from tests.videos import SIZE_PX, numbered_frame, truncate, write_images, write_video

# --- stills -------------------------------------------------------------------------------------------------------


def coded(image: np.ndarray | Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("fraction", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_a_still_that_was_cut_off_is_corrupt(tmp_path, suffix, fraction):
    folder = write_images(tmp_path / "images", 5, suffix=suffix)
    truncate(folder / f"003{suffix}", fraction=fraction)
    frames, source = decode(folder)
    assert numbers(frames) == [0, 1, 3, 4]
    assert (source.decoded, source.corrupt, source.decode_errors, source.missing()) == (4, 1, 0, 1)


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"keep_rgb": True}])
def test_a_jpeg_with_a_hole_is_corrupt(tmp_path, options):
    whole = coded(numbered_frame(5, (240, 320)), quality=90, **options)
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2] + whole[len(whole) // 2 + 300 :])
    assert "expected frames, got none of 1 that can be decoded: 1.jpg: expected a whole image" in complaint(tmp_path)


def test_a_progressive_jpeg_that_was_cut_off_between_two_scans_is_corrupt(tmp_path):
    whole = coded(numbered_frame(5), progressive=True)
    scans = [at for at in range(len(whole)) if whole.startswith(b"\xff\xda", at)]
    for number, at in enumerate(scans[1:]):
        tables_at = max(whole.rfind(b"\xff\xc4", 0, at), 0)
        (tmp_path / f"{number}.jpg").write_bytes(whole[:tables_at])
    (tmp_path / "999.jpg").write_bytes(whole)
    frames, source = decode(tmp_path)
    assert numbers(frames) == [5]
    assert source.corrupt == len(scans) - 1


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2) + payload


def without_segments(data: bytes, marker: int) -> bytes:
    kept, at = data[:2], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        kept += b"" if data[at + 1] == marker else data[at:end]
        at = end
    return kept + data[at:]


PLAIN = coded(numbered_frame(7))
PROGRESSIVE = coded(numbered_frame(7), progressive=True)
ODD_JPEGS = {
    "without its end marker": PLAIN[:-2],
    "zeros after the end": PLAIN + bytes(100),
    "a boundary after the end": PLAIN + b"\r\n--cut\r\n",
    "without Huffman tables, as in AVI": without_segments(PLAIN, 0xC4),
    "without JFIF": without_segments(PLAIN, 0xE0),
    "broken EXIF": PLAIN[:2] + segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f") + PLAIN[2:],
    "unknown segments": PLAIN[:2] + segment(0xE5, b"junk" * 40) + segment(0xEF, b"") + PLAIN[2:],
    "a comment that is no text": PLAIN[:2] + segment(0xFE, b"\xff\xfe\0abc") + PLAIN[2:],
    "zeros between two segments": PLAIN.replace(b"\xff\xda", bytes(3) + b"\xff\xda"),
    "padding before a marker": PLAIN[:2] + b"\xff\xff" + PLAIN[2:],
    "padding before the end": PLAIN[:-2] + b"\0\xff\xff" + PLAIN[-2:],
    "no restarts at all": PLAIN[:2] + segment(0xDD, b"\0\0") + PLAIN[2:],
    "restart markers": coded(numbered_frame(7), restart_marker_blocks=3),
    "progressive": PROGRESSIVE,
    "a film behind, as phones add, in which there are markers": PROGRESSIVE + b"\0\0\0\x18ftypmp42\xff\xda\xff",
    "grey": coded(Image.fromarray(numbered_frame(7)).convert("L")),
    "for print": coded(Image.fromarray(numbered_frame(7)).convert("CMYK")),
    "4:4:4": coded(numbered_frame(7), subsampling=0),
    "4:2:2": coded(numbered_frame(7), subsampling=1),
    "a second picture behind": PLAIN + coded(numbered_frame(9)),
}


@pytest.mark.parametrize("oddity", ODD_JPEGS)
def test_a_jpeg_that_is_merely_odd_is_sound(tmp_path, oddity):
    (tmp_path / "1.jpg").write_bytes(ODD_JPEGS[oddity])
    frames, source = decode(tmp_path)
    assert numbers(frames) == [7]
    assert (source.corrupt, source.decode_errors) == (0, 0)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_a_tiff_with_tags_that_nobody_knows_is_sound(tmp_path, compression):
    tags = {65000: "from a microscope"}
    (tmp_path / "1.tif").write_bytes(coded(numbered_frame(7), "TIFF", tiffinfo=tags, compression=compression))
    assert numbers(decode(tmp_path)[0]) == [7]


# --- video --------------------------------------------------------------------------------------------------------


def as_motion_jpeg(path: Path, pictures: list[bytes]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        (stream.height, stream.width), stream.pix_fmt = size_px(pictures[0]) or SIZE_PX, "yuvj420p"
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = number
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4", "live.mkv"])
def test_a_motion_jpeg_picture_that_was_cut_off_is_corrupt_in_a_file_and_live(tmp_path, http_folder, name):
    pictures = [coded(numbered_frame(number)) for number in range(8)]
    for number, fraction in ((2, 0.5), (4, 0.8), (6, 0.97)):
        pictures[number] = pictures[number][: int(len(pictures[number]) * fraction)]
    folder, address = http_folder
    path = as_motion_jpeg(folder / name, pictures)
    with open_source(f"{address}/{name}" if name.startswith("live") else str(path), SIZE_PX) as source:
        assert numbers(source) == [0, 1, 3, 5, 7]
        assert (source.decoded, source.corrupt, source.decode_errors) == (5, 3, 0)


BIG_PX = (96, 128)
DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "overwritten": lambda data: data[: len(data) // 2] + b"\xa5" * 48 + data[len(data) // 2 + 48 :],
    "with a hole": lambda data: data[: len(data) // 3] + bytes(len(data) // 2) + data[-(len(data) // 6) :],
}


def pictures_of(frames: int) -> list[np.ndarray]:
    """Numbered frames over noise that moves, so that every packet is large enough to be damaged."""
    noise = np.random.default_rng(0).integers(0, 120, (BIG_PX[0] // 2, BIG_PX[1] + frames, 3), dtype=np.uint8)
    images = [numbered_frame(number, BIG_PX) for number in range(frames)]
    for number, image in enumerate(images):
        image[BIG_PX[0] // 2 :] = noise[:, number : number + BIG_PX[1]]
    return images


def with_damage(path: Path, out: Path, number: int, damage) -> Path:
    """Copy a file, one of its packets changed."""
    with av.open(str(path)) as whole, av.open(str(out), "w") as copied:
        stream = copied.add_stream_from_template(whole.streams.video[0], opaque=True)
        for count, packet in enumerate(whole.demux(video=0)):
            if not packet.size:
                continue
            sent = av.Packet(damage(bytes(packet))) if count == number else packet
            if count == number:
                sent.pts, sent.dts, sent.time_base = packet.pts, packet.dts, packet.time_base
                sent.is_keyframe = packet.is_keyframe
            sent.stream = stream
            copied.mux(sent)
    return out


@pytest.mark.parametrize(
    ("name", "codec", "damages"),
    [
        ("a.mp4", "libx264", ["cut", "with a hole"]),
        ("a.mkv", "libx264", ["cut", "with a hole"]),
        ("a.ts", "libx264", ["cut", "with a hole"]),
        ("a.avi", "mpeg4", ["cut", "overwritten", "with a hole"]),
        ("a.mp4", "mpeg4", ["cut", "overwritten", "with a hole"]),
        ("a.ts", "mpeg2video", ["cut", "overwritten", "with a hole"]),
        ("a.mp4", "libx265", ["cut", "with a hole"]),
        ("a.mkv", "libx265", ["cut", "with a hole"]),
        ("a.ts", "libx265", ["with a hole"]),
        ("a.mkv", "libvpx-vp9", ["cut", "overwritten", "with a hole"]),
        ("a.mp4", "libvpx-vp9", ["cut", "overwritten", "with a hole"]),
    ],
)
def test_no_frame_that_shows_damage_comes_from_it_up_to_the_next_keyframe(tmp_path, name, codec, damages):
    path = write_video(tmp_path / name, pictures_of(12), size_px=BIG_PX, codec=codec, gop=6)
    sound, source = decode(path, BIG_PX)
    assert (len(sound), source.corrupt, source.decode_errors) == (12, 0, 0)
    cases: list[tuple[str, int]] = [(damage, number) for damage in damages for number in (2, 6)]
    for damage, number in cases:  # the second one is a keyframe
        damaged = with_damage(path, tmp_path / f"damaged-{name}", number, DAMAGES[damage])
        with open_source(str(damaged), BIG_PX) as source:
            came = [arrival for arrival in source.arrivals() if arrival is not None]
        assert source.decoded + source.corrupt + source.decode_errors == len(came) == 12
        spoilt = range(number, 6 if number < 6 else 12)
        assert [isinstance(arrival, DecodedFrame) for arrival in came] == [at not in spoilt for at in range(12)]
        for whole, arrival in zip(sound, came, strict=True):
            assert not isinstance(arrival, DecodedFrame) or np.array_equal(arrival.image, whole.image)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_b_frames_in_front_of_a_keyframe_with_a_hole_are_damaged_and_those_behind_the_next_one_are_not(tmp_path, codec):
    """They are shown before it, and decoded after it: they are predicted from it where groups are open."""
    path = write_video(tmp_path / "a.ts", pictures_of(24), size_px=BIG_PX, codec=codec, gop=8, b_frames=2)
    sound, _ = decode(path, BIG_PX)
    with av.open(str(path)) as container:
        keys = [at for at, packet in enumerate(container.demux(video=0)) if packet.size and packet.is_keyframe]
    frames, source = decode(with_damage(path, tmp_path / "hole.ts", keys[1], DAMAGES["with a hole"]), BIG_PX)
    assert source.decoded + source.corrupt + source.decode_errors == 24
    assert source.decoded >= 8
    by_time = {frame.pts: frame.image for frame in sound}
    assert all(np.array_equal(frame.image, by_time[frame.pts]) for frame in frames)


def test_vp9_of_10_bits_is_decoded(tmp_path):
    """PyAV's libvpx, which notices damage, is built for 8 bits alone: it can neither make nor read these grey ones."""
    keyframe = "924983420001f8017b001c120e0c49000018600000138f40000000"
    packets = [bytes.fromhex(hexadecimal) for hexadecimal in (keyframe, "960040929c005400000320000054701b", keyframe)]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25)
        assert isinstance(stream, av.VideoStream)
        (stream.height, stream.width), stream.pix_fmt = SIZE_PX, "yuv420p"
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), number != 1
            packet.pts = packet.dts = number
            container.mux(packet)
    frames, source = decode(tmp_path / "a.mkv")
    assert (source.decoded, source.corrupt, source.decode_errors) == (3, 0, 0)
    assert all(abs(frame.image.astype(int) - 128).max() <= 3 for frame in frames)


def test_av1_that_was_overwritten_is_damaged_up_to_the_next_keyframe(tmp_path):
    path = write_video(tmp_path / "a.mkv", pictures_of(12), size_px=BIG_PX, codec="libsvtav1", gop=6)
    sound, _ = decode(path, BIG_PX)
    with av.open(str(path)) as container:
        packet = next(itertools.islice(container.demux(video=0), 1, None))
        whole = bytes(packet)
    data = path.read_bytes()
    assert data.count(whole) == 1
    path.write_bytes(data.replace(whole, DAMAGES["overwritten"](whole)))
    frames, source = decode(path, BIG_PX)
    assert source.decoded + source.corrupt + source.decode_errors == 12
    assert [frame.pts for frame in frames] == [sound[0].pts, *(frame.pts for frame in sound[6:])]
    by_time = {frame.pts: frame.image for frame in sound}
    assert all(np.array_equal(frame.image, by_time[frame.pts]) for frame in frames)


def test_pictures_that_are_renewed_bit_by_bit_are_sound_when_all_has_been_renewed(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, av.VideoStream)
        (stream.height, stream.width), stream.pix_fmt = BIG_PX, "yuv420p"
        stream.options = {"threads": "1", "x264-params": "intra-refresh=1:keyint=8:bframes=0:scenecut=0"}
        for number, image in enumerate(pictures_of(40)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sound, _ = decode(path, BIG_PX)
    frames, source = decode(with_damage(path, tmp_path / "damaged.mkv", 3, DAMAGES["cut"]), BIG_PX)
    assert (
        source.corrupt + source.decode_errors == 13
    )  # a renewal begins with frame 8, and is whole when the one of frame 16 begins
    by_time = {frame.pts: frame.image for frame in sound}
    assert all(np.array_equal(frame.image, by_time[frame.pts]) for frame in frames)


def test_frames_shown_before_the_one_that_is_lost_stay_sound(tmp_path):
    """With B-frames the decoder still holds pictures when one behind them cannot be decoded."""
    path = write_video(tmp_path / "a.mkv", pictures_of(12), size_px=BIG_PX, codec="mpeg4", gop=6, b_frames=2)
    sound, _ = decode(path, BIG_PX)
    lost = with_damage(path, tmp_path / "lost.mkv", 4, lambda data: b"\xff" * 200)
    frames, source = decode(lost, BIG_PX)
    assert source.corrupt + source.decode_errors >= 1
    by_time = {frame.pts: frame.image for frame in sound}
    assert all(np.array_equal(frame.image, by_time[frame.pts]) for frame in frames)
    assert len(frames) >= 3


# --- sizes --------------------------------------------------------------------------------------------------------


def flat(size: tuple[int, int]) -> Image.Image:
    return Image.new("L", (size[1], size[0]), 128)


def test_a_still_of_50_megapixels_is_read(tmp_path):
    flat((6144, 8192)).save(tmp_path / "1.jpg")
    frames, source = decode(tmp_path)
    assert source.size_px == (6144, 8192)
    assert abs(frames[0].image.astype(int) - 128).max() <= 1


def test_video_of_8k_is_read(tmp_path):
    path = as_motion_jpeg(tmp_path / "a.mp4", [coded(flat((4320, 8192)))])
    frames, source = decode(path)
    assert (len(frames), source.size_px) == (1, (4320, 8192))


@pytest.mark.parametrize("size", [(1, 1), (5000, 3), (3, 5000)])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
def test_pictures_of_odd_sizes_are_read(tmp_path, suffix, size):
    flat(size).convert("RGB").save(tmp_path / f"1{suffix}")
    frames, source = decode(tmp_path)
    assert source.size_px == size == size_px((tmp_path / f"1{suffix}").read_bytes())
    assert abs(frames[0].image.astype(int) - 128).max() <= 2


def too_large(kind: str) -> bytes:
    """A small picture whose header promises 8192 x 6401 pixels."""
    data = bytearray(coded(numbered_frame(1), kind))
    if kind == "JPEG":
        at, size = data.index(b"\xff\xc0") + 5, (6401).to_bytes(2) + (8192).to_bytes(2)
    elif kind == "PNG":
        at, size = 16, (8192).to_bytes(4) + (6401).to_bytes(4)
    else:
        at, size = 18, (8192).to_bytes(4, "little") + (-6401).to_bytes(4, "little", signed=True)
    data[at : at + len(size)] = size
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_a_still_that_would_fill_the_memory_is_refused_with_its_name_and_size(tmp_path, caplog, kind):
    folder = write_images(tmp_path / "images", 2)
    (folder / "003.png").write_bytes(too_large(kind))
    frames, source = decode(folder)
    assert (len(frames), source.decode_errors) == (2, 1)
    assert f"003.png: expected at most {MAX_PIXELS:,} pixels, got 8192 x 6401" in caplog.text
    for name in ("001.png", "002.png"):
        (folder / name).unlink()
    assert "got none of 1 that can be decoded: 003.png: expected at most" in complaint(folder)


def test_a_video_that_would_fill_the_memory_is_refused_with_its_name_and_size(tmp_path):
    path = as_motion_jpeg(tmp_path / "a.mkv", [too_large("JPEG")])
    assert f"a.mkv: expected frames of at most {MAX_PIXELS:,} pixels, got 8192 x 6401" in complaint(path)


def test_a_picture_is_let_go_before_anybody_waits(tmp_path):
    """Beside a full buffer a camera process would keep hundreds of megabytes of a large still, else."""
    flat((4096, 8192)).save(tmp_path / "1.png", compress_level=1)
    with open_source(str(tmp_path), SIZE_PX) as source:
        before = resident_bytes()
        kept = list(itertools.islice(source.arrivals(), 1))
        assert isinstance(kept[0], DecodedFrame)
        assert resident_bytes() - before < 4096 * 8192 / 2


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# --- headers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@given(junk=st.binary(max_size=40), at=st.integers(0, 80), length=st.integers(0, 400))
def test_whatever_a_header_holds_it_is_read_without_an_exception(kind, junk, at, length):
    data = bytearray(HEADS[kind])
    data[at : at + len(junk)] = junk
    damaged = bytes(data[:length])
    read = codec_of(damaged), size_px(damaged), jpeg_frame_header(damaged), lacks_its_end(damaged)
    assert read[1] is None or (len(read[1]) == 2 and min(read[1]) >= 0)


HEADS = {kind: coded(numbered_frame(3), kind)[:400] for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP")}
