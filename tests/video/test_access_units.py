"""Pictures of several slices, cut into packets in every way that a parser or a camera cuts them."""

import itertools
from fractions import Fraction

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.video.access_units import AccessUnits, parameter_sets_once
from pipeline.video.source import open_source
from tests.rtsp import RtspServer, require_rtsp
from tests.videos import frame_number, numbered_frame, write_video

SIZE_PX = (64, 96)
START = b"\0\0\0\1"
KINDS = {
    "h264": (lambda unit: unit[0] & 0x1F, {1, 2, 5}, {7, 8}, 9),
    "hevc": (lambda unit: unit[0] >> 1 & 0x3F, set(range(22)), {32, 33, 34}, 35),
}


def units_of(data, length_bytes=0):
    """NAL units without what parts them."""
    if not length_bytes:
        return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + length_bytes])
        found.append(data[at + length_bytes : at + length_bytes + length])
        at += length_bytes + length
    return found


def packet_of(data, like):
    packet = av.Packet(data)
    packet.pts, packet.dts, packet.time_base, packet.is_keyframe = like.pts, like.dts, like.time_base, like.is_keyframe
    return packet


def repeat_before_slices(path, out):
    """A transport stream whose parameter sets, or delimiters, come before every slice of a picture."""
    with av.open(str(path)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        kind, slices, sets, delimiter = KINDS[stream.codec_context.name]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if not packet.size:
                continue
            units = units_of(bytes(packet))
            again = [u for u in units if kind(u) in sets] or [u for u in units if kind(u) == delimiter]
            first = next(number for number, unit in enumerate(units) if kind(unit) in slices)
            sent = [[*again, u] if kind(u) in slices and number > first else [u] for number, u in enumerate(units)]
            changed = packet_of(b"".join(START + unit for unit in itertools.chain(*sent)), packet)
            changed.stream = copied
            target.mux(changed)
    return out


def with_start_codes(path, out):
    """An mp4 that announces lengths before its NAL units and holds start codes, as some recorders write it."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            at = packet.pos
            for unit in units_of(bytes(packet), 4):
                data[at : at + 4] = START
                at += 4 + len(unit)
    out.write_bytes(data)
    return out


def numbers(source):
    return [frame_number(frame.image) for frame in source]


@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("slices", [1, 2, 4])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_packets_of_one_nal_unit_each_become_the_access_units_they_were(tmp_path, codec, slices, b_frames, suffix):
    """Start codes (transport streams) and lengths (mp4, RTMP); delimiters and messages in packets of their own."""
    path = write_video(
        tmp_path / f"a{suffix}", 25, codec=codec, slices=slices, b_frames=b_frames, size_px=SIZE_PX, gop=10
    )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        units, whole, sent = AccessUnits(stream), [], []
        kind, kinds, *_ = KINDS[stream.codec_context.name]
        length_bytes = 4 if suffix == ".mp4" else 0
        for packet in container.demux(stream):
            if not packet.size:
                continue
            sent.append(packet)
            pieces = units_of(bytes(packet), length_bytes)
            assert sum(kind(piece) in kinds for piece in pieces) == slices
            for piece in pieces:
                head = len(piece).to_bytes(4) if length_bytes else START
                whole += units.push(packet_of(head + piece, packet))
        whole += units.flush()
    assert [units_of(bytes(unit), length_bytes) for unit in whole] == [
        units_of(bytes(packet), length_bytes) for packet in sent
    ]
    facts = [[(p.pts, p.dts, p.is_keyframe, p.is_corrupt, p.time_base) for p in packets] for packets in (whole, sent)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_whole_pictures_pass_at_once_after_the_first_keyframe_and_as_they_are(tmp_path, codec):
    path = write_video(tmp_path / "a.ts", 25, codec=codec, slices=2, size_px=SIZE_PX, gop=10)
    with av.open(str(path)) as container:
        units = AccessUnits(container.streams.video[0])
        packets = [packet for packet in container.demux(video=0) if packet.size]
        came = [units.push(packet) for packet in packets]
    assert [packet for whole in came for packet in whole] == packets
    first = [[packets[0]], [packets[1]]] if codec == "mpeg4" else [[], packets[:2]]
    assert came == first + [[packet] for packet in packets[2:]]


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("live", [False, True])
def test_pictures_that_come_in_parts_are_decoded_whole_and_once(tmp_path, http_folder, codec, b_frames, live):
    folder, address = http_folder
    path = write_video(tmp_path / "a.ts", 40, codec=codec, slices=2, b_frames=b_frames, size_px=SIZE_PX, gop=10)
    repeat_before_slices(path, folder / "parts.ts")
    with open_source(f"{address}/parts.ts" if live else str(folder / "parts.ts"), SIZE_PX) as source:
        assert numbers(source) == list(range(40))
    assert (source.corrupt, source.decode_errors) == (0, 0)


@pytest.mark.server
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("repeats", [False, True])
def test_a_camera_that_sends_pictures_in_parts_is_read_whole(tmp_path, codec, repeats):
    require_rtsp()
    name = "a.mp4" if codec == "libx264" else "a.h265.mp4"
    footage = write_video(tmp_path / name, 40, codec=codec, slices=2, size_px=SIZE_PX, gop=10)
    with RtspServer({"gate": footage}, repeats=repeats) as server, open_source(server.url("gate"), SIZE_PX) as source:
        frames = list(itertools.islice(source, 30))
    came = [frame_number(frame.image) for frame in frames]
    assert all((earlier + 1) % 40 == later for earlier, later in itertools.pairwise(came))
    times = [frame.pts * frame.time_base for frame in frames]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [Fraction(1, 25)] * 29
    assert (source.corrupt, source.decode_errors) == (0, 0)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_interlaced_pictures_of_two_slices_are_read_whole(tmp_path, codec):
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE_PX, "yuv420p"
        kind = "x264-params" if codec == "libx264" else "x265-params"
        more = "threads=1:tff=1" if codec == "libx264" else "log-level=none:pools=1:ctu=16:interlace=tff"
        stream.options = {"crf": "4", kind: f"slices=2:keyint=10:{more}"}
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, SIZE_PX), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_source(str(repeat_before_slices(path, tmp_path / "parts.ts")), SIZE_PX) as source:
        assert numbers(source) == list(range(40))
    assert (source.corrupt, source.decode_errors) == (0, 0)


@pytest.mark.parametrize("slices", [1, 2])
def test_start_codes_in_a_file_that_announces_lengths_are_told_from_them(tmp_path, slices):
    path = write_video(tmp_path / "a.mp4", 40, slices=slices, size_px=SIZE_PX)
    with open_source(str(with_start_codes(path, tmp_path / "b.mp4")), SIZE_PX) as source:
        assert numbers(source) == list(range(40))
    assert (source.corrupt, source.decode_errors) == (0, 0)


def test_an_early_hevc_file_whose_description_has_version_0_is_read_whole(tmp_path):
    path = write_video(tmp_path / "a.mp4", 40, codec="libx265", size_px=SIZE_PX)
    data = bytearray(path.read_bytes())
    data[data.index(b"hvcC") + 4] = 0
    path.write_bytes(data)
    with open_source(str(path), SIZE_PX) as source:
        assert numbers(source) == list(range(40))
    assert (source.corrupt, source.decode_errors) == (0, 0)


def pushed(path, packets):
    """What comes out after each packet of data that is given, and at the end."""
    with av.open(str(path)) as container:
        units = AccessUnits(container.streams.video[0])
        came = []
        for data, is_keyframe in packets:
            packet = av.Packet(data)
            packet.is_keyframe = is_keyframe
            came.append([bytes(unit) for unit in units.push(packet)])
        return came, [bytes(unit) for unit in units.flush()]


def test_parameter_sets_in_packets_of_their_own_delay_the_first_keyframe_alone(tmp_path):
    path = write_video(tmp_path / "a.ts", 30, size_px=SIZE_PX, gop=10)
    with av.open(str(path)) as container:
        pictures = [(units_of(bytes(p)), p.is_keyframe) for p in container.demux(video=0) if p.size]
    before_slices = [([u for u in units if u[0] & 0x1F in {6, 7, 8, 9}], False) for units, _ in pictures]
    slices = [([u for u in units if u[0] & 0x1F in {1, 5}], is_keyframe) for units, is_keyframe in pictures]
    sent = [
        (b"".join(START + unit for unit in units), is_keyframe)
        for units, is_keyframe in itertools.chain(*zip(before_slices, slices, strict=True))
    ]
    came, waiting = pushed(path, sent)
    whole = [first + second for (first, _), (second, _) in zip(sent[::2], sent[1::2], strict=True)]
    assert [[], [], [whole[0]], [whole[1]]] == came[:4]
    assert came[4:] == [step for unit in whole[2:] for step in ([], [unit])]
    assert waiting == []


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
@pytest.mark.parametrize("header", [b"\x74", b"\x41\x40"], ids=["in which no picture begins", "that go on and on"])
@pytest.mark.parametrize("suffix", [".ts", ".mp4"])
def test_packets_without_an_end_of_a_picture_are_not_held_for_ever(tmp_path, suffix, header, size):
    """Layers above the base and encrypted pictures; slices whose first one never comes."""
    path = write_video(tmp_path / f"a{suffix}", 3, size_px=SIZE_PX)
    head = START if suffix == ".ts" else size.to_bytes(4)
    data = head + header + b"\xaa" * (size - len(header))
    held = most = 0
    came, waiting = pushed(path, [(data, False)] * 2_500 if size < 1_000_000 else [(data, False)] * 40)
    for units in came:
        held += len(data) - sum(map(len, units))
        most = max(most, held)
    assert most <= min(1_000 * len(data), 18_000_000)
    assert sum(map(len, waiting)) == held
    if header == b"\x74" and size < 1_000_000:
        assert came[:63] == [[]] * 63  # what precedes a picture: no camera sends as much
        assert came[63] == [data] * 64
        assert came[64:] == [[data]] * (2_500 - 64)


def test_pictures_that_come_after_all_are_put_together_again(tmp_path):
    path = write_video(tmp_path / "a.ts", 20, slices=2, size_px=SIZE_PX)
    with av.open(str(path)) as container:
        pictures = [units_of(bytes(packet)) for packet in container.demux(video=0) if packet.size]
    slices = [START + unit for unit in itertools.chain(*pictures) if unit[0] & 0x1F in {1, 5}]
    enhancement = START + b"\x74\xaa"
    came, waiting = pushed(path, [(data, False) for data in [enhancement] * 70 + slices])
    out = [*itertools.chain(*came), *waiting]
    assert out[:70] == [enhancement] * 70
    assert out[70] + out[71] == slices[0] + slices[1]  # parts are known by the first that goes on
    assert out[72:] == [first + second for first, second in zip(slices[2::2], slices[3::2], strict=True)]


def test_parameter_sets_that_come_again_count_once():
    sps, pps, other = b"\x67\x64\x01", b"\x68\xef", b"\x68\xee"
    assert parameter_sets_once(START + sps + START + pps) == START + sps + b"\0\0\1" + pps
    once = parameter_sets_once(START + sps + START + pps)
    assert parameter_sets_once(START + sps + START + pps + b"\0\0\1" + sps + START + pps) == once
    assert parameter_sets_once(START + sps + START + pps + START + other) != once
    assert parameter_sets_once(b"") == b""


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    paths = [
        write_video(folder / f"{codec}{suffix}", 3, codec=codec, slices=2, size_px=SIZE_PX)
        for codec, suffix in itertools.product(("libx264", "libx265"), (".ts", ".mp4"))
    ]
    containers = [av.open(str(path)) for path in paths]
    yield [container.streams.video[0] for container in containers]
    for container in containers:
        container.close()


_BYTES = st.lists(st.sampled_from([0, 0, 0, 1, 2, 5, 0x65, 0x41, 0x80, 0x42, 0xFF]) | st.integers(0, 255), min_size=1)


@given(which=st.integers(0, 3), packets=st.lists(st.tuples(_BYTES.map(bytes), st.booleans()), max_size=8))
def test_whatever_bytes_come_none_is_lost_and_their_order_stays(streams, which, packets):
    units, whole = AccessUnits(streams[which]), []
    for data, is_keyframe in packets:
        packet = av.Packet(data)
        packet.is_keyframe, packet.time_base = is_keyframe, Fraction(1, 25)
        whole += units.push(packet)
    whole += units.flush()
    assert b"".join(map(bytes, whole)) == b"".join(data for data, _ in packets)
